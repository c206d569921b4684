"""Augmentations of one image on the host: (image, rng, …) → image. Images are uint8 or float32 [height,
width, bands].

Decoding matches Pillow bit for bit. Resizing uses Pillow's antialiasing filters, as the official recipes do.
Faster libraries do both where they can; experiments/benchmark measures the gain.
"""

import io
import math

import numpy as np
from PIL import Image, UnidentifiedImageError
import simplejpeg

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
  `convert`: palettes and CMYK become colours, transparency is dropped (the colours under it stay), and EXIF
  orientation is ignored. 16-bit grey keeps its upper eight bits, as Pillow does for 16-bit colour. If `bands`
  is neither 1 nor 3, the file must have exactly that number of bands.

  Args:
    encoded: bytes of an image file, or uint8 [height, width(, bands)].
    bands: number of bands to return.

  Raises:
    ValueError: the file is not an image, is truncated or holds more than 16 bits, or the number of bands
      or the type does not fit.
  """
  image = _read(encoded, bands) if isinstance(encoded, bytes) else encoded
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
      # Pillow decodes CMYK, which simplejpeg converts differently, and warns of suspiciously large images.
      if colours in ("RGB", "YCbCr", "Gray") and height * width <= (Image.MAX_IMAGE_PIXELS or math.inf):
        return simplejpeg.decode_jpeg(encoded, "GRAY" if bands == 1 and colours == "Gray" else "RGB")
    except ValueError:  # damaged: Pillow recovers what it can or gives the reason
      pass
  try:
    with Image.open(io.BytesIO(encoded)) as file:
      if file.mode.startswith("I"):  # `convert` would clip values above 255 to white
        wide = np.asarray(file)
        if wide.min() < 0 or wide.max() > 65535:
          raise ValueError("holds more than 16 bits")
        return (wide >> 8).astype(np.uint8)
      if file.mode == "F":
        raise ValueError("holds floating-point numbers, whose range is unknown")
      return np.asarray(file.convert("L" if bands == 1 else "RGB") if bands in (1, 3) else file)
  except UnidentifiedImageError as error:
    raise ValueError("cannot be read as an image: Pillow does not know its format") from error
  except Exception as error:  # Pillow's readers raise whatever their format's parser raises
    raise ValueError(f"cannot be read as an image: {error}") from error


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


def random_resized_crop(
  image: np.ndarray,
  rng: np.random.Generator,
  size: tuple[int, int],
  scale: tuple[float, float],
  ratio: tuple[float, float],
  interpolation: str,
) -> np.ndarray:
  """Crops a box of random area and aspect ratio and resizes it to `size`.

  The area is a fraction U(scale) of the image; the aspect ratio (width / height) is log-uniform in `ratio`.
  After ten boxes that do not fit, the largest central box with an allowed ratio is used. Official recipes:
  scale (0.08, 1), bicubic; SimMIM (0.67, 1), bilinear.
  """
  height, width = image.shape[:2]
  for _ in range(10):
    area = rng.uniform(*scale) * height * width
    aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if 0 < w <= width and 0 < h <= height:
      top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
      break
  else:
    aspect = min(max(width / height, ratio[0]), ratio[1])
    w, h = (width, round(width / aspect)) if width / height < aspect else (round(height * aspect), height)
    w, h = min(max(w, 1), width), min(max(h, 1), height)
    top, left = (height - h) // 2, (width - w) // 2
  # Crop first: with Pillow's `box` the filter reaches outside the box, unlike in the official crop.
  return resize(image[top : top + h, left : left + w], size, interpolation)


def random_crop(image: np.ndarray, rng: np.random.Generator, padding: int) -> np.ndarray:
  """Pads every side and takes a random crop of the original size: the official crop for images of 32 pixels
  and less.

  uint8 is padded with black, float32 with NaN (no data).
  """
  height, width = image.shape[:2]
  nothing = 0 if image.dtype == np.uint8 else np.nan
  padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), constant_values=nothing)
  top, left = rng.integers(2 * padding + 1, size=2)
  return padded[top : top + height, left : left + width]


def random_flip(image: np.ndarray, rng: np.random.Generator, probability: float) -> np.ndarray:
  """Mirrors left and right with the given probability."""
  if rng.random() >= probability:
    return image
  flipped = np.empty(image.shape, image.dtype)
  for band in range(image.shape[-1]):  # band by band takes half the time of all at once
    flipped[..., band] = image[:, ::-1, band]
  return flipped


def random_rotation(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Rotates a square image by 0, 90, 180 or 270° with equal probability, for images from above, which have no
  upper side.
  """
  return np.rot90(image, rng.integers(4))


def center_crop(
  image: np.ndarray, size: tuple[int, int], crop_fraction: float, interpolation: str
) -> np.ndarray:
  """Resizes the short side to `size` / crop_fraction, keeping the aspect ratio, and crops the central `size`.

  The official evaluation resizes the short side to 256 / 224 of the size (0.875). The 384 px models, and
  images of 32 pixels and less, are not cropped: 1.0 resizes straight to `size`. Lengths are truncated to
  whole pixels and offsets rounded as in torchvision.

  Args:
    image: uint8 or float32 [h, w, bands].
    size: (height, width) in pixels. If it is not square, the "short" side is the one with less to spare.
    crop_fraction: in (0, 1].
    interpolation: see `INTERPOLATIONS`.
  """
  if crop_fraction == 1.0:
    return resize(image, size, interpolation)
  height, width = image.shape[:2]
  h, w = (int(side / crop_fraction) for side in size)
  if h * width >= w * height:
    w = h * width // height
  else:
    h = w * height // width
  image = resize(image, (h, w), interpolation)
  top, left = round((h - size[0]) / 2), round((w - size[1]) / 2)
  return image[top : top + size[0], left : left + size[1]]
