"""Text files that list the images of a split by name, such as ImageSets/Segmentation/train.txt of VOC."""

from collections.abc import Collection, Sequence
import re
from typing import NamedTuple

from swin_jax.data.read import names, tables, trees

_LIST = re.compile(rf"({'|'.join(names.SPLIT_OF)}|hold[_-]out|held[_-]?out)\.(txt|lst)", re.IGNORECASE)
_LONGEST = 2**26  # bytes of a list
_LEAST = 0.5  # share of the lines of a list that must name images


class Lists(NamedTuple):
  """The lists of a set.

  Attributes:
    splits: split → numbers of its images, in no order.
    files: paths of the lists that were read.
    twice: number of images in more than one of them.
  """

  splits: dict[str, list[int]]
  files: list[str]
  twice: int


def find(
  tree: trees.Tree, others: Sequence[str], images: Sequence[str], mapped: Collection[int]
) -> Lists | None:
  """Returns the splits that text files list; None if there are no such files.

  Lists of one split are joined, except those that repeat another, see `names.repeating`. Where several
  folders hold lists, those count whose images have maps, then those of most images.

  Args:
    tree: the source.
    others: paths of the files that are not pictures.
    images: paths of the images.
    mapped: numbers of the images that have a map; empty if none needs one.
  """
  by_folder: dict[str, dict[str, str]] = {}
  for path in others:
    folder, _, name = path.rpartition("/")
    if _LIST.fullmatch(name):
      by_folder.setdefault(folder, {})[path] = names.stem_of(name).lower()
  best, score = None, (0.0, 0)
  lookup = Lookup(images) if by_folder else None
  for paths in by_folder.values():
    splits: dict[str, list[int]] = {}
    files, again = [], names.repeating(paths.values())
    for path, name in paths.items():
      if name not in again and (numbers := _read(tree, path, lookup)):
        split = names.read(name).split
        splits[split] = sorted({*splits.get(split, ()), *numbers})
        files.append(path)
    listed = [i for split, numbers in splits.items() if split != "test" for i in numbers]
    known = sum(i in mapped for i in listed) / len(listed) if mapped and listed else 1.0
    if splits and (known, len(listed)) > score:
      unique = len(set().union(*splits.values()))
      best = Lists(splits, files, sum(map(len, splits.values())) - unique)
      score = known, len(listed)
  return best


class Lookup:
  """Finds images by the paths in a list, which may begin anywhere and lack endings."""

  def __init__(self, images: Sequence[str]):
    self._by_tail: dict[str, list[int]] = {}
    for i, path in enumerate(images):
      parts = names.stem_of(path).split("/")
      for count in range(1, min(len(parts), 2) + 1):
        self._by_tail.setdefault("/".join(parts[-count:]), []).append(i)
    self._endings = {names.ending_of(path) for path in images}

  def __call__(self, entry: str) -> int | None:
    stem = names.stem_of(entry) if names.ending_of(entry) in self._endings else entry
    parts = [part for part in stem.replace("\\", "/").split("/") if part not in ("", ".")]
    for count in (1, 2):
      numbers = self._by_tail.get("/".join(parts[-count:]), ())
      if len(parts) >= count and len(numbers) == 1:
        return numbers[0]
    return None


def _read(tree: trees.Tree, path: str, lookup: Lookup) -> list[int]:
  """Returns the numbers of the images that a file lists; none if most of its lines are something else."""
  try:
    content = tree.read(path)
  except (OSError, ValueError):
    return []
  lines = tables.text_of(content[:_LONGEST], "replace").splitlines()
  entries = [line.strip() for line in lines if line.strip()]
  numbers = [lookup(entry) for entry in entries]
  if None in numbers:  # more may follow the name
    first = (re.split(r"[\s,]", entry)[0] for entry in entries)
    numbers = [lookup(word) if i is None else i for i, word in zip(numbers, first, strict=True)]
  known = {i for i in numbers if i is not None}
  return sorted(known) if known and len(known) >= _LEAST * len(entries) else []
