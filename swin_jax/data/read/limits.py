"""Limits on what a file may claim, checked before memory is taken for it.

The number of pixels has a default and is raised for a whole process, by `prepare --max_pixels`. The others
follow from it.
"""

from collections.abc import Iterator
import contextlib

from PIL import Image

from swin_jax.terminal import rules

MAX_PIXELS = 178_956_970  # of one image, as in Pillow
# Numbers read at once, for each allowed pixel: four bands of the largest image.
NUMBERS = 4
# Bytes of a file that is read whole, for each allowed pixel: four bands of the widest type, not compressed.
_BYTES = 32

EMPTY = "the file is empty (0 bytes)"  # for messages

_pixels = MAX_PIXELS


def pixels() -> int:
  """Returns the largest allowed number of pixels of one image."""
  return _pixels


def numbers() -> int:
  """Returns how many numbers may be read at once: pixels times bands."""
  return NUMBERS * _pixels


@contextlib.contextmanager
def at_most(count: int) -> Iterator[None]:
  """Changes the allowed number of pixels in all threads while the block runs."""
  global _pixels
  before = _pixels, Image.MAX_IMAGE_PIXELS
  # Pillow's own limit cannot be chosen for one call, and `check_pixels` replaces it.
  _pixels, Image.MAX_IMAGE_PIXELS = count, None
  try:
    yield
  finally:
    _pixels, Image.MAX_IMAGE_PIXELS = before


def check_pixels(height: int, width: int) -> None:
  """Raises ValueError if an image of this size has too many pixels."""
  if height * width > _pixels:
    raise ValueError(
      f"has {height:,} × {width:,} pixels, more than {_pixels:,}; if you trust the file, raise --max_pixels"
      " of prepare"
    )


def check_bands(count: int) -> None:
  """Raises ValueError if a raster has more bands than a model can read."""
  if wrong := rules.BANDS.problem(count):
    raise ValueError(f"has {count:,} bands; their number {wrong}")


def check_numbers(count: int) -> None:
  """Raises ValueError if reading this many numbers at once would take too much memory."""
  if count > numbers():
    raise ValueError(
      f"would be read as {count:,} numbers at once, more than {numbers():,}; cut it with --tile, or raise"
      " --max_pixels of prepare"
    )


def check_bytes(count: int) -> None:
  """Raises ValueError if a file of this size is too large to be read whole as one image."""
  if count > _BYTES * _pixels:
    raise ValueError(f"has {count:,} bytes, more than the {_BYTES * _pixels:,} that an image file may have")
