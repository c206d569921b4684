"""Augmentations of one image on the host: (image, rng, …) → image; images are uint8 [height, width, bands].

Resizing is Pillow's, which filters when it shrinks, as the official recipes do.
"""

import io
import math

import numpy as np
from PIL import Image

INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def decode(encoded: bytes | np.ndarray, bands: int) -> np.ndarray:
  """Decodes an image file, or takes an array [height, width(, bands)], to uint8 [height, width, bands].

  Grey becomes RGB and RGB grey where `bands` asks for it.

  Raises:
    ValueError: the file is no image, is cut short, or has another number of bands.
  """
  if isinstance(encoded, bytes):
    try:
      with Image.open(io.BytesIO(encoded)) as file:
        image = np.asarray(file.convert("L" if bands == 1 else "RGB"))
    except Exception as error:  # Pillow's readers raise whatever their format's parser raises
      raise ValueError(f"cannot be read as an image: {error}") from error
  else:
    image = encoded
  image = image[:, :, None] if image.ndim == 2 else image
  if image.shape[-1] == 1 and bands == 3:
    image = np.repeat(image, 3, axis=-1)
  if image.shape[-1] != bands:
    raise ValueError(f"has {image.shape[-1]} bands, not {bands}")
  return image


def resize(image: np.ndarray, size: tuple[int, int], interpolation: str, box: tuple[float, float, float, float] | None = None):
  """Resizes the box (left, upper, right, lower), the whole image if None, to `size` (height, width)."""
  method = INTERPOLATIONS[interpolation]
  if image.shape[-1] == 3:
    return np.asarray(Image.fromarray(image).resize(size[::-1], method, box))
  bands = [np.asarray(Image.fromarray(image[:, :, i]).resize(size[::-1], method, box)) for i in range(image.shape[-1])]
  return np.stack(bands, axis=-1)


def random_resized_crop(
    image: np.ndarray,
    rng: np.random.Generator,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    interpolation: str,
) -> np.ndarray:
  """Crops a box of random area and aspect ratio and resizes it.

  The area is U(scale) of the image, the aspect ratio (width / height) log-uniform. After ten boxes that do not fit, the largest
  central box of an allowed ratio is taken.
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
    w, h = min(w, width), min(h, height)
    top, left = (height - h) // 2, (width - w) // 2
  return resize(image, size, interpolation, (left, top, left + w, top + h))


def random_crop(image: np.ndarray, rng: np.random.Generator, padding: int) -> np.ndarray:
  """Pads every side with zeros and cuts the original size out at random: the official crop for images of 32 pixels and less."""
  height, width = image.shape[:2]
  padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
  top, left = rng.integers(2 * padding + 1, size=2)
  return padded[top : top + height, left : left + width]


def random_flip(image: np.ndarray, rng: np.random.Generator, probability: float) -> np.ndarray:
  """Mirrors left and right."""
  return image[:, ::-1] if rng.random() < probability else image


def center_crop(image: np.ndarray, size: tuple[int, int], crop_fraction: float, interpolation: str) -> np.ndarray:
  """Resizes so that the central `size` is `crop_fraction` of the short side, and cuts it out; 1.0 resizes straight to `size`.

  The official evaluation: 256 / 224 at the short side, then a central crop; for the 384 px models no crop at all.
  """
  if crop_fraction == 1.0:
    return resize(image, size, interpolation)
  height, width = image.shape[:2]
  factor = max(int(size[0] / crop_fraction) / height, int(size[1] / crop_fraction) / width)
  h, w = max(round(height * factor), size[0]), max(round(width * factor), size[1])
  image = resize(image, (h, w), interpolation)
  top, left = round((h - size[0]) / 2), round((w - size[1]) / 2)
  return image[top : top + size[0], left : left + size[1]]
