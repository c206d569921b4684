"""Trees that exist only in memory, for tests of layouts."""

from collections.abc import Iterable, Mapping
import itertools

import pytest

from swin_jax.data.read import layouts, roles, trees
from swin_jax.terminal.errors import BadInput

CLASSES = {"classes.txt": "sky\nroad\ncar\n"}


class MemoryTree:
  """A tree of files; see `trees.Tree`. All files are empty, except those whose text is given."""

  name = "set"

  def __init__(self, paths: Iterable[str], texts: Mapping[str, str] | None = None):
    self.left_out: list[str] = []
    self._texts = dict(texts or {})
    self._folders: dict[str, dict[str, bool]] = {"": {}}
    for path in (*paths, *self._texts):
      *folders, name = path.split("/")
      parent = ""
      for folder in folders:
        self._folders[parent][folder] = True
        parent += folder + "/"
        self._folders.setdefault(parent, {})
      if name:
        self._folders[parent][name] = False

  def entries(self, folder: str) -> list[tuple[str, bool]]:
    return sorted(self._folders[folder].items())

  def read(self, path: str) -> bytes:
    return self._texts.get(path, "").encode()


def paths(pattern: str, count: int = 4, **values: Iterable[str]) -> list[str]:
  """Returns the pattern with every combination of values, and with {i} from 0 to count - 1."""
  combinations = itertools.product(*values.values())
  return [
    pattern.format(i=i, **dict(zip(values, combination, strict=True)))
    for combination in combinations
    for i in range(count)
  ]


def understand(files, texts=None, flags=roles.NOTHING, **rasters):
  """Returns the layout; every file is used, counted by its ending or passed over for a reason, or junk of an
  operating system.
  """
  tree = MemoryTree(files, texts)
  asked = rasters.get("cut", False)
  how = layouts.RasterFiles(asked, asked, lambda path: True, lambda path: (8, 8, 1)) if rasters else None
  layout = layouts.understand(tree, flags, how)
  used = {path for part in layout.splits.values() for path in (*part.images, *part.maps)}
  assert used <= set(files)
  left = (
    len(trees.list_all(tree).files)
    - len(used)
    - layout.passed_over
    - sum((*layout.unread.values(), *layout.excluded.values()))
  )
  assert 0 <= left <= len(texts or {})
  return layout


def refusal(files, texts=None, flags=roles.NOTHING, **rasters):
  with pytest.raises(BadInput) as error:
    understand(files, texts, flags, **rasters)
  assert "\n" not in str(error.value)
  return str(error.value)


def counts(layout):
  return {split: len(part.images) for split, part in layout.splits.items()}


def pairs(layout):
  return {
    image: target
    for part in layout.splits.values()
    for image, target in zip(part.images, part.maps, strict=True)
  }
