"""Opens image files of a fixed list of formats, by their content."""

import functools
import importlib.util
import io
from typing import IO

from PIL import Image

from swin_jax.data.read import limits, plain_files

# Formats whose readers decode pixels and nothing else. Others start programs (EPS), or read other files. HEIF
# is read only where the package pillow-heif is installed.
ALLOWED = ("JPEG", "PNG", "TIFF", "BMP", "PPM", "WEBP", "GIF", "JPEG2000", "AVIF", "HEIF")

HAS_HEIF = importlib.util.find_spec("pillow_heif") is not None
# How files of these formats begin, after the given number of bytes.
_STARTS = (
  *((0, start) for start in (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"BM", b"P5", b"P6")),
  *((0, start) for start in (b"II*\0", b"MM\0*", b"\xff\x4f\xff\x51")),
  *((4, start) for start in (b"jP  ", b"ftypavif", b"ftyphei")),
  (8, b"WEBP"),
)


def is_image(encoded: bytes) -> bool:
  """Returns whether a file whose name does not tell its format is an image that can be opened."""
  if not any(encoded.startswith(start, at) for at, start in _STARTS):
    return False
  try:
    open_image(encoded).close()
  except Exception:  # Pillow raises whatever a format's parser raises
    return False
  return True


@functools.cache
def _allowed() -> tuple[str, ...]:
  Image.init()
  if HAS_HEIF:
    import pillow_heif

    pillow_heif.register_heif_opener()
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
