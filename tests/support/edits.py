"""Edits of a JSON document: every value in turn is deleted, or replaced by one of another type or size."""

from collections.abc import Iterator
import copy
from typing import Any

DELETED = "deleted"
VALUES = (
  None,
  True,
  "x",
  "",
  0,
  -1,
  2,
  0.5,
  10**12,
  10**400,
  -1e300,
  [],
  {},
  [[]],
  [None],
  [0, 0],
  [-1, -1],
  [10**9] * 2,
  [1] * 9,
  {"a": {}},
)


def edited(document: dict[str, Any], left_out: tuple[str, ...] = ()) -> Iterator[tuple[tuple, Any, Any]]:
  """Yields (path of the value, new value or `DELETED`, the document with it), also of the whole document."""
  for value in VALUES:
    yield (), value, value
  for path in _paths(document):
    if path[0] in left_out:
      continue
    for value in (DELETED, *VALUES):
      changed = copy.deepcopy(document)
      parent = changed
      for key in path[:-1]:
        parent = parent[key]
      if value == DELETED:
        del parent[path[-1]]
      else:
        parent[path[-1]] = copy.deepcopy(value)
      yield path, value, changed


def _paths(value: Any) -> Iterator[tuple]:
  """Yields the path of every value; of lists only the first and the last entry."""
  if isinstance(value, dict):
    entries = list(value.items())
  else:
    entries = (
      [(i, value[i]) for i in sorted({0, len(value) - 1})] if isinstance(value, list) and value else []
    )
  for key, entry in entries:
    yield (key,)
    yield from ((key, *rest) for rest in _paths(entry))
