"""Sets of images in .npz files."""

import glob
import os
import zipfile

import numpy as np

from swin_jax.data.read import array_files
from swin_jax.data.read.example import Example, check_exists, no_split
from swin_jax.data.read.targets import Target
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import clean

# Array of a set → the kinds of its dtype.
_TYPES = {"jpeg": "u", "offsets": "ui", "labels": "ui", "class_names": "U"}


def splits_of(pattern: str) -> dict[str, str]:
  """Returns {split: path} of the files that match a pattern with {split}."""
  head, tail = pattern.split("{split}", 1)
  paths = sorted(glob.glob(f"{glob.escape(head)}*{glob.escape(tail)}"))
  return {
    path[len(head) : len(path) - len(tail)]: path for path in paths if len(path) > len(head) + len(tail)
  }


def open_split(pattern: str, split: str) -> "Npz":
  """Opens the file of a split.

  Raises:
    BadInput: the pattern does not contain {split} exactly once, or there is no matching file; or see `Npz`.
  """
  if pattern.count("{split}") != 1:
    check_exists(pattern)
    raise BadInput(
      f"{pattern} is one file for one split; write {{split}} where its name has the split, like"
      f" set_{{split}}.npz"
    )
  paths = splits_of(pattern)
  if not paths:
    check_exists(os.path.dirname(pattern) or ".")
    raise BadInput(f"no file matches {pattern}")
  if split not in paths:
    raise BadInput(no_split(pattern, split, paths))
  return Npz(paths[split])


def _column(file: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
  """Reads one of the arrays of a set.

  Raises:
    ValueError: it is damaged, or is not a row of numbers or names.
  """
  array = array_files.member(file, name)
  if array.ndim != 1 or array.dtype.kind not in _TYPES[name]:
    raise ValueError(f"{name} is {array.dtype} {list(array.shape)}")
  return array


class Npz:
  """Encoded images in one .npz file, held in memory: for sets of up to a few gigabytes. See `example.Source`.

  Arrays: jpeg uint8, the concatenated files of all images (of any format); offsets int64 [n + 1], where each
  begins; labels int [n] and class_names str [classes], both or neither.
  """

  targets = Target.NOTHING
  listing, files = b"", ()

  def __init__(self, path: str):
    """Reads the file.

    Raises:
      BadInput: the file is damaged, or its arrays are inconsistent.
    """
    self._path, self._name = path, os.path.basename(path)
    try:
      opened = array_files.load(path)
      if isinstance(opened, np.ndarray):
        raise ValueError("it holds a single array")
      with opened as file:
        if missing := {"jpeg", "offsets"} - set(file):
          raise BadInput(f"{path} has no array {' and '.join(sorted(missing))}; it has {', '.join(file)}")
        if ("labels" in file) != ("class_names" in file):
          raise BadInput(f"{path} must hold both labels and class_names, or neither")
        arrays = {name: _column(file, name) for name in _TYPES if name in file}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
      raise BadInput(f"{path} cannot be read as an npz file: {error}") from error
    self._bytes, self._offsets = arrays["jpeg"], arrays["offsets"]
    n = len(self._offsets) - 1
    self.labels = arrays.get("labels", np.full(n, -1))
    self.class_names = tuple(clean(str(name)) for name in arrays.get("class_names", ()))
    self.num_classes = len(self.class_names)
    offsets = self._offsets
    if (
      n < 1
      or offsets[0] != 0
      or offsets[-1] != len(self._bytes)
      or np.any(offsets[1:] < offsets[:-1])  # a difference of unsigned numbers cannot be negative
      or len(self.labels) != n
    ):
      sizes = f"{len(self._bytes)} bytes, {n} images by its offsets, {len(self.labels)} labels"
      raise BadInput(f"{path} is inconsistent: {sizes}")
    outside = (
      np.flatnonzero((self.labels < 0) | (self.labels >= self.num_classes)) if self.num_classes else ()
    )
    if len(outside):
      first = outside[0]
      raise BadInput(
        f"{path} has {self.num_classes} class names, but image {first} has label {self.labels[first]}"
      )

  def __reduce__(self):
    return Npz, (self._path,)  # a worker reads the file itself, which is faster than sending its content

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> Example:
    image = self._bytes[self._offsets[index] : self._offsets[index + 1]].tobytes()
    return Example(image, int(self.labels[index]), f"{self._name}/{index}")
