"""Decoding and resizing of one image on the host. Images are uint8 or float32 [height, width, bands].

Decoding matches Pillow bit for bit. Resizing uses Pillow's antialiasing filters, as the official recipes do.
Faster libraries do both where they can; experiments/benchmark measures the gain.
"""

import math

import numpy as np
from PIL import Image
import simplejpeg

from swin_jax.data.read import formats, limits, orientation

try:
  import cykooz_resizer as resizer
except ImportError:  # it has no wheel for Linux on ARM
  resizer = None

# Pillow's modes of at most 8 bits per band; a JPEG cannot store the others
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Pillow's bicubic filter, a = -0.5, is also called Catmull-Rom
_FILTERS = {"bilinear": "bilinear", "bicubic": "catmull_rom"}


def decode(encoded: bytes | np.ndarray, bands: int) -> np.ndarray:
  """Decodes an image file, or accepts an array, to uint8 [height, width, bands].

  Converts grey to RGB and RGB to grey to match `bands`. As in the official loaders, files go through Pillow's
  `convert`: palettes and CMYK become colours, and transparency is dropped (the colours under it stay).
  Unlike there, EXIF orientation is applied. 16-bit grey keeps its upper eight bits, as Pillow does for 16-bit
  colour. If `bands` is neither 1 nor 3, the file must have exactly that number of bands.

  Args:
    encoded: bytes of an image file, or uint8 [height, width(, bands)].
    bands: number of bands to return.

  Raises:
    ValueError: the file is not an image, is truncated or holds more than 16 bits, or the number of bands
      or the type does not fit.
  """
  image = encoded
  if isinstance(encoded, bytes):
    image = orientation.turn(_read(encoded, bands), orientation.of(encoded))
  if image.dtype != np.uint8 or image.ndim not in (2, 3) or not image.size:
    raise ValueError(f"is {image.dtype} {list(image.shape)}, not uint8 [height, width, bands]")
  image = image[:, :, None] if image.ndim == 2 else image
  if image.shape[-1] == 1 and bands == 3:
    image = np.repeat(image, 3, axis=-1)
  elif image.shape[-1] == 3 and bands == 1:
    image = np.asarray(Image.fromarray(image).convert("L"))[:, :, None]
  if image.shape[-1] != bands:
    raise ValueError(f"has {count_bands(image.shape[-1])}, not {bands}")
  return image


def count_bands(count: int) -> str:
  """Returns "1 band", "3 bands", …"""
  return f"{count} band{'s' * (count != 1)}"


def _read(encoded: bytes, bands: int) -> np.ndarray:
  if bands in (1, 3) and encoded.startswith(b"\xff\xd8\xff"):
    try:
      height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
      largest = min(limits.pixels(), Image.MAX_IMAGE_PIXELS or math.inf)
      # Pillow decodes CMYK, which simplejpeg converts differently, and warns of suspiciously large images.
      if colours in ("RGB", "YCbCr", "Gray") and height * width <= largest:
        return simplejpeg.decode_jpeg(encoded, "GRAY" if bands == 1 and colours == "Gray" else "RGB")
    except ValueError:  # damaged: Pillow recovers what it can or gives the reason
      pass
  try:
    with formats.open_image(encoded) as file:
      return of_pillow(file, bands)
  except Exception as error:  # Pillow's readers raise whatever their format's parser raises
    raise ValueError(f"cannot be read as an image: {error}") from error


def of_pillow(image: Image.Image, bands: int) -> np.ndarray:
  """Converts Pillow's image to uint8 [height, width] or [height, width, bands], as `decode` does; not turned.

  Raises:
    ValueError: it holds more than 16 bits.
  """
  if image.mode.startswith("I"):  # `convert` would clip values above 255 to white
    wide = np.asarray(image)
    if wide.min() < 0 or wide.max() > 65535:
      raise ValueError("holds more than 16 bits")
    return (wide >> 8).astype(np.uint8)
  if image.mode == "F":
    raise ValueError("holds floating-point numbers, whose range is unknown")
  return np.asarray(image.convert("L" if bands == 1 else "RGB") if bands in (1, 3) else image)


def valid_bands(image: np.ndarray) -> np.ndarray | None:
  """Returns where an image [height, width, bands] holds data, as bool of the same shape.

  Returns None if its type has data everywhere: NaN means no data in float32, and uint8 cannot express it.
  """
  return ~np.isnan(image) if image.dtype.kind == "f" else None


def valid_pixels(image: np.ndarray) -> np.ndarray | None:
  """Returns which pixels hold data in any band, bool [height, width]; None as in `valid_bands`."""
  valid = valid_bands(image)
  return valid if valid is None else valid.any(axis=-1)


def resize(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
  """Resizes uint8 or float32 [h, w, bands] to `size` (height, width) in pixels; bands do not mix.

  NaN pixels, which hold no data, have weight 0; an output pixel with less than half of its weight on data is
  NaN.

  The result is Pillow's. For uint8 it agrees to within rounding, because columns are resized before rows. It
  is identical on all processors of one architecture, and differs by as little on Linux on ARM.
  """
  if image.dtype == np.uint8 and resizer:
    parts = [_resize_bytes(image[..., i : i + 4], size, interpolation) for i in range(0, image.shape[-1], 4)]
    return np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
  method = INTERPOLATIONS[interpolation]
  if image.dtype == np.uint8 and image.shape[-1] == 3:
    return np.asarray(Image.fromarray(image).resize(size[::-1], method))
  return np.stack([_resize_band(image[:, :, i], size, method) for i in range(image.shape[-1])], axis=-1)


def _resize_band(band: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
  """Resizes one band with Pillow; see `resize`."""
  if band.dtype == np.uint8 or not (missing := np.isnan(band)).any():
    return np.asarray(Image.fromarray(band).resize(size[::-1], method))
  filled, weight = (
    np.asarray(Image.fromarray(x).resize(size[::-1], method))
    for x in (np.where(missing, 0, band), np.float32(~missing))
  )
  return np.where(weight >= 0.5, filled / np.maximum(weight, 0.5), np.float32(np.nan))


def _resize_bytes(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
  """Resizes up to four bands of uint8; see `resize`."""
  height, width, bands = image.shape
  kind = getattr(resizer.PixelType, "U8" if bands == 1 else f"U8x{bands}")
  method = resizer.ResizeAlg.convolution(resizer.FilterType[_FILTERS[interpolation]])
  resized = resizer.ImageData(size[1], size[0], kind)
  # the last of two or four bands is not an alpha channel
  options = resizer.ResizeOptions(method, use_alpha=False)
  # a new Resizer each time, because one cannot be shared by threads
  resizer.Resizer().resize(resizer.ImageData(width, height, kind, image.tobytes()), resized, options)
  return np.frombuffer(resized.get_buffer(), np.uint8).reshape(*size, bands)
