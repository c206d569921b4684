"""Matches the classes of two sets, or of a set and a model, by name."""

from collections import Counter
from collections.abc import Sequence

ABSENT = -1


def match(names: Sequence[str], among: Sequence[str]) -> tuple[int, ...]:
  """Returns for each name its place among other names; `ABSENT` for none.

  Of a name that occurs several times, as in some lists of ImageNet, the k-th matches the k-th.
  """
  places = dict(zip(_distinct(among), range(len(among)), strict=True))
  return tuple(places.get(name, ABSENT) for name in _distinct(names))


def _distinct(names: Sequence[str]) -> list[tuple[str, int]]:
  count: Counter[str] = Counter()
  distinct = []
  for name in names:
    distinct.append((name, count[name]))
    count[name] += 1
  return distinct
