"""The example and source types that all sources share."""

from collections.abc import Iterable, Sequence
import difflib
import os
from typing import NamedTuple, Protocol

import numpy as np

from swin_jax.data.read.targets import Target, Turn
from swin_jax.terminal.errors import BadInput


class Example(NamedTuple):
  """One undecoded example.

  Attributes:
    image: the bytes of an image file, or an array [height, width, bands].
    label: class of the whole image; -1: none.
    name: identifies the example in messages.
    target: map of the class or number of each pixel, as the bytes of a file or an array [height, width]; None
      if there is no map.
    undeclared: see `stored.Converted`; None for what is not cut from a raster. It is counted, not stored.
    turn: what EXIF orientation did to the map; None for no map. It is counted, not stored.
  """

  image: bytes | np.ndarray
  label: int
  name: str
  target: bytes | np.ndarray | None = None
  undeclared: int | None = None
  turn: Turn | None = None


class Source(Protocol):
  """Random access to a fixed sequence of examples, from any thread; pickled into worker processes.

  Reading a damaged example raises ValueError or RuntimeError; the others stay readable. OSError means that
  the storage failed: the same read may succeed later.

  Attributes:
    targets: what `Example.target` holds for each pixel: LABELS, VALUES or NOTHING.
    num_classes: number of classes of images or of pixels; 0 if there are no labels.
    class_names: names by label; empty if there are no labels.
    labels: class of every image, -1 for none; empty where that is not cheap to get.
    listing: names and, for maps, meanings of all examples, to tell one set from another; empty likewise.
    files: path in its folder or archive of the file of every example; empty where one file holds many.
  """

  targets: Target
  num_classes: int
  class_names: tuple[str, ...]
  labels: Sequence[int] | np.ndarray
  listing: bytes
  files: Sequence[str]

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Example: ...


def no_split(path: str, split: str, splits: Iterable[str]) -> str:
  """Returns the error message of a source that does not have the requested split."""
  return (
    f"{path} has no split '{split}'; it has {', '.join(splits)}: set data.train_split and data.eval_split;"
    " prepare --hold_out=0.1 makes a"
    " split of its own"
  )


def wanted_splits(source: str, split: str, splits: Sequence[str]) -> list[str]:
  """Returns the requested split alone, or all splits if `split` is "".

  Raises:
    BadInput: the requested split does not exist.
  """
  if split and split not in splits:
    raise BadInput(f"{source} has no split '{split}'; it has {', '.join(splits)}")
  return [split] if split else list(splits)


def check_exists(path: str) -> None:
  """Raises BadInput, with the closest existing name, if the path does not exist."""
  if os.path.exists(path):
    return
  parent, name = os.path.split(os.path.abspath(path))
  while not os.path.isdir(parent):
    parent, name = os.path.split(parent)
  near = difflib.get_close_matches(name, os.listdir(parent), 1)
  hint = f"; did you mean {os.path.join(parent, near[0])}?" if near else f": {parent} has no '{name}'"
  raise BadInput(f"{path} does not exist{hint}")
