"""Reads label maps, uint8 [height, width] with one class per pixel or 255 for none, and the classes that a
set defines.

The classes are known if the folder of a set holds one of these files:

  classes.txt        one name per line; a label is the number of its line, from 0
  classes.json       {"classes": [names by label], "ignore_index": a label that is not a class, optional}
  objectInfo150.txt  of ADE20K: 0 means no class, 1 the first class of the table

In all of them, 255 means no class.
"""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from swin_jax.data.read import formats
from swin_jax.terminal import json_files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import clean

NONE = 255
FILES = ("classes.txt", "classes.json", "objectInfo150.txt")


class Classes(NamedTuple):
  """The classes of a set.

  Attributes:
    names: names by class.
    of_value: int16 [256], the class of each value in a label file; NONE for no class, -1 if the value is not
      allowed.
  """

  names: tuple[str, ...]
  of_value: np.ndarray


def parse(name: str, text: str, where: str) -> Classes:
  """Parses the text of one of `FILES`.

  Args:
    name: name of the file.
    text: content of the file.
    where: path of the file, for messages.

  Raises:
    BadInput: the file is malformed or unusable.
  """
  first, ignored = 0, None
  if name == "classes.json":
    example = 'it must be like {"classes": ["sky", "road"], "ignore_index": 255}'
    content = json_files.parse(text, {"classes": list}, where, example)
    names, ignored = content["classes"], content.get("ignore_index")
    if not (ignored is None or (type(ignored) is int and 0 <= ignored <= NONE)):
      raise BadInput(f"{where}: ignore_index must be a number from 0 to {NONE}, not {ignored!r}")
  elif name == "objectInfo150.txt":
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    names, first = [row[-1].split(",")[0].strip() for row in rows[1:]], 1
  else:
    names = [line.strip() for line in text.splitlines()]
    while names and not names[-1]:
      names.pop()
  names = [clean(" ".join(str(name).split())) for name in names]
  if "" in names:
    raise BadInput(f"{where} lacks a name for label {names.index('') + first}")
  if twice := [name for i, name in enumerate(names) if name in names[:i]]:
    raise BadInput(f"{where} calls two classes '{twice[0]}'; give each its own name")
  kept = [label for label in range(len(names)) if label != ignored]
  if not kept or first + len(names) > NONE:
    raise BadInput(f"{where} names {len(kept)} classes; there must be 1 to {NONE - first}")
  of_value = np.full(256, -1, np.int16)
  of_value[NONE] = NONE
  of_value[:first] = NONE
  if ignored is not None:
    of_value[ignored] = NONE
  for i, label in enumerate(kept):
    of_value[label + first] = i
  return Classes(tuple(names[label] for label in kept), of_value)


def read(encoded: bytes, classes: Classes) -> np.ndarray:
  """Reads the label map in an image file.

  Raises:
    ValueError: the file is not an image of one band, or holds a value that is not a label.
  """
  return from_values(decode(encoded), classes)


def from_values(values: np.ndarray, classes: Classes) -> np.ndarray:
  """Returns the label map of the values in a file, uint8 [height, width].

  Raises:
    ValueError: a value is not a label.
  """
  counts = np.bincount(values.ravel(), minlength=256)
  wrong = np.flatnonzero((classes.of_value < 0) & (counts > 0))
  if len(wrong):
    more = f" and {len(wrong) - 1} other values" if len(wrong) > 1 else ""
    last = len(classes.names) - 1
    raise ValueError(
      f"has label {wrong[0]} in {counts[wrong[0]]} pixels{more}; there are only {last + 1} classes (0–{last})"
    )
  return classes.of_value[values].astype(np.uint8)


def encode(target: np.ndarray) -> bytes:
  """Encodes a label map as the bytes of a PNG file."""
  out = io.BytesIO()
  Image.fromarray(target).save(out, "PNG")
  return out.getvalue()


def decode(encoded: bytes) -> np.ndarray:
  """Decodes the values in an image file, uint8 [height, width].

  Raises:
    ValueError: the file is damaged, or is not an image of one band of integers from 0 to 255.
  """
  try:
    opened = formats.open_image(encoded)
  except Exception as error:  # Pillow's readers raise whatever their format's parser raises
    raise ValueError(f"cannot be read as a label map: {' '.join(str(error).split())}") from error
  try:
    with opened as file:
      if file.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
        raise ValueError(
          f"has pixels of mode {file.mode}, but needs one whole number per pixel: a grey or palette PNG, or "
          "a TIFF"
        )
      return as_bytes(np.asarray(file))
  except ValueError:
    raise
  except Exception as error:
    raise ValueError(f"cannot be read as a label map: {' '.join(str(error).split())}") from error


def as_bytes(values: np.ndarray) -> np.ndarray:
  """Converts numbers of any type to uint8.

  Raises:
    ValueError: some are outside 0 to 255.
  """
  if values.min() < 0 or values.max() > NONE:
    raise ValueError(f"has labels from {values.min()} to {values.max()}; labels must be from 0 to {NONE}")
  return values.astype(np.uint8)
