"""The digits of scikit-learn, as a source of examples."""

import numpy as np

from swin_jax.data.read.example import Example
from swin_jax.data.read.targets import Target
from swin_jax.terminal.errors import BadInput


class Digits:
  """The handwritten digits that ship with scikit-learn: 1,797 real grey images of 8 × 8 pixels, ten classes.

  A fixed permutation holds out the last fifth (360) as split "val"; the rest is "train".
  """

  targets = Target.NOTHING
  labels, listing, files = (), b"", ()
  num_classes = 10
  class_names = tuple("0123456789")

  def __init__(self, split: str):
    from sklearn.datasets import load_digits  # slow to import, and few runs need it

    if split not in ("train", "val"):
      raise BadInput(f"digits have no split '{split}'; they have train, val")
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


class InkedDigits(Digits):
  """The digits with one label map each: ink where a pixel is above half intensity, else paper."""

  targets = Target.LABELS
  num_classes = 2
  class_names = ("paper", "ink")

  def __getitem__(self, index: int) -> Example:
    example = super().__getitem__(index)
    return example._replace(label=-1, target=(example.image[..., 0] > 127).astype(np.uint8))
