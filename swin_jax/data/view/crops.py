"""Crops, flips and rotations of one image on the host: (image, rng, …) → image. Images are uint8 or float32
[height, width, bands].
"""

import math

import numpy as np

from swin_jax.data.read import image_ops


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
  return image_ops.resize(image[top : top + h, left : left + w], size, interpolation)


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
    interpolation: see `image_ops.INTERPOLATIONS`.
  """
  if crop_fraction == 1.0:
    return image_ops.resize(image, size, interpolation)
  height, width = image.shape[:2]
  h, w = (int(side / crop_fraction) for side in size)
  if h * width >= w * height:
    w = h * width // height
  else:
    h = w * height // width
  image = image_ops.resize(image, (h, w), interpolation)
  top, left = round((h - size[0]) / 2), round((w - size[1]) / 2)
  return image[top : top + size[0], left : left + size[1]]
