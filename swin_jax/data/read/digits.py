"""The digits that ship with this package, as a source of examples."""

import pathlib

import numpy as np

from swin_jax.data.read.example import Example
from swin_jax.data.read.targets import Target
from swin_jax.terminal.errors import BadInput

# A row for each image: 64 intensities from 0 to 16, then the digit. digits.txt names its source and licence.
_FILE = pathlib.Path(__file__).with_name("digits.csv.gz")


class Digits:
  """Handwritten digits: 1,797 real grey images of 8 × 8 pixels, ten classes.

  A fixed permutation holds out the last fifth (360) as split "val"; the rest is "train".
  """

  targets = Target.NOTHING
  labels, listing, files = (), b"", ()
  num_classes = 10
  class_names = tuple("0123456789")

  def __init__(self, split: str):
    if split not in ("train", "val"):
      raise BadInput(f"digits have no split '{split}'; they have train, val")
    rows = np.loadtxt(_FILE, np.uint8, delimiter=",")
    order = np.random.default_rng(0).permutation(len(rows))
    cut = len(order) - len(order) // 5 - 1
    self._index = order[:cut] if split == "train" else order[cut:]
    self._images = np.round(rows[:, :64].reshape(-1, 8, 8, 1) * (255 / 16)).astype(np.uint8)
    self._labels = rows[:, 64]

  def __len__(self) -> int:
    return len(self._index)

  def __getitem__(self, index: int) -> Example:
    i = int(self._index[index])
    return Example(self._images[i], int(self._labels[i]), f"digits/{i}")


class InkedDigits(Digits):
  """The digits with one label map each: ink where a pixel is above half intensity, else paper."""

  targets = Target.LABELS
  num_classes = 2
  class_names = ("paper", "ink")

  def __getitem__(self, index: int) -> Example:
    example = super().__getitem__(index)
    return example._replace(label=-1, target=(example.image[..., 0] > 127).astype(np.uint8))
