"""Ranges and choices of config keys, as a table: key → what its value must be."""

from collections.abc import Callable, Mapping
import functools
from typing import Any

from swin_jax.terminal.errors import BadInput

# value → what is wrong with it, the end of a sentence that begins with key and value; "" for nothing
Rule = Callable[[Any], str]


def one_of(*allowed: str | int) -> Rule:
  """Returns the rule of a choice."""
  return lambda value: "" if value in allowed else f": there are {', '.join(map(repr, allowed))}"


def at_least(low: float) -> Rule:
  """Returns the rule of a number without an upper limit."""
  words = f" must be at least {low}" if low else " must not be negative"
  return lambda value: "" if value >= low else words


def between(low: float, high: float) -> Rule:
  """Returns the rule of a closed range."""
  return lambda value: "" if low <= value <= high else f" must be between {low} and {high}"


def share(high: float = 1.0) -> Rule:
  """Returns the rule of a share, which is more than 0."""
  return lambda value: "" if 0 < value <= high else f" must be more than 0 and at most {high}"


def rising(high: float = float("inf")) -> Rule:
  """Returns the rule of a pair of positive numbers, the smaller first."""
  limit = f", at most {high}" if high < float("inf") else ""
  words = f" must be two numbers above 0, the smaller first{limit}"
  return lambda pair: "" if len(pair) == 2 and 0 < pair[0] <= pair[1] <= high else words


def check(config: Any, rules: Mapping[str, Rule]) -> None:
  """Checks the keys of a table ("group.key" → rule).

  Raises:
    BadInput: a value is outside its range; the message names key and value.
  """
  for key, rule in rules.items():
    value = functools.reduce(lambda group, name: group[name], key.split("."), config)
    if wrong := rule(value):
      raise BadInput(f"config.{key} = {value!r}{wrong}")
