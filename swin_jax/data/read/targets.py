"""What a loss compares with: the kinds of target, and maps [height, width] of them.

A map holds a class for each pixel, uint8 (`labels.py`), or a number, float32, NaN where it is unknown.
"""

import enum

import numpy as np

from swin_jax.data.read import array_files, image_ops, labels, rasters


class Target(enum.StrEnum):
  """What an example carries for a loss to compare with.

  The values are the words of headers of prepared sets, folders of maps, flags and messages.
  """

  NOTHING = ""
  CLASS = "class"  # of the whole image
  LABELS = "labels"  # a class for each pixel
  VALUES = "values"  # a number for each pixel

  @property
  def per_pixel(self) -> bool:
    """Whether it is a map."""
    return self in (Target.LABELS, Target.VALUES)

  @property
  def has_classes(self) -> bool:
    """Whether it is chosen from a set of classes, which the data names."""
    return self in (Target.CLASS, Target.LABELS)


def unknown(dtype: np.dtype) -> int | float:
  """What a map of this type holds where nothing is known."""
  return labels.NONE if dtype == np.uint8 else float("nan")


def where_valid(target: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
  """Returns a map that is unknown where its image holds no data.

  Args:
    target: [height, width].
    valid: bool [height, width], of `image_ops.valid_pixels`; None for everywhere.
  """
  return target if valid is None else np.where(valid, target, target.dtype.type(unknown(target.dtype)))


def read_values(
  file: str | bytes, name: str, window: rasters.Window | None = None, nodata: float | None = None
) -> np.ndarray:
  """The numbers in a file of one band: a raster or a grey image, see `rasters.read`. What is declared to be
  no data is not known.

  Raises:
    ValueError: it cannot be read, or holds more bands or rasters.
  """
  count, _, _, bands = rasters.shape(file, name)
  if count != 1 or bands != 1:
    raise ValueError(
      f"has {image_ops.count_bands(bands)}" * (bands != 1)
      + f"holds {count} rasters" * (bands == 1)
      + ", and must have one"
    )
  return rasters.read(file, name, window=window, nodata=nodata)[..., 0].astype(np.float32)


def encode(target: np.ndarray) -> bytes:
  """A map as bytes: classes as a PNG file, numbers as `arrays.pack` has them."""
  return labels.encode(target) if target.dtype == np.uint8 else array_files.pack(target)


def decode(target: bytes | np.ndarray) -> np.ndarray:
  """A map as sources give it and `encode` writes it.

  Raises:
    ValueError: it is damaged.
  """
  if not isinstance(target, bytes):
    return target
  return array_files.unpack(target) if array_files.is_packed(target) else labels.decode(target)


def check_size(found: tuple[int, int], size: tuple[int, int]) -> None:
  """Raises ValueError where a map has not the (height, width) of its image."""
  if tuple(found) != tuple(size):
    raise ValueError(f"its map has {found[0]} × {found[1]} pixels, the image {size[0]} × {size[1]}")


def resize(target: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """To `size` (height, width) in pixels: each takes the class at its middle; numbers are interpolated, see
  `image_ops.resize`.
  """
  if target.dtype != np.uint8:
    return (
      target if target.shape == tuple(size) else image_ops.resize(target[..., None], size, "bilinear")[..., 0]
    )
  rows, columns = (
    np.minimum(((np.arange(new) + 0.5) * old / new).astype(np.int64), old - 1)
    for old, new in zip(target.shape, size, strict=True)
  )
  return target[rows[:, None], columns]
