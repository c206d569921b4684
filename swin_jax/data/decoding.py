"""Example → what a view is made of. All raise ValueError for what is damaged or unlike the others."""

import dataclasses
from typing import NamedTuple

import numpy as np

from swin_jax.data import image_ops
from swin_jax.data import labels
from swin_jax.data.example import Example


@dataclasses.dataclass(frozen=True)
class DecodeImage:
  """The image alone; see `image_ops.decode`."""

  bands: int

  def __call__(self, example: Example) -> np.ndarray:
    return image_ops.decode(example.image, self.bands)


class Labelled(NamedTuple):
  """An image [height, width, bands] and its label map uint8 [height, width]; see `labels.py`."""

  image: np.ndarray
  labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class DecodeLabels(DecodeImage):
  """The image and its label map."""

  def __call__(self, example: Example) -> Labelled:
    image, found = super().__call__(example), labels.decode(example.target)
    labels.check_size(found, image.shape[:2])
    return Labelled(image, found)
