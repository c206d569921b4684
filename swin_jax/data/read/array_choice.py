"""Chooses the array of an .npz file that is read as a raster."""

import io

import numpy as np

from swin_jax.data.read import array_files
from swin_jax.terminal.printable import clean

_MOST_BANDS = 16  # of an array that is one raster without doubt, although classes may lie next to it


class Unclear(ValueError):
  """It is ambiguous which array of an .npz to read, or the named one does not exist."""


def choose(arrays, requested: str) -> tuple[str, tuple[int, ...]]:
  """Returns the name and shape of the array to read from an .npz; reads only headers."""
  shapes = {name: array_files.shape_of_member(arrays, name) for name in arrays.files}
  fitting = (
    [requested]
    if requested in shapes
    else [name for name, size in shapes.items() if not requested and len(size) in (3, 4)]
  )
  of_classes = [
    name
    for name, size in shapes.items()
    if any(size in (shapes[each][:1], (*shapes[each][:1], 1)) for each in fitting)
  ]
  folders = "; classes are not read from arrays, so save the images of each class in a folder"
  held = ", ".join(_shown(shapes)) or "nothing"
  if len(fitting) == 1:
    chosen, size = fitting[0], shapes[fitting[0]]
    has_coordinates = any(shapes[name] == size[1:2] for name in shapes)
    if not requested and of_classes and not has_coordinates and len(size) == 3 and size[-1] > _MOST_BANDS:
      raise Unclear(
        f"holds {held}: {chosen} may be {size[0]} images with a class each; save them as an array [{size[0]},"
        f" {size[1]}, {size[2]}, 1]{folders}; if it is one image of {size[2]} bands, give --array={chosen}"
      )
    return chosen, size
  raise Unclear(
    f"holds {held}; "
    + (
      f"there is no array '{requested}'"
      if requested
      else "choose one with --array=NAME" + (folders if of_classes else "")
    )
  )


def not_read(file: str | bytes, array: str = "") -> list[str]:
  """Returns the names and shapes of the arrays in an .npz that `choose` does not choose.

  Raises:
    OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile: the file cannot be read.
  """
  arrays = array_files.load(io.BytesIO(file) if isinstance(file, bytes) else file)
  if isinstance(arrays, np.ndarray):  # a file of one array under the name of an archive
    return []
  with arrays:
    chosen, _ = choose(arrays, array)
    others = {name: array_files.shape_of_member(arrays, name) for name in arrays.files if name != chosen}
  return _shown(others)


def _shown(shapes: dict[str, tuple[int, ...]]) -> list[str]:
  return [f"{clean(name)} {list(size)}" for name, size in shapes.items()]
