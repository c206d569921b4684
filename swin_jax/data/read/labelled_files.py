"""Images with one map each, in a folder or an archive. A map holds a class or a number for each pixel.

`layouts.py` finds them. For images that are rasters see `tiles.py`.
"""

from collections.abc import Sequence
import itertools
import os
from typing import NamedTuple

import numpy as np

from swin_jax.data.read import image_files, labels, rasters, targets, trees
from swin_jax.data.read.example import Example
from swin_jax.data.read.targets import Target
from swin_jax.terminal.errors import BadInput

IMAGES = "images"
LABELS = (Target.LABELS.value, "annotations", "masks")
VALUES = Target.VALUES.value
OF_VALUES = tuple(
  dict.fromkeys((*itertools.filterfalse(rasters.opens_whole, rasters.EXTENSIONS), *image_files.EXTENSIONS))
)


class Split(NamedTuple):
  """The images of a split and their maps.

  Attributes:
    images, maps: their paths, in the same order.
    classes: meaning of label maps; None if the maps hold numbers.
    nodata: number that marks unknown pixels, in addition to the value that the maps declare.
  """

  images: Sequence[str]
  maps: Sequence[str]
  classes: labels.Classes | None
  nodata: float | None = None

  @property
  def targets(self) -> Target:
    """See `example.Source`."""
    return Target.LABELS if self.classes else Target.VALUES

  @property
  def class_names(self) -> tuple[str, ...]:
    """Names of the classes of pixels; empty if the maps hold numbers."""
    return self.classes.names if self.classes else ()

  @property
  def extensions(self) -> tuple[str, ...]:
    """File extensions that maps may have."""
    return image_files.EXTENSIONS if self.classes else OF_VALUES

  def read_map(self, tree: trees.Tree, path: str) -> np.ndarray:
    """Reads a map from a file of a tree.

    Raises:
      ValueError: the file cannot be read or holds a value that is not a label; the message names the file.
    """
    try:
      return (
        labels.read(tree.read(path), self.classes)
        if self.classes
        else targets.read_values(tree.read(path), path, None, self.nodata)
      )
    except ValueError as error:
      raise ValueError(f"{path} {error}") from error


class LabelledFiles:
  """The images of one split with their maps. See `example.Source`."""

  labels = ()

  def __init__(self, tree: trees.Tree, split: Split):
    self._tree, self._split, self.targets = tree, split, split.targets
    self.class_names, self.num_classes = split.class_names, len(split.class_names)

  def __len__(self) -> int:
    return len(self._split.images)

  def __getitem__(self, index: int) -> Example:
    image, target = self._split.images[index], self._split.maps[index]
    return Example(trees.read_named(self._tree, image), -1, image, self._split.read_map(self._tree, target))

  @property
  def files(self) -> list[str]:
    return list(self._split.images)

  @property
  def listing(self) -> bytes:
    """All paths and what their values mean, to tell one set from another."""
    meaning = self._split.classes.of_value.tobytes() if self._split.classes else b""
    return "\n".join(self._split.images).encode("utf-8", "surrogateescape") + meaning


def _class_files(tree: trees.Tree, folder: str) -> list[str]:
  return [name for name, is_folder in tree.entries(folder) if not is_folder and name in labels.FILES]


def classes_in(tree: trees.Tree, folder: str) -> labels.Classes | None:
  """Reads the classes from the class file of a folder; None if there is no class file.

  Raises:
    BadInput: the file is unusable.
  """
  if not (names := _class_files(tree, folder)):
    return None
  path = os.path.join(tree.name, folder, names[0])
  try:
    text = tree.read(folder + names[0]).decode("utf-8-sig", "replace")
  except (OSError, ValueError) as error:
    raise BadInput(f"{path} cannot be read: {error}") from error
  return labels.parse(names[0], text, path)
