"""Finds keys that a config does not have, and the keys that were probably meant."""

from collections.abc import Iterator, Sequence
import difflib
import re
from typing import Any

from swin_jax.terminal.errors import BadInput

_NEAR = 0.75  # nearness of keys that may have been confused


def check(given: Sequence[str], config: Any) -> None:
  """Raises BadInput, with the nearest key, if a config does not have all of these."""
  known = list(_flat(config))
  for key in given:
    key = key.partition("[")[0]
    if key in known:
      continue
    near = max(known, key=lambda other: _nearness(key, other))
    advice = (
      f"did you mean config.{near}?" if _nearness(key, near) > _NEAR else "--help_config lists all keys"
    )
    raise BadInput(f"there is no config key config.{key}; {advice}")


def values(config: Any) -> dict[str, Any]:
  """Returns the value of every key of a config, by its name with the names of its groups."""
  return {name: config[name] for name in _flat(config) if not hasattr(config[name], "keys")}


def _flat(config: Any, prefix: str = "") -> Iterator[str]:
  """Yields the names of all groups and keys of a config."""
  for name, value in config.items(preserve_field_references=True):  # a reference may hold no value
    yield prefix + name
    if hasattr(value, "keys"):
      yield from _flat(value, f"{prefix}{name}.")


def _nearness(key: str, other: str) -> float:
  """Returns how alike two keys are, up to 1, by the letters and the words of their names, in any group."""
  names = [each.rpartition(".")[2] for each in (key, other)]
  whole, name = (difflib.SequenceMatcher(None, *pair).ratio() for pair in ((key, other), names))
  holds_words = set(names[0].split("_")) <= set(re.split("[._]", other))
  return max(whole, 0.95 * name, 0.9 + 0.05 * whole if holds_words else 0)
