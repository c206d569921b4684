"""Image files in a folder or an archive, with a class each or none."""

from array import array
import os

import numpy as np

from swin_jax.data.read.example import Example
from swin_jax.data.read.formats import HAS_HEIF
from swin_jax.data.read.parts import Part
from swin_jax.data.read.targets import Target
from swin_jax.data.read.trees import Tree, read_named

EXTENSIONS = (
  *(".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".avif"),
  *(".jp2", *((".heic", ".heif") if HAS_HEIF else ())),
)


class ImageFiles:
  """The images of one split. See `example.Source`.

  All paths are stored in one bytes object: about 50 bytes per image, and quick to pickle.
  """

  targets = Target.NOTHING

  def __init__(self, tree: Tree, part: Part):
    self.tree, self._folder = tree, part.root
    self.class_names, self.num_classes = part.class_names, len(part.class_names)
    paths, offsets = bytearray(), array("q", [0])
    for path in part.images:
      paths += os.fsencode(path.removeprefix(part.root))
      offsets.append(len(paths))
    self._paths, self._offsets = bytes(paths), np.asarray(offsets)
    self.labels = np.asarray(part.labels, np.int32)

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> Example:
    path = self.path(index)
    name = os.fsencode(path).decode("utf-8", "replace")
    return Example(read_named(self.tree, path), int(self.labels[index]), name)

  def path(self, index: int) -> str:
    """Returns the path of an image in its tree."""
    return self._folder + os.fsdecode(self._paths[self._offsets[index] : self._offsets[index + 1]])

  @property
  def files(self) -> list[str]:
    return [self.path(index) for index in range(len(self))]

  @property
  def listing(self) -> bytes:
    """All paths, to tell one set from another."""
    return self._paths
