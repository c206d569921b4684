"""Reads the images in any file as a model takes them: upright, with its bands, uint8 or float32.

A model of uint8 takes 8-bit images: what `image_ops.decode` makes of a file, a raster or array of bytes. A
model of float32 takes the numbers that files hold, unscaled, with NaN where there is no data: image files are
read as rasters too, see `rasters`.
"""

import os

import numpy as np
from PIL import Image

from swin_jax.data.read import image_files, image_ops, orientation, plain_files, ranges, rasters

ARRAYS = (".npy", ".npz")
EXTENSIONS = tuple(dict.fromkeys((*image_files.EXTENSIONS, *rasters.EXTENSIONS)))


def count(path: str) -> int:
  """Returns the number of images in a file; only an array may hold several.

  Raises:
    OSError: the storage failed.
    ValueError: it is an array that cannot be read.
  """
  return rasters.shape(path, path)[0] if path.lower().endswith(ARRAYS) else 1


def read(path: str, bands: int, dtype: str, index: int = 0) -> np.ndarray:
  """Reads an image, uint8 or float32 [height, width, bands].

  Args:
    path: of the file.
    bands: of the model; grey and RGB are converted into each other, see `image_ops.decode`.
    dtype: of the model, "uint8" or "float32".
    index: number of the image in an array [n, height, width, bands].

  Raises:
    OSError: the storage failed.
    ValueError: the file cannot be read, or has a different number of bands or another type; the message is
      the end of a sentence.
  """
  of_bytes, is_array = dtype == "uint8", path.lower().endswith(ARRAYS)
  if of_bytes and not is_array:
    return _decode(path, bands)
  image = rasters.with_bands(
    rasters.read(path, path, index=index, keep_alpha=keeps_alpha(path, bands, dtype)), path, bands
  )
  if not of_bytes:
    return _checked(image.astype(np.float32, copy=False), bands)
  if image.dtype.kind in "ui":
    ranges.check(image)
    image = image.astype(np.uint8)
  return image_ops.decode(image, bands)


def keeps_alpha(path: str, bands: int, dtype: str) -> bool:
  """Returns whether the alpha channel of a file is one of the model's bands: prepare --keep_alpha trained it.

  Raises:
    OSError, ValueError: as in `read`.
  """
  is_array = path.lower().endswith(ARRAYS)
  may_have_alpha = rasters.one_to_a_file(path) or not (dtype == "uint8" or is_array)
  return may_have_alpha and rasters.shape(path, path)[-1] < bands


def convert(image: np.ndarray, bands: int, dtype: str) -> np.ndarray:
  """Returns an array [height, width, bands] as a model takes it.

  Args:
    image: for a model of uint8, whole numbers in 0..255, or fractions in 0..1, which stay float32; for one of
      float32, numbers of any type. [height, width] is one band.
    bands, dtype: as in `read`.

  Raises:
    ValueError: as in `read`.
  """
  if image.dtype.kind not in "uif":
    raise ValueError(f"is of type {image.dtype}, not of numbers")
  image = image[:, :, None] if image.ndim == 2 else image
  if image.ndim != 3 or not image.size:
    raise ValueError(f"is {list(image.shape)}, not [height, width, bands]")
  if dtype != "uint8":
    return _checked(image.astype(np.float32), bands)
  ranges.check(image)
  if image.dtype.kind != "f":
    return image_ops.decode(image.astype(np.uint8), bands)
  image = image.astype(np.float32)
  if image.shape[-1] == 1 and bands == 3:
    image = np.repeat(image, 3, axis=-1)
  return _checked(image, bands)


def take(image: str | os.PathLike | np.ndarray | Image.Image, bands: int, dtype: str) -> np.ndarray:
  """Returns an image as a model takes it: from a path as `read` does, from an array as `convert` does, or
  from an image of Pillow as from its file.

  Raises:
    OSError, ValueError: as in `read`; or the file holds several images.
  """
  if isinstance(image, Image.Image):
    pixels = orientation.turn(image_ops.of_pillow(image, bands), orientation.of_opened(image))
    return image_ops.decode(pixels, bands).astype(dtype, copy=False)
  if not isinstance(image, str | os.PathLike):
    return convert(np.asarray(image), bands, dtype)
  if (held := count(path := os.fspath(image))) != 1:
    raise ValueError(f"holds {held:,} images; load the array and give one of them")
  return read(path, bands, dtype)


def _checked(image: np.ndarray, bands: int) -> np.ndarray:
  if image.shape[-1] != bands:
    raise ValueError(f"has {image_ops.count_bands(image.shape[-1])}, not {bands}")
  return image


def _decode(path: str, bands: int) -> np.ndarray:
  """Decodes the 8-bit image in a file; a raster that Pillow cannot read is read with GDAL."""
  try:
    return image_ops.decode(plain_files.read(path), bands)
  except ValueError as error:
    if not rasters.one_to_a_file(path):
      raise
    raster = rasters.read(path, path)  # its error also covers files that are not rasters
    if raster.dtype == np.uint8 and raster.shape[-1] == bands:
      return raster
    actual, expected = (image_ops.count_bands(number) for number in (raster.shape[-1], bands))
    raise ValueError(
      f"is a raster of {actual}, {raster.dtype}; the model takes 8-bit images of {expected}"
    ) from error
