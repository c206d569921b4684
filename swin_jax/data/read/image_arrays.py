"""Image files (PNG, JPEG, BMP, GIF, ...) as arrays that keep their numbers: scans to cut, and maps."""

from collections.abc import Iterator
import contextlib

import numpy as np
from PIL import Image

from swin_jax.data.read import formats, orientation, plain_files
from swin_jax.data.read.stored import Stored

# Bands of Pillow's modes, without transparency.
_BANDS = {"1": 1, "L": 1, "LA": 1, "La": 1, "I": 1, "F": 1, "I;16": 1, "I;16B": 1, "I;16L": 1, "I;16N": 1}
_BANDS |= {"P": 3, "PA": 3, "RGB": 3, "RGBA": 3, "RGBa": 3, "CMYK": 3, "YCbCr": 3, "LAB": 3, "HSV": 3}
_WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")


def shape(file: str | bytes, keep_alpha: bool = False) -> tuple[int, int, int]:
  """Returns (height, width, bands) of an upright image file from its header; see `read`.

  Raises:
    ValueError: the file cannot be read.
  """
  with _opened(file) as (image, turned):
    width, height = image.size
    bands = _BANDS.get(image.mode, len(image.getbands())) + (keep_alpha and image.mode in _WITH_ALPHA)
  return (width, height, bands) if turned > 4 else (height, width, bands)


def read(file: str | bytes, as_colours: bool = True, keep_alpha: bool = False) -> Stored:
  """Reads an upright image file.

  Args:
    file: path of the file, or its content.
    as_colours: convert palettes to colours; else the numbers are indices.
    keep_alpha: transparency is a band, not missing data.

  Raises:
    OSError: the storage failed.
    ValueError: the file cannot be read.
  """
  with _opened(file) as (image, turned):
    is_lossy, is_gif, palette, missing = image.format in ("JPEG", "MPO"), image.format == "GIF", None, None
    grey = image.info.get("transparency") if _BANDS.get(image.mode) == 1 and not is_gif else None
    if image.mode in ("P", "PA"):
      palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
      if as_colours or is_gif:  # the indices of a GIF are its encoder's choice
        image, palette = image.convert("RGB"), None
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV") or (image.mode == "1" and as_colours):
      image = image.convert("L" if image.mode == "1" else "RGB")
    numbers = np.asarray(image)
    numbers = numbers[..., None] if numbers.ndim == 2 else numbers
    if image.mode in _WITH_ALPHA and not keep_alpha:
      numbers, missing = numbers[..., :-1], numbers[..., -1:] == 0
    elif isinstance(grey, int):
      missing = numbers == grey
  missing = missing if missing is None else orientation.turn(missing, turned)
  return Stored(orientation.turn(numbers, turned), missing, None, palette, is_lossy)


@contextlib.contextmanager
def _opened(file: str | bytes) -> Iterator[tuple[Image.Image, int]]:
  """Yields an opened image and its orientation; errors inside the block become ValueError."""
  encoded = plain_files.read(file) if isinstance(file, str) else file
  try:
    with formats.open_image(encoded) as image:
      yield image, orientation.of(encoded)
  except Exception as error:  # Pillow raises whatever a format's parser raises
    raise ValueError(f"cannot be read as an image: {' '.join(str(error).split())}") from error
