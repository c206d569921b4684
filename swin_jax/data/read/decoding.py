"""Decoders of examples. All raise ValueError if an example is damaged or unlike the others."""

import dataclasses
from typing import NamedTuple

import numpy as np

from swin_jax.data.read import array_files, image_ops, targets
from swin_jax.data.read.example import Example


class Decoded(NamedTuple):
  """A decoded example, the input of views.

  Attributes:
    image: [height, width, bands].
    target: map [height, width] of the class or number of each pixel, see `targets.py`; None if not read.
    label: class of the whole image; -1: none.
  """

  image: np.ndarray
  target: np.ndarray | None = None
  label: int = -1


@dataclasses.dataclass(frozen=True)
class DecodeImage:
  """Decodes the image and ignores maps.

  Attributes:
    bands: number of bands that the image must have; for files see `image_ops.decode`.
    dtype: "uint8", or "float32" for numbers of any type, unscaled, NaN where there is no data.
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
  """Decodes the image and its map; the map becomes unknown where the image holds no data."""

  def __call__(self, example: Example) -> Decoded:
    image, target = self._image(example), targets.decode(example.target)
    target = targets.upright(
      target, example.image
    ).map  # sets that older versions prepared hold maps as stored
    targets.check_size(target.shape, image.shape[:2])
    return Decoded(image, targets.where_valid(target, image_ops.valid_pixels(image)), example.label)
