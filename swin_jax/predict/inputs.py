"""The images that a command line names: files, folders with everything below them, and prepared sets."""

import bisect
from collections import Counter
from collections.abc import Sequence
import glob
import hashlib
import itertools
import os
from typing import Any, NamedTuple, Protocol

from swin_jax.data.read import model_images, names, shards, strange, trees
from swin_jax.data.read.decoding import DecodeImage
from swin_jax.data.read.example import check_exists
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import printable


class Place(NamedTuple):
  """Where an image is.

  Attributes:
    file: relative path of its file.
    path: path of its file.
    index: its number in the file.
    is_one: whether the file holds no other.
  """

  file: str
  path: str
  index: int = 0
  is_one: bool = True

  @property
  def name(self) -> str:
    """The relative path, with the number of the image in brackets where its file holds several."""
    return self.file if self.is_one else f"{self.file}[{self.index}]"

  def stem(self, full: bool) -> str:
    """Returns the relative path of what is made of the image, without ending.

    Args:
      full: whether to keep the ending of the image.
    """
    return (self.file if full else names.stem_of(self.file)) + ("" if self.is_one else f"-{self.index}")


class Part(Protocol):
  """Images of one kind.

  Attributes:
    identity: tells these images from others, by their names.
  """

  identity: bytes

  def __len__(self) -> int: ...

  def name(self, index: int) -> str: ...

  def read(self, index: int, bands: int, dtype: str) -> tuple[str, Any]:
    """Returns (name, image [height, width, bands]); raises as `reading.read`."""


class Files:
  """Images in files."""

  def __init__(self, places: Sequence[Place]):
    self.places = places
    self.identity = "\n".join(place.name for place in places).encode("utf-8", "surrogateescape")

  def __len__(self) -> int:
    return len(self.places)

  def name(self, index: int) -> str:
    return self.places[index].name

  def read(self, index: int, bands: int, dtype: str) -> tuple[str, Any]:
    place = self.places[index]
    return place.name, model_images.read(place.path, bands, dtype, place.index)


class Records:
  """The records of one split of a prepared set."""

  def __init__(self, path: str, split: str):
    self._source, self._split = shards.Shards(path, split), split
    self.identity = f"{split} {len(self._source)}".encode() + bytes(self._source.listing)

  def __len__(self) -> int:
    return len(self._source)

  def name(self, index: int) -> str:
    return f"{self._split}, record {index}"

  def read(self, index: int, bands: int, dtype: str) -> tuple[str, Any]:
    example = self._source[index]
    return example.name, DecodeImage(bands, dtype)(example).image


class Images:
  """All images, in order.

  Attributes:
    notes: lines on the files that are not images.
    in_files: whether all are in files of their own format; otherwise some are records of prepared sets.
    identity: digest of their names.
  """

  def __init__(self, parts: Sequence[Part], notes: Sequence[str] = ()):
    self._parts, self.notes = list(parts), list(notes)
    self._ends = list(itertools.accumulate(map(len, parts)))
    self.in_files = all(isinstance(part, Files) for part in parts)
    self.identity = hashlib.sha256(b"\0".join(part.identity for part in parts)).hexdigest()

  def __len__(self) -> int:
    return self._ends[-1]

  def name(self, index: int) -> str:
    part, index = self._at(index)
    return part.name(index)

  def place(self, index: int) -> Place:
    """Returns where an image in a file is."""
    part, index = self._at(index)
    return part.places[index]

  def read(self, index: int, bands: int, dtype: str) -> tuple[str, Any]:
    """Returns (name, image), see `Part.read`."""
    part, index = self._at(index)
    return part.read(index, bands, dtype)

  def _at(self, index: int) -> tuple[Part, int]:
    number = bisect.bisect_right(self._ends, index)
    return self._parts[number], index - (self._ends[number - 1] if number else 0)


def find(paths: Sequence[str]) -> Images:
  """Finds the images of paths: files, folders with all folders below them, and folders that prepare wrote.

  Names are relative to the folder, if there is one path, otherwise to the deepest folder that holds all.

  Raises:
    BadInput: a path does not exist or holds no image.
  """
  for path in paths:
    check_exists(path)
  root = os.path.commonpath(
    [os.path.abspath(path if os.path.isdir(path) else os.path.dirname(path) or ".") for path in paths]
  )
  parts, listed, notes = [], set(), []
  for path in paths:
    if os.path.isdir(path) and glob.glob(os.path.join(glob.escape(path), "*.array_record")):
      parts += [Records(path, split) for split in shards.splits(path)]
      continue
    files, lines = _in_folder(path) if os.path.isdir(path) else (_lone(path), [])
    notes += lines
    places = []
    for file in files:
      if (absolute := os.path.abspath(file)) not in listed:
        listed.add(absolute)
        places += _places(os.path.relpath(absolute, root), file)
    parts.append(Files(places))
  return Images(parts, notes)


def _lone(path: str) -> list[str]:
  if path.lower().endswith((".zip", ".tar", ".tar.gz", ".tgz")):
    raise BadInput(f"{path} is an archive; unpack it, and give the folder")
  return [path]


def _in_folder(path: str) -> tuple[list[str], list[str]]:
  """Returns the images in a folder, and a note on each kind of files that are not images.

  Raises:
    BadInput: it holds no image.
  """
  listing = trees.list_all(trees.Disk(path))
  images = [name for name in listing.files if name.lower().endswith(model_images.EXTENSIONS)]
  others = Counter(names.ending_of(name) or "no ending" for name in set(listing.files).difference(images))
  notes = [f"{path}: files that are not images, not read: {strange.endings(others)}"] if others else []
  if listing.junk:
    hidden = Counter(
      {"names that begin with a dot" if name == ".*" else name: n for name, n in listing.junk.items()}
    )
    notes.append(
      f"{path}: passed over: {', '.join(f'{printable(name)} ({n:,})' for name, n in sorted(hidden.items()))}"
    )
  if not images:
    held = f"; it holds {strange.endings(others)}" if others else ""
    raise BadInput(f"{path} holds no image ({' '.join(model_images.EXTENSIONS)}){held}")
  return [os.path.join(path, name) for name in images], notes


def _places(name: str, path: str) -> list[Place]:
  """Returns the places of the images in a file; an array may hold several. One that cannot be read is named
  when its image is read.
  """
  try:
    count = model_images.count(path)
  except (OSError, ValueError):
    count = 1
  return [Place(name, path, i, count == 1) for i in range(count)]
