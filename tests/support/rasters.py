"""Small rasters for tests."""

import pathlib

import numpy as np
import rasterio
from rasterio.enums import ColorInterp


def scene(seed=0, height=12, width=10, bands=5, dtype=np.int16) -> np.ndarray:
  """Returns smooth random numbers around 1000, different for every band."""
  rng = np.random.default_rng(seed)
  y, x = np.mgrid[:height, :width]
  waves = [
    np.sin(rng.uniform(0.1, 0.5) * x + rng.uniform(0.1, 0.5) * y + rng.uniform(0, 6)) for _ in range(bands)
  ]
  return np.round(
    1000 * np.arange(1, bands + 1) + 300 * np.stack(waves, -1) + rng.normal(0, 20, (height, width, bands))
  ).astype(dtype)


def write_tif(path: pathlib.Path, array: np.ndarray, scales=None, offsets=None, **profile) -> pathlib.Path:
  """Writes a GeoTIFF from an array [height, width, bands]."""
  path.parent.mkdir(parents=True, exist_ok=True)
  height, width, bands = array.shape
  with rasterio.open(
    path, "w", driver="GTiff", height=height, width=width, count=bands, dtype=array.dtype, **profile
  ) as file:
    file.write(np.moveaxis(array, -1, 0))
    if scales:
      file.scales = scales
    if offsets:
      file.offsets = offsets
  return path


def with_alpha(path: pathlib.Path, pixels: np.ndarray, alpha: np.ndarray, **profile) -> pathlib.Path:
  """Writes a GeoTIFF of pixels [height, width, bands] and a last band that is declared as alpha."""
  write_tif(path, np.concatenate([pixels, alpha[..., None].astype(pixels.dtype)], -1), **profile)
  with rasterio.open(path, "r+") as file:
    file.colorinterp = [ColorInterp.gray, *[ColorInterp.undefined] * (file.count - 2), ColorInterp.alpha]
  return path


def stripes():
  """Every second pair of columns holds no data, so half of the positions between two pixels are missing."""
  image = np.random.default_rng(0).normal(size=(40, 60, 2)).astype(np.float32)
  image[:, np.arange(60) % 4 < 2] = np.nan
  return image


def round_hole(seed):
  """Returns data with a round hole at a random position."""
  rng = np.random.default_rng(seed)
  image, (y, x) = rng.normal(size=(40, 60, 2)).astype(np.float32), np.mgrid[:40, :60]
  image[(y - rng.uniform(0, 40)) ** 2 + (x - rng.uniform(0, 60)) ** 2 < rng.uniform(6, 18) ** 2] = np.nan
  return image
