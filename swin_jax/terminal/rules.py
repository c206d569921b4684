"""Rules for values: types, finite ranges, choices. A rule is a plain value, so tables of rules can be read,
compared and applied to configs, flags and JSON files alike.
"""

from collections.abc import Callable, Collection, Mapping
import dataclasses
import functools
import re
from typing import Any, ClassVar, Protocol

from swin_jax.terminal.errors import BadInput

_SHOWN = 120  # characters of a value in a message
_CONTROL = re.compile("[\0-\x1f]")


class Rule(Protocol):
  """What a value must be."""

  def problem(self, value: Any) -> str | None:
    """Returns what is wrong with a value, as the end of a sentence: "must be …"; None if it is valid."""


@dataclasses.dataclass(frozen=True)
class Real:
  """A finite number from `low` to `high`; an int is a number, a bool is not.

  Attributes:
    low, high: limits.
    above, below: whether the lower or the upper limit itself is excluded.
    or_zero: whether 0 is allowed although it lies outside the limits.
  """

  low: float
  high: float
  above: bool = False
  below: bool = False
  or_zero: bool = False
  _types: ClassVar[tuple[type, ...]] = (int, float)
  _noun: ClassVar[str] = "a number"

  def problem(self, value: Any) -> str | None:
    if isinstance(value, bool) or not isinstance(value, self._types):
      return f"must be {self._noun}"
    enough = self.low < value if self.above else self.low <= value
    if (enough and (value < self.high if self.below else value <= self.high)) or (
      self.or_zero and value == 0
    ):
      return None
    low, high = ("more than" if self.above else "at least"), ("less than" if self.below else "at most")
    return f"must be {'0, or ' * self.or_zero}{low} {_number(self.low)} and {high} {_number(self.high)}"


@dataclasses.dataclass(frozen=True)
class Whole(Real):
  """An int from `low` to `high`; a float with a whole value is not one."""

  _types: ClassVar[tuple[type, ...]] = (int,)
  _noun: ClassVar[str] = "an integer"


@dataclasses.dataclass(frozen=True, init=False)
class Choice:
  """One of some values, of the same type: True is not 1."""

  allowed: tuple[Any, ...]

  def __init__(self, *allowed: Any):
    object.__setattr__(self, "allowed", allowed)

  def problem(self, value: Any) -> str | None:
    if any(type(value) is type(each) and value == each for each in self.allowed):
      return None
    return f"choose one of {', '.join(map(repr, self.allowed))}"


FLAG = Choice(True, False)


@dataclasses.dataclass(frozen=True)
class Text:
  """A string without control characters, of at most `longest` characters."""

  longest: int = 4096

  def problem(self, value: Any) -> str | None:
    if not isinstance(value, str):
      return "must be text"
    if len(value) > self.longest or _CONTROL.search(value):
      return f"must be one line of at most {self.longest} characters"
    return None


@dataclasses.dataclass(frozen=True)
class Items:
  """A tuple, or a list as in JSON, of values that follow one rule.

  Attributes:
    each: rule of every entry.
    counts: allowed numbers of entries, in ascending order.
    rising: whether no entry may be smaller than the one before.
  """

  each: Rule
  counts: Collection[int]
  rising: bool = False

  def problem(self, value: Any) -> str | None:
    if not isinstance(value, (tuple, list)):
      return f"must be a tuple or list of {amount(self.counts, 'entry', 'entries')}"
    if len(value) not in self.counts:
      return f"must have {amount(self.counts, 'entry', 'entries')}, not {len(value)}"
    for index, entry in enumerate(value):
      if wrong := self.each.problem(entry):
        return f"entry {index} {wrong}"
    if self.rising and any(one > other for one, other in zip(value, value[1:], strict=False)):
      return "must be in ascending order"
    return None


@dataclasses.dataclass(frozen=True, init=False)
class Either:
  """A value that follows one of two rules."""

  rules: tuple[Rule, Rule]

  def __init__(self, *rules: Rule):
    object.__setattr__(self, "rules", rules)

  def problem(self, value: Any) -> str | None:
    problems = [rule.problem(value) for rule in self.rules]
    return None if None in problems else ", or ".join(problems)


@dataclasses.dataclass(frozen=True)
class Passes:
  """A value that a check accepts, which raises BadInput for the others."""

  check: Callable[[Any], Any]

  def problem(self, value: Any) -> str | None:
    try:
      self.check(value)
    except BadInput as error:
      return str(error)
    return None


def amount(counts: Collection[int], one: str, several: str = "") -> str:
  """Returns allowed numbers of things, in ascending order, in words: "1 to 8 entries".

  Args:
    counts: the numbers.
    one: the noun.
    several: its plural, if that is not the noun with an "s".
  """
  *others, last = counts
  if len(others) > 1 and last - others[0] == len(others):
    number = f"{others[0]} to {last}"
  else:
    number = " or ".join(filter(None, (", ".join(map(str, others)), str(last))))
  return f"{number} {one if last == 1 else several or one + 's'}"


def _number(value: float) -> str:
  return f"{value:,}" if isinstance(value, int) else f"{value:g}"


# Limits that configs, flags and models share.
SIDE = Whole(1, 65536)  # of an image in pixels, or of a window in tokens
MOST_PIXELS = 2**28  # of an image, or of all frames of a clip
BANDS = Whole(1, 4096)
MEAN, STD = Real(-1e15, 1e15), Real(1e-12, 1e15)  # of a band, or of values


def check(config: Any, rules: Mapping[str, Rule]) -> None:
  """Checks a config against a table of "group.key" → rule.

  Raises:
    BadInput: a key is missing, or its value violates its rule; the message names key and value.
  """
  for key, rule in rules.items():
    try:
      value = functools.reduce(lambda group, name: group[name], key.split("."), config)
    except Exception as error:  # ConfigDict has several, such as that of an empty placeholder
      raise BadInput(
        f"config.{key} is missing: a config starts with common.base() of configs/common.py, which has all"
        " keys"
      ) from error
    if wrong := rule.problem(value):
      raise BadInput(f"config.{key} = {shown(value)}: {wrong}")


def shown(value: Any) -> str:
  """Returns a value for a message, in one line, shortened if it is long."""
  text = " ".join(repr(value).split())
  return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
