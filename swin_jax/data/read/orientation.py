"""EXIF orientation: how the pixels of an image file are turned to look upright.

The orientations are those of EXIF: 1 is upright, 2 to 4 keep the two sides, 5 to 8 exchange them.
"""

import contextlib

import numpy as np
from PIL import Image

from swin_jax.data.read import formats

UPRIGHT = 1
_TAG = 0x0112
_TURNS = {  # of [height, width, ...]
  2: lambda pixels: pixels[:, ::-1],
  3: lambda pixels: pixels[::-1, ::-1],
  4: lambda pixels: pixels[::-1],
  5: lambda pixels: pixels.swapaxes(0, 1),
  6: lambda pixels: pixels[::-1].swapaxes(0, 1),
  7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
  8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
_JPEG = b"\xff\xd8\xff"
_TIFF = (b"II*\0", b"MM\0*")  # Pillow turns their pixels itself
_HEAD = 2**16  # bytes in which the EXIF segment of a JPEG begins
# Parts of a file that may hold an orientation; most files have none, which is faster than parsing them.
_MARKS_OF_JPEG = (b"Exif\0\0", b"tiff:Orientation")
_MARKS = (*_MARKS_OF_JPEG, b"eXIf", b"EXIF", b"Raw profile type", b"irot", b"imir")


def of(encoded: bytes) -> int:
  """Returns the orientation of the pixels that Pillow decodes from an image file; 1 if the file declares
  none, or none that can be read.
  """
  start, marks = (encoded[:_HEAD], _MARKS_OF_JPEG) if encoded.startswith(_JPEG) else (encoded, _MARKS)
  if encoded.startswith(_TIFF) or not any(mark in start for mark in marks):
    return UPRIGHT
  try:
    with formats.open_image(encoded) as file:
      return of_opened(file)
  except Exception:  # Pillow raises whatever a parser of EXIF raises; the pixels may still be fine
    return UPRIGHT


def of_opened(image: Image.Image) -> int:
  """Returns the orientation of the pixels of Pillow's image; 1 as in `of`."""
  declared = image.getexif().get(_TAG, UPRIGHT)
  return declared if declared in _TURNS else UPRIGHT


def turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
  """Returns pixels [height, width, ...], stored with this orientation, upright."""
  return np.ascontiguousarray(_TURNS[orientation](pixels)) if orientation in _TURNS else pixels


def swaps_sides(orientation: int) -> bool:
  """Returns whether the upright height is the stored width."""
  return orientation > 4


def upright_size(encoded: bytes, opened: Image.Image | None = None) -> tuple[int, int]:
  """Returns the (height, width) of an image file when it is upright.

  Args:
    encoded: the content of the file.
    opened: the same, if it is open already.

  Raises:
    Exception: see `formats.open_image`.
  """
  with contextlib.nullcontext(opened) if opened else formats.open_image(encoded) as file:
    width, height = file.size
  return (width, height) if swaps_sides(of(encoded)) else (height, width)
