"""Training and evaluation views of an image together with the map of its pixels' classes or numbers.

Images of different sizes are placed on a canvas, so that they can share a batch. Outside the image, the
canvas holds NaN (no data) for float32 and the rounded mean of each band for uint8; the map is unknown there.

"valid", bool [height, width], marks the pixels of a float32 image that hold data in any band after resizing
and cropping. The map is unknown everywhere else. uint8 images have no such field.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from swin_jax.data.read import image_ops, labels, targets
from swin_jax.data.read.decoding import Decoded

# largest share of a crop's labelled pixels that one class may cover, as in mmseg's recipe for ADE20K
MAX_CLASS_SHARE = 0.75
_TRIES = 10  # attempts to find such a crop, also as in mmseg


def fit(size: tuple[int, int], sides: tuple[int, ...], factor: float = 1.0) -> tuple[int, int]:
  """Returns the largest (height, width) of the same aspect ratio whose long and short sides do not exceed the
  two of `sides`, times `factor`.

  Without `sides`, returns the size itself times `factor`.
  """
  scale = factor * (min(max(sides) / max(size), min(sides) / min(size)) if sides else 1.0)
  return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


@dataclasses.dataclass(frozen=True)
class Augment:
  """Training view: random resize, crop and mirroring; colours are augmented on the device (`photometric.py`).

  Follows the ADE20K recipe (Swin V1, section A2.3).

  Attributes:
    image_size: (height, width) of the crop in pixels.
    sides: long and short side, in pixels, that an image is first fitted into, or (); see `fit`.
    scale_range: range of the additional uniform random factor.
    flip_probability: probability of mirroring left and right.
    interpolation: interpolation of the image.
    fill: value per band outside the image.
    field: name of the map in the batch.
    rotate: whether to rotate square crops by a random multiple of 90°.
  """

  image_size: tuple[int, int]
  sides: tuple[int, ...]
  scale_range: tuple[float, float]
  flip_probability: float
  interpolation: str
  fill: tuple[float, ...]
  field: str
  rotate: bool = False

  def __call__(self, example: Decoded, rng: np.random.Generator) -> dict[str, np.ndarray]:
    size = fit(example.image.shape[:2], self.sides, rng.uniform(*self.scale_range))
    whole = fitted(example.image, example.target, size, self.interpolation)
    top, left = self._corner(whole.target, rng)
    crop = np.s_[top : top + self.image_size[0], left : left + self.image_size[1]]
    columns = np.s_[:, ::-1] if rng.random() < self.flip_probability else np.s_[:]
    crops = Fitted(*(x if x is None else x[crop][columns] for x in whole))
    view = on_canvas(crops, self.image_size, self.fill, self.field)
    turns = rng.integers(4) if self.rotate else 0
    return {name: np.ascontiguousarray(np.rot90(x, turns)) for name, x in view.items()} if turns else view

  def _corner(self, target_map: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
    """Returns (top, left) of a random crop.

    For class maps, draws up to `_TRIES` times, until no class dominates the crop.
    """
    spare = [max(side - length, 0) for side, length in zip(target_map.shape, self.image_size, strict=True)]
    for _ in range(_TRIES):
      top, left = (int(rng.integers(each + 1)) for each in spare)
      if target_map.dtype != np.uint8:
        break
      crop = target_map[top : top + self.image_size[0], left : left + self.image_size[1]]
      counts = np.bincount(crop.ravel(), minlength=256)[: labels.NONE]
      if np.count_nonzero(counts) > 1 and counts.max() < MAX_CLASS_SHARE * counts.sum():
        break
    return top, left


@dataclasses.dataclass(frozen=True)
class EvalView:
  """Evaluation view: the whole image, fitted into the upper left of a canvas.

  The field "extent", int32 [2], holds its height and width there.

  Attributes:
    canvas: (height, width) of the images of a batch, in pixels.
    sides: long and short side, in pixels, that an image is first fitted into, or (); see `fit`. An image that
      is still larger than the canvas is shrunk to fit.
    interpolation, fill, field: as in `Augment`.
  """

  canvas: tuple[int, int]
  sides: tuple[int, ...]
  interpolation: str
  fill: tuple[float, ...]
  field: str

  def __call__(self, example: Decoded, rng: np.random.Generator) -> dict[str, np.ndarray]:
    del rng
    old = example.image.shape[:2]
    size = fit(old, self.sides)
    if size[0] > self.canvas[0] or size[1] > self.canvas[1]:
      scale = min(self.canvas[0] / old[0], self.canvas[1] / old[1])
      size = tuple(
        min(max(1, int(side * scale + 0.5)), most) for side, most in zip(old, self.canvas, strict=True)
      )
    whole = fitted(example.image, example.target, size, self.interpolation)
    extent = {"extent": np.int32(whole.target.shape)}
    return on_canvas(whole, self.canvas, self.fill, self.field) | extent


class Fitted(NamedTuple):
  """An image and its map at the size at which the model sees them.

  Attributes:
    image: [height, width, bands].
    target: [height, width], unknown where the image holds no data.
    valid: bool [height, width], true where the image holds data; None if it does everywhere.
  """

  image: np.ndarray
  target: np.ndarray
  valid: np.ndarray | None


def fitted(image: np.ndarray, target: np.ndarray, size: tuple[int, int], interpolation: str) -> Fitted:
  """Returns the image and its map resized to `size` (height, width)."""
  if image.shape[:2] != tuple(size):
    image = image_ops.resize(image, size, interpolation)
  valid = image_ops.valid_pixels(image)
  return Fitted(image, targets.where_valid(targets.resize(target, size), valid), valid)


def on_canvas(
  view: Fitted, canvas: tuple[int, int], fill: tuple[float, ...], field: str
) -> dict[str, np.ndarray]:
  """Returns the fields of an example: its view at the upper left of a canvas of (height, width)."""
  height, width = view.target.shape
  image = np.empty((*canvas, view.image.shape[-1]), view.image.dtype)
  image[...] = np.asarray(fill, image.dtype)
  image[:height, :width] = view.image
  target = np.full(canvas, targets.unknown(view.target.dtype), view.target.dtype)
  target[:height, :width] = view.target
  if view.valid is None:
    return {"image": image, field: target}
  valid = np.zeros(canvas, bool)
  valid[:height, :width] = view.valid
  return {"image": image, field: target, "valid": valid}
