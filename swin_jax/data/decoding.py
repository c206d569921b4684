"""Example → what a view is made of. Raises ValueError for what is damaged or unlike the others."""

import dataclasses

import numpy as np

from swin_jax.data import image_ops
from swin_jax.data.example import Example


@dataclasses.dataclass(frozen=True)
class DecodeImage:
  """The image alone; see `image_ops.decode`."""

  bands: int

  def __call__(self, example: Example) -> np.ndarray:
    return image_ops.decode(example.image, self.bands)
