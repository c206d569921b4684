"""Where examples come from: name → a random-access source of encoded images."""

from typing import NamedTuple, Protocol

import numpy as np


class Example(NamedTuple):
  """One undecoded example: the bytes of an image file or an array [height, width, bands], its class (-1: none), and its name."""

  image: bytes | np.ndarray
  label: int
  name: str


class Source(Protocol):
  """Random access to a fixed sequence of examples. `num_classes` is 0 where there are no labels."""

  num_classes: int

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Example: ...


class Digits:
  """The real handwritten digits that ship inside scikit-learn: 1,797 grey images of 8 × 8 pixels, ten classes.

  A fixed permutation holds the last fifth (360) back as split "val"; the rest is "train".
  """

  num_classes = 10

  def __init__(self, split: str):
    from sklearn.datasets import load_digits  # pylint: disable=g-import-not-at-top  (slow, and few runs need it)

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    cut = len(order) - len(order) // 5 - 1
    self._index = order[:cut] if split == "train" else order[cut:]
    self._images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    self._labels = digits.target

  def __len__(self) -> int:
    return len(self._index)

  def __getitem__(self, index: int) -> Example:
    i = int(self._index[index])
    return Example(self._images[i], int(self._labels[i]), f"digits/{i}")


def open_source(name: str, path: str, split: str) -> Source:
  """Opens a source by its name in the config."""
  return Digits(split)
