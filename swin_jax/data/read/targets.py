"""Targets, which a loss compares with: their kinds, and maps [height, width].

A map holds a class for each pixel, uint8 (`labels.py`), or a number, float32, NaN where it is unknown.
"""

import enum
from typing import NamedTuple

import numpy as np

from swin_jax.data.read import array_files, image_ops, labels, orientation


class Target(enum.StrEnum):
  """The kind of target that an example carries.

  The values are also the words used in headers of prepared sets, folders of maps, flags and messages.
  """

  NOTHING = ""
  CLASS = "class"  # of the whole image
  LABELS = "labels"  # a class for each pixel
  VALUES = "values"  # a number for each pixel

  @property
  def per_pixel(self) -> bool:
    """Whether the target is a map."""
    return self in (Target.LABELS, Target.VALUES)

  @property
  def has_classes(self) -> bool:
    """Whether the target is a class, or a map of classes; the data names them."""
    return self in (Target.CLASS, Target.LABELS)

  @property
  def has_numbers(self) -> bool:
    """Whether the target is a map of numbers; the statistics of a set cover these."""
    return self is Target.VALUES

  def recipes(self, of_rasters: bool) -> dict[str, str]:
    """Returns the recipes for such maps: config and kind of run → name of its workdir. Empty if not a map."""
    return _RECIPES.get((self, of_rasters), {})


_RECIPES = {  # (kind of target, whether the images are rasters) → see `Target.recipes`
  (Target.LABELS, False): {"own_labels:finetune": "labels"},
  (Target.LABELS, True): {"own_rasters:segment": "segment"},
  (Target.VALUES, False): {"own_labels:regress": "values"},
  (Target.VALUES, True): {"own_rasters:regress": "regress"},
}


def unknown(dtype: np.dtype) -> int | float:
  """Returns the value that marks unknown pixels in a map of this type."""
  return labels.NONE if dtype == np.uint8 else float("nan")


def where_valid(target: np.ndarray, valid: np.ndarray | None) -> np.ndarray:
  """Returns a map that is unknown where its image holds no data.

  Args:
    target: [height, width].
    valid: bool [height, width], from `image_ops.valid_pixels`; None for everywhere.
  """
  return target if valid is None else np.where(valid, target, target.dtype.type(unknown(target.dtype)))


def encode(target: np.ndarray) -> bytes:
  """Encodes a map as bytes: classes as a PNG file, numbers with `array_files.pack`."""
  return labels.encode(target) if target.dtype == np.uint8 else array_files.pack(target)


def decode(target: bytes | np.ndarray) -> np.ndarray:
  """Decodes a map that a source returned or `encode` wrote.

  Raises:
    ValueError: the map is damaged.
  """
  if not isinstance(target, bytes):
    return target
  return array_files.unpack(target) if array_files.is_packed(target) else labels.decode(target)


class Turn(enum.Enum):
  """What EXIF orientation does to a map."""

  NONE = enum.auto()  # the image is stored upright, or the size of the map proves that the map is upright
  TURNED = enum.auto()  # the map is turned like its image
  ASSUMED = enum.auto()  # the map is taken as upright, although its size fits the stored pixels as well


class Upright(NamedTuple):
  """A map that lies like its upright image, and what was done to it."""

  map: np.ndarray
  turn: Turn = Turn.NONE


def upright(target: np.ndarray, image: bytes | np.ndarray, as_stored: bool = False) -> Upright:
  """Returns a map that lies like its upright image.

  Maps are drawn on the upright image, or computed from pixels as they are stored. EXIF orientation is applied
  to a map where its size proves the latter. Where the size fits both, as for square images, `as_stored`
  decides.
  """
  if not isinstance(image, bytes) or (declared := orientation.of(image)) == orientation.UPRIGHT:
    return Upright(target)
  return turned_like(target, declared, orientation.upright_size(image), as_stored)


def turned_like(target: np.ndarray, declared: int, size: tuple[int, int], as_stored: bool = False) -> Upright:
  """Does the same as `upright`, for the declared orientation and the upright (height, width) of an image."""
  size_when_stored = size[::-1] if orientation.swaps_sides(declared) else size
  if declared == orientation.UPRIGHT or target.shape != size_when_stored:
    return Upright(target)
  if as_stored or size != size_when_stored:
    return Upright(orientation.turn(target, declared), Turn.TURNED)
  return Upright(target, Turn.ASSUMED)


def check_size(map_size: tuple[int, int], size: tuple[int, int]) -> None:
  """Raises ValueError if a map does not have the (height, width) of its image."""
  if tuple(map_size) != tuple(size):
    raise ValueError(
      f"its map has {map_size[0]} × {map_size[1]} pixels, but the image has {size[0]} × {size[1]}"
    )


def resize(target: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Resizes a map to `size` (height, width) in pixels: classes by nearest neighbour at pixel centres, numbers
  by interpolation, see `image_ops.resize`.
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
