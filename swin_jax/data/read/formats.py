"""Opens image files of a fixed list of formats, by their content."""

import functools
import io
import logging
from typing import IO

from PIL import Image

from swin_jax.data.read import limits, plain_files

# Formats whose readers decode pixels and nothing else. Others start programs (EPS), or read other files. A
# plugin that is installed separately registers HEIF.
ALLOWED = ("JPEG", "PNG", "TIFF", "BMP", "PPM", "WEBP", "GIF", "JPEG2000", "AVIF", "HEIF")


@functools.cache
def _allowed() -> tuple[str, ...]:
  Image.init()
  logging.getLogger("PIL").setLevel(logging.CRITICAL)  # it raises what it logs, such as too many bands
  return tuple(name for name in ALLOWED if name in Image.OPEN)


def open_image(file: str | bytes | IO[bytes]) -> Image.Image:
  """Opens an image file and reads its header; a context manager, like Pillow's images.

  Raises:
    ValueError: the file is empty, has another format, too many pixels, or is not a plain file.
    Exception: the header is damaged; Pillow raises whatever a format's parser raises.
  """
  if file == b"" or (isinstance(file, str) and not plain_files.check(file)):
    raise ValueError(limits.EMPTY)
  if isinstance(file, bytes):
    file = io.BytesIO(file)
  try:
    image = Image.open(file, formats=_allowed())
  except Image.UnidentifiedImageError:  # its text is only the address of a buffer
    raise ValueError(f"it has none of the formats {', '.join(_allowed())}") from None
  try:
    limits.check_pixels(image.height, image.width)
  except ValueError:
    image.close()
    raise
  return image
