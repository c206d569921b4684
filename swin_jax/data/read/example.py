"""What a source gives: the one shape of an example that all of them share."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from swin_jax.data.read.targets import Target
from swin_jax.terminal.errors import BadInput


class Example(NamedTuple):
  """One undecoded example.

  Attributes:
    image: the bytes of an image file, or an array [height, width, bands].
    label: the class of the whole image; -1: none.
    name: to be told by in messages.
    target: what belongs to each pixel, as the bytes of a file or an array [height, width]; None where there
      is no such thing.
  """

  image: bytes | np.ndarray
  label: int
  name: str
  target: bytes | np.ndarray | None = None


class Source(Protocol):
  """Random access to a fixed sequence of examples, from any thread; pickled into worker processes.

  Reading an example that is damaged raises ValueError or RuntimeError; the others stay readable. OSError says
  that the storage failed: the same read may succeed later.

  Attributes:
    targets: what each pixel has in `Example.target`: LABELS, VALUES or NOTHING.
    num_classes: of images, or of pixels; 0 where there are no labels.
    class_names: by label; empty where there are no labels.
  """

  targets: Target
  num_classes: int
  class_names: tuple[str, ...]

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Example: ...


def no_split(path: str, split: str, splits: Iterable[str]) -> str:
  """What a source says when a split is not one of its splits."""
  return (
    f"{path} has no split '{split}'; it has {', '.join(splits)}: set data.train_split and data.eval_split;"
    " prepare --hold_out=0.1 makes a"
    " split of its own"
  )


def wanted_splits(source: str, split: str, splits: Sequence[str]) -> list[str]:
  """The one of the splits that is asked for, or all where it is "".

  Raises:
    BadInput: it is not one of them.
  """
  if split and split not in splits:
    raise BadInput(f"{source} has no split '{split}'; it has {', '.join(splits)}")
  return [split] if split else list(splits)
