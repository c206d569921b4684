"""Example → what a view is made of. All raise ValueError for what is damaged or unlike the others."""

import dataclasses
from typing import NamedTuple

import numpy as np

from swin_jax.data.read import array_files, image_ops, targets
from swin_jax.data.read.example import Example


class Decoded(NamedTuple):
  """An example as views take it.

  Attributes:
    image: [height, width, bands].
    target: map [height, width] of what belongs to each of its pixels, see `targets.py`; None where it is not
      read.
    label: class of the whole image; -1: none.
  """

  image: np.ndarray
  target: np.ndarray | None = None
  label: int = -1


@dataclasses.dataclass(frozen=True)
class DecodeImage:
  """Decodes the image and leaves maps alone.

  Attributes:
    bands: that it must have; of files see `image_ops.decode`.
    dtype: "uint8", or "float32" for numbers of any kind as they are, NaN where there is no data.
  """

  bands: int
  dtype: str = "uint8"

  def __call__(self, example: Example) -> Decoded:
    return Decoded(self._image(example), label=example.label)

  def _image(self, example: Example) -> np.ndarray:
    image = array_files.unpack(example.image) if array_files.is_packed(example.image) else example.image
    if self.dtype == "uint8" or isinstance(image, bytes):
      return image_ops.decode(image, self.bands).astype(self.dtype, copy=False)
    if image.ndim != 3 or image.shape[-1] != self.bands:
      raise ValueError(f"is {image.dtype} {list(image.shape)}, not [height, width, {self.bands}]")
    return image.astype(self.dtype, copy=False)


@dataclasses.dataclass(frozen=True)
class DecodeMapped(DecodeImage):
  """Decodes the image and its map; where the image holds no data nothing is known either."""

  def __call__(self, example: Example) -> Decoded:
    image, target = self._image(example), targets.decode(example.target)
    targets.check_size(target.shape, image.shape[:2])
    return Decoded(image, targets.where_valid(target, image_ops.valid_pixels(image)), example.label)
