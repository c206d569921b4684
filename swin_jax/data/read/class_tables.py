"""Tables that give the class of each image of a split without class folders, such as val_annotations.txt of
Tiny ImageNet: the first column holds the file name of an image, the second the name of its class.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from swin_jax.data.read import split_lists, tables, trees

_ENDINGS = (".txt", ".csv", ".tsv")


class Table(NamedTuple):
  """A table that names images.

  Attributes:
    path: of the table.
    count: number of the images that it names.
    classes: class of each image; empty if the table does not give every image one class.
  """

  path: str
  count: int
  classes: list[str]


def find(
  tree: trees.Tree, others: Sequence[str], images: Sequence[str], classes: Collection[str]
) -> Table | None:
  """Returns the table that gives images their classes, or else the one that names most of them; None if no
  table names any.

  Args:
    tree: the source.
    others: paths of the files that are not pictures.
    images: paths of images without a class.
    classes: names of all classes.
  """
  around = _around(images)
  lookup = split_lists.Lookup(images)
  candidates = []
  for path in others:
    if path.rpartition("/")[0] in around and path.lower().endswith(_ENDINGS):
      classes_of: dict[int, set[str]] = {}
      for name, label in _rows(tree, path):
        if (image := lookup(name)) is not None:
          classes_of.setdefault(image, set()).add(label)
      is_full = len(classes_of) == len(images) and all(
        len(given) == 1 and given <= set(classes) for given in classes_of.values()
      )
      by_image = [classes_of[i].pop() for i in range(len(images))] if is_full else []
      candidates.append(Table(path, len(classes_of), by_image))
  best = max(candidates, key=lambda table: (bool(table.classes), table.count), default=None)
  return best if best and best.count else None


def _around(images: Sequence[str]) -> set[str]:
  """Returns the folders that hold all images, at any depth; "" is the top folder."""
  parts = [path.split("/")[:-1] for path in (min(images), max(images))]
  shared = next((i for i, (a, b) in enumerate(zip(*parts, strict=False)) if a != b), min(map(len, parts)))
  return {"/".join(parts[0][:depth]) for depth in range(shared + 1)}


def _rows(tree: trees.Tree, path: str) -> Iterator[tuple[str, str]]:
  """Yields the first two cells of each row that has two; spaces may divide them too."""
  try:
    rows = tables.rows(tables.text_of(tree.read(path), "replace"))
  except (OSError, ValueError):
    return
  for row in rows:
    cells = row if len(row) > 1 else row[0].split()
    if len(cells) > 1:
      yield cells[0], cells[1]
