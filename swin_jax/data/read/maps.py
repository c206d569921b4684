"""Reads maps from files of any kind, one way for all sizes, windows and containers.

A map holds a class or a number for each pixel. Pixels that its file declares as no data, or as transparent,
are unknown. What cannot be decided map by map, `map_sets.understand` decides for a set.
"""

import dataclasses

import numpy as np

from swin_jax.data.read import image_arrays, image_ops, labels, rasters
from swin_jax.data.read.stored import Stored, convert

MASK = {0: 0, 255: 1}  # value → class, in sets of two classes whose maps are black and white
_MIDDLE = 128  # of black and white; lossy formats change both a little


@dataclasses.dataclass(frozen=True)
class Meaning:
  """What the flags say about the files of maps.

  Attributes:
    colours: of the classes, in their order; empty: those that the set states, if any.
    label_values: of the classes, in their order; empty: those that the set states, or their numbers.
    nodata: number that marks unknown pixels in maps of numbers, in addition to the value that they declare.
    void_values, void_colours: of no class, in addition to what the set states.
    names: of the colours, if a file gives them; else the colours are in the order of the classes.
    file: that file; "" for none.
    as_stored: see `targets.upright`.
  """

  colours: tuple[labels.Colour, ...] = ()
  label_values: tuple[int, ...] = ()
  nodata: float | None = None
  names: tuple[str, ...] = ()
  void_values: tuple[int, ...] = ()
  void_colours: tuple[labels.Colour, ...] = ()
  file: str = ""
  as_stored: bool = False

  @property
  def of_classes(self) -> bool:
    """Whether flags say something about maps of classes."""
    return bool(self.colours or self.label_values or self.void_values or self.void_colours)


OF_CLASSES = "--colours, --label_values and --no_class apply to maps of classes"  # for messages
UNSAID = Meaning()


@dataclasses.dataclass(frozen=True)
class Reader:
  """How the maps of a set are read.

  Attributes:
    classes: meaning of values and colours; None if the maps hold numbers.
    by_colour: whether classes are known by their colours, in place of values and indices.
    nodata: see `Meaning`.
    void_by: how the user says what means no class, like "give --no_class", for messages; "" if the command
      that reads the maps has no such flag.
    warnings: what is strange about the maps of the set, a line each.
    as_stored: see `targets.upright`.
  """

  classes: labels.Classes | None
  by_colour: bool = False
  nodata: float | None = None
  void_by: str = ""
  warnings: tuple[str, ...] = ()
  as_stored: bool = False

  @property
  def meaning(self) -> bytes:
    """What values or colours mean, to tell one set from another."""
    if not self.classes:
      return b""
    return self.classes.meaning + (repr(self.classes.colours).encode() if self.by_colour else b"")

  def read(self, file: str | bytes, name: str, window: rasters.Window | None = None) -> np.ndarray:
    """Reads a window of a map, [height, width]: classes, uint8, or numbers, float32 with NaN where unknown.

    Args:
      file: path of the file, or its content.
      name: file name; its suffix gives the format.
      window: box of pixels to read; None for all.

    Raises:
      OSError: the storage failed.
      ValueError: the file cannot be read, or holds a value that is not a label.
    """
    stored = open_map(file, name, window)
    if not self.classes:
      numbers = _one_band(stored)
      if numbers.numbers.dtype == bool:
        numbers = numbers._replace(numbers=numbers.numbers.astype(np.uint8))
      return convert(numbers, self.nodata).pixels[..., 0].astype(np.float32, copy=False)
    return self._by_colour(stored) if self.by_colour else self._by_value(_one_band(stored))

  def _by_colour(self, stored: Stored) -> np.ndarray:
    if stored.lossy:
      raise ValueError(
        f"is a {stored.lossy}, which changes colours, so that classes cannot be told apart; save it as PNG"
      )
    if stored.numbers.shape[-1] not in (1, 3):
      raise ValueError(f"has {image_ops.count_bands(stored.numbers.shape[-1])}, not three of colours")
    return labels.from_colours(stored.colours, self.classes, stored.unknown, self.void_by)

  def _by_value(self, stored: Stored) -> np.ndarray:
    values, is_mask = stored.numbers[..., 0], self.classes.of_value == MASK
    if stored.lossy and not is_mask:
      raise ValueError(f"is a {stored.lossy}, which changes labels; save it as PNG")
    if is_mask and (stored.lossy or values.dtype == bool):
      values = np.where(values >= (_MIDDLE if stored.lossy else 1), np.uint8(255), np.uint8(0))
    if stored.scales is not None:
      values = values * stored.scales[0][0] + stored.scales[1][0]
    return labels.from_values(values, self.classes, stored.unknown, self.void_by)


def open_map(file: str | bytes, name: str, window: rasters.Window | None = None) -> Stored:
  """Reads a window of a map as its file stores it.

  Raises:
    OSError, ValueError: see `rasters.stored`; or the file holds several rasters.
  """
  if rasters.is_image(name):
    return rasters.stored(image_arrays.read(file, as_colours=False), name, window=window)
  if (count := rasters.shape(file, name)[0]) != 1:
    raise ValueError(f"holds {count} rasters, but must have one")
  return rasters.stored(file, name, window=window)


def _one_band(stored: Stored) -> Stored:
  """Returns a map with its only band, or the first of three equal ones.

  Raises:
    ValueError: its bands differ, or have another number.
  """
  if not stored.is_grey:
    raise ValueError(
      f"has {image_ops.count_bands(stored.numbers.shape[-1])}, but must have one, or three that are equal"
    )
  numbers = stored.numbers[..., :1]
  missing, scales = stored.missing, stored.scales
  return stored._replace(
    numbers=numbers,
    missing=missing if missing is None else missing[..., :1],
    scales=scales if scales is None else tuple(each[:1] for each in scales),
  )
