"""Augmentations of one image on the host: (image, rng, …) → image; images are uint8 or float32 [height,
width, bands].

Files are decoded as Pillow decodes them, bit for bit, and resized with Pillow's filters, which widen when
they shrink, as the official recipes do. Both are done by faster libraries where they can;
experiments/benchmark says what they gain.
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

# of Pillow; the others hold more, which a JPEG cannot
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Pillow's cubic, a = -0.5, under its other name
_FILTERS = {"bilinear": "bilinear", "bicubic": "catmull_rom"}


def decode(encoded: bytes | np.ndarray, bands: int) -> np.ndarray:
  """Decodes an image file, or takes an array, to uint8 [height, width, bands].

  Grey becomes RGB and RGB grey where `bands` asks for it. As in the official loaders, files go through
  Pillow's `convert`: palettes and CMYK become colours, transparency is dropped (the colours under it stay),
  and EXIF orientation is ignored. Of 16-bit grey the upper eight bits count, which is what Pillow keeps of
  16-bit colour. Where `bands` is neither 1 nor 3 a file must hold just these.

  Args:
    encoded: bytes of an image file, or uint8 [height, width(, bands)].
    bands: that are wanted.

  Raises:
    ValueError: the file is no image, is cut short or holds more than 16 bits, or there is another number of
      bands or another type.
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
  """ "1 band", "3 bands"."""
  return f"{count} band{'s' * (count != 1)}"


def _read(encoded: bytes, bands: int) -> np.ndarray:
  if bands in (1, 3) and encoded.startswith(b"\xff\xd8\xff"):
    try:
      height, width, colours, _ = simplejpeg.decode_jpeg_header(encoded)
      # Four inks it would mix in its own way, and of a suspiciously large image it is for Pillow to warn.
      if colours in ("RGB", "YCbCr", "Gray") and height * width <= (Image.MAX_IMAGE_PIXELS or math.inf):
        return simplejpeg.decode_jpeg(encoded, "GRAY" if bands == 1 and colours == "Gray" else "RGB")
    except ValueError:  # damage: Pillow knows what can be made of it, or says what is wrong
      pass
  try:
    with Image.open(io.BytesIO(encoded)) as file:
      if file.mode.startswith("I"):  # `convert` would turn all above 255 white
        wide = np.asarray(file)
        if wide.min() < 0 or wide.max() > 65535:
          raise ValueError("holds more than 16 bits")
        return (wide >> 8).astype(np.uint8)
      if file.mode == "F":
        raise ValueError("holds floating-point numbers, whose range is unknown")
      return np.asarray(file.convert("L" if bands == 1 else "RGB") if bands in (1, 3) else file)
  except UnidentifiedImageError as error:
    raise ValueError("cannot be read as an image: it is in no format that Pillow knows") from error
  except Exception as error:  # Pillow's readers raise whatever their format's parser raises
    raise ValueError(f"cannot be read as an image: {error}") from error


def valid_bands(image: np.ndarray) -> np.ndarray | None:
  """Returns where an image [height, width, bands] holds data, bool of its shape.

  None where its type has data everywhere: of float32 NaN is no data, and uint8 knows no such thing.
  """
  return ~np.isnan(image) if image.dtype.kind == "f" else None


def valid_pixels(image: np.ndarray) -> np.ndarray | None:
  """Returns which pixels hold data in any band, bool [height, width]; None as `valid_bands`."""
  valid = valid_bands(image)
  return valid if valid is None else valid.any(axis=-1)


def resize(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
  """Resizes uint8 or float32 [h, w, bands] to `size` (height, width) in pixels; bands do not mix.

  Pixels that are NaN, which hold no data, weigh nothing: what is made of less than half of data is NaN.

  Pillow's result; for uint8 to within rounding, in other order: columns first, then rows. It is the same on
  every processor of a kind, but another, by as little, on Linux on ARM.
  """
  if image.dtype == np.uint8 and resizer:
    parts = [_resize_bytes(image[..., i : i + 4], size, interpolation) for i in range(0, image.shape[-1], 4)]
    return np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]
  method = INTERPOLATIONS[interpolation]
  if image.dtype == np.uint8 and image.shape[-1] == 3:
    return np.asarray(Image.fromarray(image).resize(size[::-1], method))
  return np.stack([_resize_band(image[:, :, i], size, method) for i in range(image.shape[-1])], axis=-1)


def _resize_band(band: np.ndarray, size: tuple[int, int], method: Image.Resampling) -> np.ndarray:
  """`resize` of one band by Pillow."""
  if band.dtype == np.uint8 or not (missing := np.isnan(band)).any():
    return np.asarray(Image.fromarray(band).resize(size[::-1], method))
  filled, there = (
    np.asarray(Image.fromarray(x).resize(size[::-1], method))
    for x in (np.where(missing, 0, band), np.float32(~missing))
  )
  return np.where(there >= 0.5, filled / np.maximum(there, 0.5), np.float32(np.nan))


def _resize_bytes(image: np.ndarray, size: tuple[int, int], interpolation: str) -> np.ndarray:
  """`resize` of up to four bands."""
  height, width, bands = image.shape
  kind = getattr(resizer.PixelType, "U8" if bands == 1 else f"U8x{bands}")
  method = resizer.ResizeAlg.convolution(resizer.FilterType[_FILTERS[interpolation]])
  resized = resizer.ImageData(size[1], size[0], kind)
  # the last of two or four bands is one like the others
  options = resizer.ResizeOptions(method, use_alpha=False)
  # one of its own: it is not shared
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
  """Crops a box of random area and aspect ratio and resizes it.

  The area is U(scale) of the image, the aspect ratio (width / height) log-uniform in `ratio`. After ten boxes
  that do not fit, the largest central box of an allowed ratio is taken. Official recipes: scale (0.08, 1),
  bicubic; SimMIM (0.67, 1), bilinear.
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
  # Cut first: Pillow's own `box` lets the filter reach beyond it, which the official crop does not.
  return resize(image[top : top + h, left : left + w], size, interpolation)


def random_crop(image: np.ndarray, rng: np.random.Generator, padding: int) -> np.ndarray:
  """Pads every side and cuts the original size out at random: the official crop for images of 32 pixels and
  less.

  uint8 is padded with black, float32 with NaN, no data.
  """
  height, width = image.shape[:2]
  nothing = 0 if image.dtype == np.uint8 else np.nan
  padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)), constant_values=nothing)
  top, left = rng.integers(2 * padding + 1, size=2)
  return padded[top : top + height, left : left + width]


def random_flip(image: np.ndarray, rng: np.random.Generator, probability: float) -> np.ndarray:
  """Mirrors left and right."""
  if rng.random() >= probability:
    return image
  flipped = np.empty(image.shape, image.dtype)
  for band in range(image.shape[-1]):  # half the time of all bands at once
    flipped[..., band] = image[:, ::-1, band]
  return flipped


def random_rotation(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Turns a square image by 0, 90, 180 or 270°, each as likely: what is seen from above has no upper side."""
  return np.rot90(image, rng.integers(4))


def center_crop(
  image: np.ndarray, size: tuple[int, int], crop_fraction: float, interpolation: str
) -> np.ndarray:
  """Resizes to `size` / crop_fraction at the short side, keeping the aspect ratio, and cuts the central
  `size` out.

  The official evaluation: 256 / 224 of the size at the short side (0.875). For the 384 px models, and images
  of 32 pixels and less, no crop at all: 1.0 resizes straight to `size`. Lengths are cut to whole pixels and
  offsets rounded as torchvision does.

  Args:
    image: uint8 or float32 [h, w, bands].
    size: (height, width) in pixels. Where it is not square, the "short" side is the one that has less to
      spare.
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
