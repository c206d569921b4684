"""The classes of a set, and label maps: uint8 [height, width] with one class per pixel, 255 for none."""

from collections.abc import Mapping, Sequence
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from swin_jax.data.read import formats

NONE = 255
LARGEST = 2**53  # whole numbers above it are not exact in float64
_LISTED = 8  # values and colours in a message
_SPAN = 2**16  # range of values for which a table is faster than a search

Colour = tuple[int, int, int]


class Classes(NamedTuple):
  """The classes of a set.

  Attributes:
    names: names by class.
    of_value: value in a map → its class; NONE for no class. Other values are not allowed.
    colours: by class; empty if the set does not state them.
    are_numbered: whether values are the numbers of the classes because nothing states other values.
    void: colours of no class.
    names_in, colours_in: the files that give names and colours, for messages.
    notes: how these files were understood, a line each.
  """

  names: tuple[str, ...]
  of_value: Mapping[int, int]
  colours: tuple[Colour, ...] = ()
  are_numbered: bool = True
  void: tuple[Colour, ...] = ()
  names_in: str = "classes.txt"
  colours_in: str = ""
  notes: tuple[str, ...] = ()

  @property
  def meaning(self) -> bytes:
    """What values and colours mean, to tell one set from another."""
    table = np.full(256, -1, np.int16)
    others = {value: label for value, label in self.of_value.items() if not 0 <= value <= 255}
    for value in self.of_value.keys() - others.keys():
      table[value] = self.of_value[value]
    more = (sorted(others.items()), self.colours, *([self.void] if self.void else []))
    return table.tobytes() + (repr(more).encode() if any(more) else b"")


def numbered(names: tuple[str, ...]) -> Classes:
  """Returns classes whose values in maps are their numbers."""
  return Classes(names, {i: i for i in range(len(names))} | {NONE: NONE})


def renumbering(label_of: Sequence[int]) -> np.ndarray:
  """Returns label → new label, uint8 [256], to be indexed by a label map.

  Args:
    label_of: new label of each class; negative for none.
  """
  table = np.full(256, NONE, np.uint8)
  table[: len(label_of)] = [NONE if label < 0 else label for label in label_of]
  return table


def from_values(
  values: np.ndarray, classes: Classes, unknown: np.ndarray | None = None, void_by: str = ""
) -> np.ndarray:
  """Returns the label map of the values in a file.

  Args:
    values: [height, width], real numbers of any type; NaN is no class.
    classes: meaning of the values.
    unknown: bool [height, width], pixels without class whatever their value; None for no such pixels.
    void_by: see `maps.Reader`.

  Raises:
    ValueError: a value is not a label.
  """
  if values.dtype.kind not in "buif":
    raise ValueError(f"holds {values.dtype}, not real numbers")
  if values.dtype.kind == "f":
    unknown = np.isnan(values) | (False if unknown is None else unknown)
    values = np.where(unknown, 0.0, values.astype(np.float64))
    whole = (np.floor(values) == values) & (np.abs(values) < LARGEST)
    if not whole.all():
      raise ValueError(f"has value {values[~whole][0]:g}; labels are whole numbers")
    values = values.astype(np.int64)
  labels = _lookup(values, classes.of_value)
  if unknown is not None:
    labels[unknown] = NONE
  if (wrong := labels < 0).any():
    held, counts = np.unique(values[wrong], return_counts=True)
    more = f" and {len(held) - 1} other values" if len(held) > 1 else ""
    advice = _advice(list(map(str, held.tolist())), void_by)
    raise ValueError(
      f"has label {held[0]:g} in {counts[0]} pixels{more}; there are only {len(classes.names)} classes"
      f" ({_range(classes)}); {advice}if a class, add its name"
      f" {f'to {classes.names_in}' if classes.are_numbered else 'and its value to the classes of the set'}"
    )
  return labels.astype(np.uint8)


def from_colours(
  pixels: np.ndarray, classes: Classes, unknown: np.ndarray | None = None, void_by: str = ""
) -> np.ndarray:
  """Returns the label map of a picture whose colours stand for classes.

  Args:
    pixels: [height, width, 3], whole numbers.
    classes: with colours.
    unknown, void_by: as in `from_values`.

  Raises:
    ValueError: a colour is not in the table.
  """
  of_colour = {_packed(colour): NONE for colour in classes.void}
  of_colour |= {_packed(colour): i for i, colour in enumerate(classes.colours)}
  labels = _lookup(_packed(np.moveaxis(pixels.astype(np.int64), -1, 0)), of_colour)
  labels[((pixels < 0) | (pixels > 255)).any(-1)] = -1  # packed, they could equal another colour
  if unknown is not None:
    labels[unknown] = NONE
  if (wrong := labels < 0).any():
    held, counts = np.unique(pixels[wrong], axis=0, return_counts=True)
    more = f" and {len(held) - 1} other colours" if len(held) > 1 else ""
    adding = f"it with this colour to {classes.names_in}"
    if classes.colours_in not in ("", classes.names_in):
      adding = f"its name to {classes.names_in} and this colour to {classes.colours_in}"
    raise ValueError(
      f"has the colour {shown(held[0])} in {counts[0]} pixels{more}, which no class has;"
      f" {_advice([shown(colour) for colour in held.tolist()], void_by)}if a class,"
      f" add {adding}"
    )
  return labels.astype(np.uint8)


def _advice(strays: Sequence[str], void_by: str) -> str:
  """Returns how to make values or colours mean no class, before another clause; "" if no flag does."""
  if not void_by:
    return ""
  if len(strays) > _LISTED:
    return f"if they mean no class, {void_by}, with all of them; "
  what = "they mean" if len(strays) > 1 else "it means"
  return f"if {what} no class, {void_by}='{';'.join(strays)}'; "


def _packed(colour):
  red, green, blue = colour
  return red * 2**16 + green * 2**8 + blue


def _lookup(values: np.ndarray, of_value: Mapping[int, int]) -> np.ndarray:
  """Returns the class of each whole number, int16; -1 for those that have none."""
  if values.dtype in (np.uint8, bool):
    low, high = 0, 255
  else:
    values = (np.minimum(values, LARGEST) if values.dtype == np.uint64 else values).astype(np.int64)
    low, high = int(values.min()), int(values.max())
  if high - low < _SPAN:
    table = np.full(high - low + 1, -1, np.int16)
    for value, label in of_value.items():
      if low <= value <= high:
        table[value - low] = label
    return table[values.astype(np.uint8, copy=False) if not low and high == 255 else values - low]
  keys = np.array(sorted(of_value))
  numbers = np.array([of_value[key] for key in keys.tolist()], np.int16)
  at = np.minimum(np.searchsorted(keys, values), len(keys) - 1)
  return np.where(keys[at] == values, numbers[at], np.int16(-1))


def _range(classes: Classes) -> str:
  values = sorted(value for value, label in classes.of_value.items() if label != NONE)
  if values == list(range(values[0], values[0] + len(values))):
    return f"{values[0]}–{values[-1]}"
  return ", ".join(map(str, values[:20])) + ", …" * (len(values) > 20)


def shown(colour: Colour) -> str:
  """Returns a colour for a message."""
  return ",".join(map(str, colour))


def encode(target: np.ndarray) -> bytes:
  """Encodes a label map as the bytes of a PNG file."""
  out = io.BytesIO()
  Image.fromarray(target).save(out, "PNG")
  return out.getvalue()


def decode(encoded: bytes) -> np.ndarray:
  """Decodes the output of `encode`, or a PNG of it with a palette.

  Raises:
    ValueError: the bytes are damaged, or are no PNG of one byte per pixel.
  """
  try:
    with formats.open_image(encoded) as file:
      if file.mode in ("L", "P"):
        return np.asarray(file)
      raise ValueError(f"pixels of mode {file.mode}")
  except Exception as error:  # Pillow's readers raise whatever their format's parser raises
    raise ValueError(f"cannot be read as a label map: {' '.join(str(error).split())}") from error
