"""Rules for the values of config keys: allowed ranges and choices."""

from collections.abc import Callable, Mapping
import functools
from typing import Any

from swin_jax.terminal.errors import BadInput

# value → what is wrong with it, as the end of a sentence that starts with key and value; "" if it is valid
Rule = Callable[[Any], str]


def one_of(*allowed: str | int) -> Rule:
  """Returns the rule that a value is one of `allowed`."""
  return lambda value: "" if value in allowed else f": choose one of {', '.join(map(repr, allowed))}"


def at_least(low: float) -> Rule:
  """Returns the rule that a number is at least `low`."""
  words = f" must be at least {low}" if low else " must not be negative"
  return lambda value: "" if value >= low else words


def between(low: float, high: float) -> Rule:
  """Returns the rule that a number is in the closed range [low, high]."""
  return lambda value: "" if low <= value <= high else f" must be between {low} and {high}"


def share(high: float = 1.0) -> Rule:
  """Returns the rule that a number is in the range (0, high]."""
  return lambda value: "" if 0 < value <= high else f" must be more than 0 and at most {high}"


def rising(high: float = float("inf")) -> Rule:
  """Returns the rule of a pair of positive numbers in ascending order, at most `high`."""
  limit = f", at most {high}" if high < float("inf") else ""
  words = f" must be two numbers above 0, the smaller one first{limit}"
  return lambda pair: "" if len(pair) == 2 and 0 < pair[0] <= pair[1] <= high else words


def check(config: Any, rules: Mapping[str, Rule]) -> None:
  """Checks a config against a table of "group.key" → rule.

  Raises:
    BadInput: a value violates its rule; the message names key and value.
  """
  for key, rule in rules.items():
    value = functools.reduce(lambda group, name: group[name], key.split("."), config)
    if wrong := rule(value):
      raise BadInput(f"config.{key} = {value!r}{wrong}")
