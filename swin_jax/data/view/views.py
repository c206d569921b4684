"""Training and evaluation views: what the model sees of a decoded image, after augmentation."""

from collections.abc import Callable
import dataclasses

import numpy as np

from swin_jax.data.read import image_ops
from swin_jax.data.read.decoding import Decoded
from swin_jax.data.view import crops, masks


@dataclasses.dataclass(frozen=True)
class Mask:
  """Draws the masks of SimMIM; see `masks.block_mask`."""

  mask_patch_size: int
  model_patch_size: int
  ratio: float

  def __call__(self, image_size: tuple[int, int], rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {
      "mask": masks.block_mask(rng, image_size, self.mask_patch_size, self.model_patch_size, self.ratio)
    }


@dataclasses.dataclass(frozen=True)
class Augment:
  """Training view of a decoded image: random crop, mirroring and rotation; the rest runs on the device.

  Attributes:
    image_size: (height, width) in pixels.
    crop_scale, crop_ratio, interpolation: see `crops.random_resized_crop`.
    crop_padding: if positive, `crops.random_crop` at the target size replaces the resized crop.
    flip_probability: probability of mirroring left and right.
    rotate: whether to rotate by a random multiple of 90°.
  """

  image_size: tuple[int, int]
  crop_scale: tuple[float, float]
  crop_ratio: tuple[float, float]
  crop_padding: int
  interpolation: str
  flip_probability: float
  rotate: bool = False

  def __call__(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    if self.crop_padding:
      image = crops.random_crop(
        image_ops.resize(image, self.image_size, self.interpolation), rng, self.crop_padding
      )
    else:
      image = crops.random_resized_crop(
        image, rng, self.image_size, self.crop_scale, self.crop_ratio, self.interpolation
      )
    image = crops.random_flip(image, rng, self.flip_probability)
    image = crops.random_rotation(image, rng) if self.rotate else image
    return {"image": np.ascontiguousarray(image)}


@dataclasses.dataclass(frozen=True)
class EvalView:
  """Evaluation view of a decoded image: a central crop; see `crops.center_crop`."""

  image_size: tuple[int, int]
  crop_fraction: float
  interpolation: str

  def __call__(self, image: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    del rng
    image = crops.center_crop(image, self.image_size, self.crop_fraction, self.interpolation)
    return {"image": np.ascontiguousarray(image)}


# (decoded image, rng) → the batch fields derived from it
ImageView = Callable[[np.ndarray, np.random.Generator], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Labelled:
  """View of an example with a class: the view of its image, plus the class as "label", int32."""

  view: ImageView

  def __call__(self, example: Decoded, rng: np.random.Generator) -> dict[str, np.ndarray]:
    return self.view(example.image, rng) | {"label": np.int32(example.label)}


@dataclasses.dataclass(frozen=True)
class Masked:
  """View of an example for SimMIM: the view of its image, a mask and, for float32, where the image holds
  data.

  The latter is "valid", bool [height, width, bands], after resizing and cropping; uint8 has no such field.
  """

  view: ImageView
  mask: Mask

  def __call__(self, example: Decoded, rng: np.random.Generator) -> dict[str, np.ndarray]:
    fields = self.view(example.image, rng)
    valid = image_ops.valid_bands(fields["image"])
    fields |= {} if valid is None else {"valid": valid}
    return fields | self.mask(fields["image"].shape[:2], rng)
