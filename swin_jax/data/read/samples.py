"""Looks at the pixels of single pictures, to find out what the pictures of a set are."""

import os

from swin_jax.data.read import maps, rasters, trees
from swin_jax.data.read.stored import Stored

_SIDE = 2048  # of the part of a large picture that is looked at, in pixels


def read(tree: trees.Tree, path: str) -> Stored | None:
  """Returns the pixels of a picture, or of its middle if it is large; None if it cannot be read."""
  try:
    if isinstance(tree, trees.Disk) and not rasters.opens_whole(path):
      file = os.path.join(tree.name, path)
      sides = rasters.shape(file, path)[1:3]
      top, left = (max(side - _SIDE, 0) // 2 for side in sides)
      return maps.open_map(file, path, rasters.Window(top, left, *(min(side, _SIDE) for side in sides)))
    return maps.open_map(tree.read(path), path)
  except (OSError, ValueError):
    return None
