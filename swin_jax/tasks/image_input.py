"""Config keys and batches of the tasks whose input is whole images: classification and masked pixels."""

from collections.abc import Callable, Sequence
import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from swin_jax.data.view import views
from swin_jax.mesh import axes, sharding
from swin_jax.models.backbone import Settings
from swin_jax.ops import rand_augment
from swin_jax.tasks import augmentation
from swin_jax.tasks.task import Fields, SavedView
from swin_jax.terminal import rules
from swin_jax.terminal.errors import BadInput

_STEP, _LEAST_SIDE = 32, 64  # pixels, of the image size that a warning proposes
READS = ("augment",)
RULES = {
  **augmentation.RULES,
  "augment.crop_scale": rules.Items(rules.Real(0.001, 1), (2,), rising=True),
  "augment.crop_ratio": rules.Items(rules.Real(0.01, 100), (2,), rising=True),
  "augment.crop_padding": rules.Whole(0, 4096),
  "augment.rand_augment_operations": rules.Whole(0, 16),
  "augment.rand_augment_probability": rules.Real(0, 1),
  "augment.rand_augment_magnitude": rules.Real(0, 10),
  "augment.rand_augment_magnitude_std": rules.Real(0, 10),
  "augment.eval_crop_fraction": rules.Real(0.01, 1),
}


def fields(config: ConfigDict) -> Fields:
  """Returns the image field of a batch."""
  return {"image": ((*config.data.image_size, len(config.data.mean)), jnp.dtype(config.data.dtype))}


def valid_bands(config: ConfigDict) -> Fields:
  """Returns the field that marks, per band, where float32 images hold data; no field for uint8."""
  shape, dtype = fields(config)["image"]
  return {"valid": (shape, jnp.bool_)} if dtype == jnp.float32 else {}


def image_views(config: ConfigDict) -> tuple[views.Augment, views.EvalView]:
  """Returns the (training, evaluation) views of the image, without a target.

  Raises:
    BadInput: the model is one of clips, which no view reads.
  """
  augmentation.check_images(config)
  d, a = config.data, config.augment
  augmented = views.Augment(
    image_size=d.image_size,
    crop_scale=a.crop_scale,
    crop_ratio=a.crop_ratio,
    crop_padding=a.crop_padding,
    interpolation=a.interpolation,
    flip_probability=a.flip_probability,
    rotate=a.rotate,
  )
  return augmented, _eval_view(config)


def _eval_view(settings: Settings) -> views.EvalView:
  size, shown = tuple(settings["data"]["image_size"]), settings["augment"]
  return views.EvalView(size, shown["eval_crop_fraction"], shown["interpolation"])


def _saved_view(settings: Settings) -> Callable[[np.ndarray], np.ndarray]:
  view = _eval_view(settings)
  return lambda image: view(image, None)["image"]


# the defaults are those of the config
SAVED_VIEW = SavedView(_saved_view, {"augment": {"interpolation": "bicubic", "eval_crop_fraction": 0.875}})


def augment(config: ConfigDict) -> Callable[[dict, jax.Array], dict] | None:
  """Returns the function that applies RandAugment to a batch on the device; None if it is off."""
  a = config.augment
  if not a.rand_augment_operations:
    return None

  def apply(batch, rng):
    images = batch["image"]
    drawn = rand_augment.draw(
      rng,
      len(images),
      operations=a.rand_augment_operations,
      probability=a.rand_augment_probability,
      magnitude=a.rand_augment_magnitude,
      magnitude_std=a.rand_augment_magnitude_std,
    )
    names = [(axes.BATCH, None, None, None), (axes.BATCH, None), (axes.BATCH, None)]
    return batch | {"image": sharding.per_device(rand_augment.apply, (images, *drawn), names, names[0])}

  return apply


def check(config: ConfigDict) -> None:
  """Checks the keys of `READS`.

  Raises:
    BadInput: an augmentation does not support these images.
  """
  augmentation.check(config)
  a, d = config.augment, config.data
  if a.rand_augment_operations and len(d.mean) not in rand_augment.BANDS:
    raise BadInput(
      f"RandAugment needs images of 1 or 3 bands, but data.mean has {len(d.mean)}: set"
      " augment.rand_augment_operations=0"
    )
  if a.rand_augment_operations and d.dtype != "uint8":
    raise BadInput(
      f"RandAugment needs uint8 images, but data.dtype is {d.dtype}: set augment.rand_augment_operations=0"
    )
  if a.rand_augment_operations and len(d.image_size) != 2:
    raise BadInput(
      f"RandAugment needs images of two axes, but data.image_size = {d.image_size}: set"
      " augment.rand_augment_operations=0"
    )
  if a.crop_padding and a.eval_crop_fraction != 1.0:
    raise BadInput("augment.crop_padding is for small, uncropped images: set augment.eval_crop_fraction=1.0")
  if a.crop_padding >= min(d.image_size):
    raise BadInput(
      f"config.augment.crop_padding = {a.crop_padding} must be less than the sides of data.image_size ="
      f" {d.image_size}, or some crops hold nothing of the image"
    )


def warnings(config: ConfigDict, largest: tuple[int, int] | None) -> Sequence[str]:
  """Returns a line if data.image_size enlarges every training image; see `TaskKind.warnings`."""
  *frames, height, width = config.data.image_size
  size = (height, width)
  if largest is None:
    return ()
  scale = min(1.0, *(side / shown for side, shown in zip(largest, size, strict=True)))
  proposed = tuple(min(shown, max(_LEAST_SIDE, math.ceil(shown * scale / _STEP) * _STEP)) for shown in size)
  if proposed == size:
    return ()
  given, proposed = tuple(config.data.image_size), (*frames, *proposed)
  return (
    f"data.image_size = {given} enlarges every training image, the largest of {largest[0]} × {largest[1]} px,"
    f" which takes time and adds no detail: give --config.data.image_size={','.join(map(str, proposed))}",
  )
