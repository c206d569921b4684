"""Two folders whose files have the same names: classes of images, or images and their maps.

Names alone do not tell, so some pairs of files are looked at. Folders hold the same kind of pictures if they
are classes; maps have few values, and their images have many.
"""

from collections.abc import Mapping, Sequence
import enum
import re
from typing import NamedTuple

import numpy as np

from swin_jax.data.read import names, samples, suspicions, trees
from swin_jax.data.read.roles import Picture
from swin_jax.data.read.stored import Stored
from swin_jax.terminal.printable import printable, quoted

_COUNTER = re.compile(r"\D*\d+|\D")
_PAIRS = 8  # that are looked at
_FEW = 16  # values, so that each has many pixels even in a small map
_FEW_OF_LARGE_AREAS = 64  # values, if most pixels are equal to their neighbour
_EQUAL = 0.75  # share of such pixels


class _Kind(enum.Enum):
  """What a picture looks like."""

  MAP = enum.auto()
  GREY = enum.auto()
  COLOURS = enum.auto()


class _Contrast(NamedTuple):
  """What tells the pictures of two folders apart.

  Attributes:
    of_kinds: whether they look different: grey and coloured, or like maps and like images.
    map_side: number of the folder that looks like the maps of the other, with few values and the same sizes;
      None if there is none.
  """

  of_kinds: bool
  map_side: int | None


def check(
  tree: trees.Tree, by_class: Mapping[str, Sequence[Picture]], class_file: tuple[str, str] | None
) -> list[str]:
  """Returns a line if two folders that are taken for classes may be images and their maps.

  Args:
    tree: the source.
    by_class: name of a folder → its images.
    class_file: as in `suspicions.check_classes`.

  Raises:
    BadInput: one of two folders looks like the maps of the other.
  """
  if len(by_class) != 2:
    return []
  folders, (one, two) = list(by_class), by_class.values()
  for images, maps, pictures in ((*folders, (one, two)), (*reversed(folders), (two, one))):
    if _adds_one_suffix(*pictures):
      suspicions.refuse_maps(tree.name, [images], maps, class_file)
  if not suspicions.same_stems(one, two):
    return []
  are_counted = bool(_endings(one) & _endings(two)) and all(_COUNTER.fullmatch(each.stem) for each in one)
  contrast = _contrast(tree, one, two)
  images, maps = reversed(folders) if contrast and contrast.map_side == 0 else folders
  differ = contrast is None or contrast.of_kinds  # of what cannot be read, names alone decide
  if (differ and not are_counted) or (contrast and contrast.map_side is not None):
    suspicions.refuse_maps(tree.name, [images], maps, class_file)
  if are_counted and not (contrast and differ):
    return []
  return [
    f"the classes are the folders {printable(images)} and {printable(maps)}, whose files have the same names;"
    f" if one holds maps of the other, give --images={quoted(images)} --labels={quoted(maps)}"
    + ("" if class_file else suspicions.NAMES)
  ]


def _contrast(tree: trees.Tree, one: Sequence[Picture], two: Sequence[Picture]) -> _Contrast | None:
  """Compares pictures of the same name in two folders; None if none of them can be read."""
  by_name = {(each.split, names.shorten(each.stem)): each.path for each in two}
  pairs = [(each.path, by_name.get((each.split, names.shorten(each.stem)))) for each in one]
  pairs = [pair for pair in pairs if pair[1] is not None]
  some = np.linspace(0, len(pairs) - 1, min(len(pairs), _PAIRS)).astype(int).tolist()
  stored = [[samples.read(tree, path) for path in pairs[i]] for i in some]
  stored = [pair for pair in stored if None not in pair]
  if not stored:
    return None
  kinds = [[_kind(each) for each in pair] for pair in stored]
  differ = 2 * sum(first is not second for first, second in kinds) > len(kinds)
  fit = all(first.numbers.shape[:2] == second.numbers.shape[:2] for first, second in stored)
  of_maps = [sum(pair[side] is _Kind.MAP is not pair[1 - side] for pair in kinds) for side in (0, 1)]
  sides = [side for side in (0, 1) if fit and 2 * of_maps[side] > len(kinds)]
  return _Contrast(differ, sides[0] if sides else None)


def _kind(stored: Stored) -> _Kind:
  colours = stored.numbers if stored.palette is None else stored.colours
  count, pixels = len(np.unique(colours.reshape(-1, colours.shape[-1]), axis=0)), colours[..., 0].size
  equal = (colours[:, 1:] == colours[:, :-1]).all(-1)
  large_areas = count <= _FEW_OF_LARGE_AREAS and equal.size and equal.mean() >= _EQUAL
  # a picture of one value may be either
  if not stored.is_lossy and count > 1 and (large_areas or count <= min(_FEW, pixels // 16)):
    return _Kind.MAP
  is_grey = bool((colours == colours[..., :1]).all())
  return _Kind.GREY if is_grey else _Kind.COLOURS


def _adds_one_suffix(images: Sequence[Picture], maps: Sequence[Picture]) -> bool:
  """Returns whether the names of one folder are those of the other with the same suffix, as in x and x_gt."""
  stems, longer = ({each.stem for each in pictures} for pictures in (images, maps))
  some = min(longer)
  suffixes = {some[len(stem) :] for stem in stems if some.startswith(stem)}
  return len(stems) > 1 and any(
    not suffix.isdigit() and longer == {stem + suffix for stem in stems} for suffix in suffixes if suffix
  )


def _endings(pictures: Sequence[Picture]) -> set[str]:
  return {names.ending_of(each.path) for each in pictures}
