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
# Formats that change numbers. AVIF and HEIF do so even at their best quality: they convert colours.
_LOSSY = {"JPEG": "JPEG", "MPO": "JPEG", "AVIF": "lossy AVIF", "HEIF": "lossy HEIF"}
_SCALES = {"L;2": 85, "L;4": 17}  # by which Pillow multiplies greys of 2 and 4 bits, but not a declared one
_LOSSY_TIFF = ("jpeg", "tiff_jpeg", "webp")  # Pillow's names of compressions


def shape(file: str | bytes, keep_alpha: bool = False) -> tuple[int, int, int]:
  """Returns (height, width, bands) of an upright image file from its header; see `read`.

  Raises:
    ValueError: the file cannot be read.
  """
  with _opened(file) as (image, turned):
    width, height = image.size
    has_alpha = image.mode in _WITH_ALPHA or "transparency" in image.info
    bands = _BANDS.get(image.mode, len(image.getbands())) + (keep_alpha and has_alpha)
  return (width, height, bands) if turned > 4 else (height, width, bands)


def read(file: str | bytes, as_colours: bool = True, keep_alpha: bool = False) -> Stored:
  """Reads an upright image file.

  Args:
    file: path of the file, or its content.
    as_colours: for an image: palettes become colours, and transparent colours hold no data. Else for a map:
      the numbers are indices, and a palette's or an RGB file's transparent colours are classes like others.
    keep_alpha: transparency is a band, not missing data.

  Raises:
    OSError: the storage failed.
    ValueError: the file cannot be read.
  """
  with _opened(file) as (image, turned):
    lossy, is_gif, palette, missing = _lossy(image), image.format == "GIF", None, None
    alpha = _declared_alpha(image) if as_colours or not is_gif else None
    ignored = not as_colours and alpha is not None and _BANDS[image.mode] == 3
    if image.mode in ("P", "PA"):
      palette = np.asarray(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
      if as_colours or is_gif:  # the indices of a GIF are its encoder's choice
        image, palette = image.convert("RGBA" if image.mode == "PA" and as_colours else "RGB"), None
    elif image.mode in ("CMYK", "YCbCr", "LAB", "HSV") or (image.mode == "1" and as_colours):
      image = image.convert("L" if image.mode == "1" else "RGB")
    numbers = np.asarray(image)
    numbers = numbers[..., None] if numbers.ndim == 2 else numbers
    if alpha is not None and not ignored:
      numbers = np.concatenate([numbers, alpha], axis=-1, dtype=numbers.dtype, casting="unsafe")
    if (image.mode in _WITH_ALPHA or (alpha is not None and not ignored)) and not keep_alpha:
      numbers, missing = numbers[..., :-1], numbers[..., -1:] == 0
  missing = missing if missing is None else orientation.turn(missing, turned)
  is_ignored = ignored and not alpha.all()
  return Stored(orientation.turn(numbers, turned), missing, None, palette, lossy, is_ignored)


def opacity(image: Image.Image) -> int | None:
  """Returns the lowest alpha of the pixels of an opened image file that is not decoded yet; None if it
  declares no transparency.
  """
  if image.mode in _WITH_ALPHA:
    return int(image.getchannel(len(image.getbands()) - 1).getextrema()[0])
  alpha = _declared_alpha(image)
  return None if alpha is None else int(alpha.min())


def _declared_alpha(image: Image.Image) -> np.ndarray | None:
  """Returns the alpha, [height, width, 1], of an image without such a channel that declares a colour, or
  entries of its palette, as transparent; None if it declares none.

  Colours of 16 bits are compared by their high bytes, which are all that Pillow reads of them.
  """
  declared = image.info.get("transparency")
  if declared is None or image.mode in _WITH_ALPHA:
    return None
  stored = image.tile[0].args if image.tile else ""  # before the pixels are decoded
  numbers = np.asarray(image.convert("L") if image.mode == "1" else image)
  if image.mode == "P":
    of_entry = np.full(256, 255, np.uint8)
    if isinstance(declared, bytes):
      of_entry[: len(declared)] = np.frombuffer(declared, np.uint8)
    else:
      of_entry[declared] = 0
    return of_entry[numbers][..., None]
  declared = np.asarray(declared) * _SCALES.get(stored, 1) // (256 if stored == "RGB;16B" else 1)
  transparent = (numbers.reshape(*numbers.shape[:2], -1) == declared).all(-1, keepdims=True)
  opaque = 255 if numbers.dtype == np.uint8 else 65535
  return np.where(transparent, 0, opaque)


def _lossy(image: Image.Image) -> str:
  """Returns the name of the format if the file's compression changes numbers; "" if it does not."""
  if image.format == "WEBP":
    image.fp.seek(0)
    return "lossy WebP" if _has_lossy_chunk(image.fp.read()) else ""
  if image.format == "TIFF":
    return "lossy TIFF" if image.info.get("compression") in _LOSSY_TIFF else ""
  if image.format == "JPEG2000":
    image.fp.seek(0)
    return "lossy JPEG 2000" if _has_real_wavelet(image.fp.read()) else ""
  return _LOSSY.get(image.format, "")


def _has_real_wavelet(encoded: bytes) -> bool:
  """Returns whether a JPEG 2000 file uses the wavelet of real numbers, which is lossy: its marker COD, which
  follows the sizes of the image, says so. Pillow does not tell.
  """
  sizes = encoded.find(b"\xff\x4f\xff\x51")
  style = encoded.find(b"\xff\x52", sizes) + 13
  return 0 <= sizes < style < len(encoded) and encoded[style] == 0


def _has_lossy_chunk(encoded: bytes) -> bool:
  """Returns whether the first frame of a WebP file is compressed with loss: it is in a chunk "VP8 ", and not
  in "VP8L". Pillow does not tell.
  """
  start = 12
  while start + 8 <= len(encoded):
    name, size = encoded[start : start + 4], int.from_bytes(encoded[start + 4 : start + 8], "little")
    if name in (b"VP8 ", b"VP8L"):
      return name == b"VP8 "
    start += 8 + (16 if name == b"ANMF" else size + size % 2)  # a frame holds chunks of its own
  return False


@contextlib.contextmanager
def _opened(file: str | bytes) -> Iterator[tuple[Image.Image, int]]:
  """Yields an opened image and its orientation; errors inside the block become ValueError."""
  encoded = plain_files.read(file) if isinstance(file, str) else file
  try:
    with formats.open_image(encoded) as image:
      yield image, orientation.of(encoded)
  except Exception as error:  # Pillow raises whatever a format's parser raises
    raise ValueError(f"cannot be read as an image: {' '.join(str(error).split())}") from error
