"""Counts the examples of a split that cannot be read, and words the refusal of a split with too many."""

from collections import Counter
from collections.abc import Iterable
import itertools
import re

from swin_jax.data.prepare import tiles
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import warn

# After the bound is exceeded, up to this many examples, or bad ones, are read to judge the whole split.
_MORE, _MORE_BAD = 1000, 20
_SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)  # proposed for --max_bad_fraction
_MOST = 0.5  # share of bad examples from which no bound is proposed


class Faults:
  """The examples of a split that cannot be read, out of those that were.

  Attributes:
    too_many: whether they are more than the user bears.
  """

  def __init__(self, split: str, total: int, max_bad_fraction: float, num_read: int, num_bad: int):
    """Counts examples on.

    Args:
      split: its name.
      total: number of examples of this part of the split.
      max_bad_fraction: share of them that may be bad.
      num_read, num_bad: examples that an earlier run read, and those of them that were bad.
    """
    self._split, self._total, self._bound = split, total, max_bad_fraction
    self._num_read, self._num_bad = num_read, num_bad
    self._kinds: Counter[str] = Counter()
    self._first: dict[str, str] = {}  # example of each kind

  @property
  def too_many(self) -> bool:
    return self._num_bad > self._bound * self._total

  def count(self, name: str, error: object) -> str:
    """Counts an example that was read; names it and returns what is wrong, "" if nothing is.

    Args:
      name: of the example.
      error: what is wrong; None or `tiles.NoData` if nothing is.
    """
    self._num_read += 1
    if error is None or isinstance(error, tiles.NoData):
      return ""
    what = f"{name}: {error}"
    warn(f"left out {what}")
    self._num_bad += 1
    self._kinds[kind := _kind(str(error))] += 1
    self._first.setdefault(kind, what)
    return what

  def refusal(self, rest: Iterable[tuple[str, object]]) -> BadInput:
    """Returns the error for too many, after it counted some of the others.

    Args:
      rest: (name, error) of the examples that were not read yet.
    """
    before = self._num_bad
    for name, error in itertools.islice(rest, _MORE):
      self.count(name, error)
      if self._num_bad - before >= _MORE_BAD:
        break
    bad, ((kind, _),) = self._num_bad, self._kinds.most_common(1)
    return BadInput(
      f"{bad:,} image{'s' * (bad > 1)} of split '{self._split}' cannot be read (named above), more than"
      f" --max_bad_fraction={self._bound} of {self._total:,}, such as {self._first[kind]}; {self._mend()}"
    )

  def _mend(self) -> str:
    """Returns what to do about the faults."""
    if max(self._kinds.values()) > _MOST * self._num_read:
      return f"most of the {self._num_read:,} that were looked at have this fault: mend its cause"
    share = self._num_bad / self._num_read
    if share > _MOST:
      return "repair or remove what cannot be read"
    enough = share if self._num_read >= self._total else min(2 * share, _MOST)
    value = next(each for each in _SHARES if each >= enough)
    return f"repair or remove what cannot be read, or leave it out by --max_bad_fraction={value}"


def _kind(error: str) -> str:
  """Returns the text of a fault without numbers and names of files."""
  return re.sub(r"\S*[\d/.]\S*", "", error)
