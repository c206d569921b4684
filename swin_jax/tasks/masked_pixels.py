"""Masked image modelling: predict the pixels of the masked patches (SimMIM, section 3)."""

from collections.abc import Mapping, Sequence
import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from swin_jax.data.read.targets import Target
from swin_jax.data.view import masks
from swin_jax.data.view.views import Mask, Masked
from swin_jax.drawing import pixels as drawn
from swin_jax.models import levels_of
from swin_jax.models.backbone import Backbone, Settings
from swin_jax.models.simmim import SimMim
from swin_jax.ops import mixing
from swin_jax.tasks import image_input
from swin_jax.tasks import pictures as logged
from swin_jax.tasks.task import Fields, Measured, Outputs, Task, TaskKind, normalised
from swin_jax.terminal import rules
from swin_jax.terminal.errors import BadInput

_FEWEST_CELLS = 4  # along a side; a mask with fewer is named


def make_task(model: SimMim, *, mean: Sequence[float], std: Sequence[float], target_norm_window: int) -> Task:
  """Returns the task of SimMIM pre-training.

  Args:
    model: backbone and decoder.
    mean, std: per band, used to normalise the images.
    target_norm_window: side in pixels of the neighbourhood whose statistics normalise the target; odd, or 0
      for raw pixels.

  Raises:
    BadInput: see `_check_window`.
  """
  _check_window(target_norm_window)
  patch_size = model.encoder.levels[0].stride

  def forward(params, batch, **kwargs):
    images = mixing.normalise(batch["image"], mean, std)
    return images, model.apply({"params": params}, images, batch["mask"], **kwargs)

  def target_of(images, valid):
    return normalise_target(images, target_norm_window, valid) if target_norm_window else images

  def init(rng, batch):
    return model.init(rng, mixing.normalise(batch["image"], mean, std), batch["mask"])["params"]

  def loss(params, batch, rng):
    images, (reconstruction, losses) = forward(params, batch, train=True, rngs={"dropout": rng})
    valid = batch.get("valid")
    value = masked_l1(reconstruction, target_of(images, valid), batch["mask"], patch_size, valid)
    return value, {"loss": (value, jnp.ones(()))}, losses

  def measure(params, batch):
    images, reconstruction = forward(params, batch)
    valid = batch.get("valid")
    each = jax.vmap(masked_l1, (0, 0, 0, None, None if valid is None else 0))
    errors, weight = (
      each(reconstruction, target_of(images, valid), batch["mask"], patch_size, valid),
      batch["weight"],
    )
    if valid is not None:  # an image whose masked pixels hold no data has no target, so it gets no weight
      hidden = pixel_mask(batch["mask"], patch_size, images.shape[1:-1])
      weight *= jnp.any(valid & hidden, axis=tuple(range(1, images.ndim)))
    return Measured({"loss": (jnp.sum(errors * weight), jnp.sum(weight))})

  def pictures(params, batch, bands=()):
    images, reconstruction = forward(params, batch)
    valid = batch.get("valid")
    masked = pixel_mask(batch["mask"], patch_size, images.shape[1:-1])
    pasted = jnp.where(masked, in_pixels(reconstruction, images, target_norm_window, valid), images)
    panels = jnp.stack([images, jnp.where(masked, 0.0, images), pasted], axis=1)
    panels = drawn.visible(panels, None if valid is None else valid[:, None], mean, std)
    return jnp.round(drawn.shown(panels, bands) * 255.0).astype(jnp.uint8)

  return Task(
    model,
    init,
    normalised(mean, std),
    loss,
    measure,
    ("eval/loss", False),
    model.encoder.flops,
    pictures,
    "reconstruction",
    ("original", "masked", "reconstructed"),
  )


def masked_l1(
  reconstruction: jax.Array,
  target: jax.Array,
  mask: jax.Array,
  patch_size: tuple[int, ...],
  valid: jax.Array | None = None,
) -> jax.Array:
  """Returns the mean absolute error over masked pixels and all bands.

  As in the official code, the denominator is Σmask + 1e-5. A band of a pixel without data has weight 0, and a
  pixel counts in the denominator as the fraction of its bands that hold data.

  Args:
    reconstruction, target: [..., height, width, bands] float32.
    mask: bool [..., H, W], one entry per patch, true = masked.
    patch_size: in pixels, one entry per axis.
    valid: bool, of the target's shape, true where it holds data; None for everywhere.

  Returns:
    scalar float32.
  """
  weight = pixel_mask(mask, patch_size, target.shape[-1 - len(patch_size) : -1]).astype(jnp.float32)
  count = weight
  if valid is not None:
    weight = weight * valid
    count = jnp.mean(weight, axis=-1)
  return jnp.sum(jnp.abs(target - reconstruction) * weight) / (jnp.sum(count) + 1e-5) / target.shape[-1]


def pixel_mask(mask: jax.Array, patch_size: tuple[int, ...], image_size: tuple[int, ...]) -> jax.Array:
  """Returns a mask per pixel, [..., *image_size, 1], from a mask per patch, [..., *map]."""
  for axis, patch in enumerate(patch_size, mask.ndim - len(patch_size)):
    mask = jnp.repeat(mask, patch, axis=axis)
  return mask[(..., *map(slice, image_size), None)]


def normalise_target(images: jax.Array, window: int, valid: jax.Array | None = None) -> jax.Array:
  """Returns each band of each pixel, normalised by the mean and standard deviation of the window × window
  pixels around it.

  Arguments and shapes are those of `local_statistics`.
  """
  mean, std = local_statistics(images, window, valid)
  return (images - mean) / std


def in_pixels(
  reconstruction: jax.Array, images: jax.Array, window: int, valid: jax.Array | None = None
) -> jax.Array:
  """Returns the reconstruction as normalised images, with `normalise_target` undone.

  With a normalised target the model predicts each pixel only relative to its neighbourhood. The mean and the
  standard deviation to undo that are taken from the original image.

  Args:
    reconstruction, images: [B, height, width, bands] float32; the images are normalised and not masked.
    window: as for `normalise_target`; 0 for raw pixels.
    valid: as for `local_statistics`.
  """
  if not window:
    return reconstruction
  mean, std = local_statistics(images, window, valid)
  return reconstruction * std + mean


def local_statistics(
  images: jax.Array, window: int, valid: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
  """Returns mean and standard deviation of the neighbourhood of each pixel, per band.

  At the border, only the pixels inside the image count. As in the official code (target normalisation of the
  V2 recipe), the variance is unbiased and the deviation is √(v + 1e-6), in float32. Each frame of a clip has
  its own statistics.

  Args:
    images: [B, height, width, bands] or, for clips, [B, frames, height, width, bands] float32.
    window: side of the neighbourhood in pixels, odd.
    valid: bool, of the images' shape, true where a value counts; the images must be 0 elsewhere. None for
      all.

  Returns:
    Mean and standard deviation, float32 of the images' shape.
  """

  def box_sum(x):  # separable: 2 · window additions per pixel instead of window²
    for axis in (x.ndim - 3, x.ndim - 2):
      shape = [1] * x.ndim
      shape[axis] = window
      x = jax.lax.reduce_window(x, 0.0, jax.lax.add, tuple(shape), (1,) * x.ndim, "SAME")
    return x

  if valid is None:
    count = box_sum(jnp.ones((1, *images.shape[1:-1], 1), jnp.float32))
  else:
    count = jnp.maximum(box_sum(valid.astype(jnp.float32)), 1)
  mean = box_sum(images) / count
  variance = box_sum(images * images) / count - mean * mean
  return mean, jnp.sqrt(jnp.maximum(variance * count / jnp.maximum(count - 1, 1), 0.0) + 1e-6)


def _make(backbone: Backbone, config: ConfigDict) -> Task:
  return make_task(
    _module(backbone, config), mean=config.data.mean, std=config.data.std, **config.masked_pixels
  )


def _module(backbone: Backbone, settings: Settings) -> SimMim:
  del settings
  return SimMim(backbone)


def _inputs(settings: Settings, image_size: tuple[int, int]) -> Fields:
  """Returns the mask field, which has one entry per token of the first level."""
  return {"mask": (levels_of(settings)[0].map_size(image_size), jnp.bool_)}


def _fields(config: ConfigDict) -> Fields:
  image = image_input.fields(config) | image_input.valid_bands(config)
  return image | _inputs(config, config.data.image_size)


def _views(config: ConfigDict) -> tuple[Masked, Masked]:
  mask = Mask(config.mask.patch_size, levels_of(config)[0].stride[-1], config.mask.ratio)
  return tuple(Masked(view, mask) for view in image_input.image_views(config))


def _check_window(window: int) -> None:
  """Checks that a neighbourhood of `window` pixels has a centre.

  Raises:
    BadInput: `window` is negative or even.
  """
  if window < 0 or (window and window % 2 == 0):
    raise BadInput(f"masked_pixels.target_norm_window = {window} must be odd, or 0 for raw pixels")


def _check(config: ConfigDict) -> None:
  image_input.check(config)
  logged.check(config)
  p, size, stride = config.mask.patch_size, config.data.image_size, levels_of(config)[0].stride
  # For clips, cells span height and width only.
  if any(p % side for side in stride[-2:]) or any(side % p for side in size[-2:]):
    raise BadInput(
      f"mask.patch_size = {p} must divide data.image_size = {size} and be a multiple of the backbone's patch"
      f" of {' × '.join(map(str, stride))} px"
    )
  cells, window = math.prod(side // p for side in size[-2:]), config.masked_pixels.target_norm_window
  if not 0 < masks.masked_cells(cells, config.mask.ratio) < cells:
    raise BadInput(
      f"config.mask.ratio = {config.mask.ratio} of the {cells} cells of mask.patch_size = {p} in"
      f" data.image_size = {size} masks none or all of them"
    )
  _check_window(window)
  if window >= 2 * max(size):
    raise BadInput(
      f"config.masked_pixels.target_norm_window = {window}: from {2 * max(size) - 1} on, every pixel has the"
      f" whole image around it, as data.image_size = {size}"
    )


def _fit(config: ConfigDict) -> Mapping[str, int]:
  stride, size = levels_of(config)[0].stride[-2:], config.data.image_size[-2:]
  return {"mask.patch_size": masks.fine_cell(size, math.lcm(*stride), config.mask.patch_size)}


def _warnings(config: ConfigDict) -> Sequence[str]:
  rows, columns = (side // config.mask.patch_size for side in config.data.image_size[-2:])
  if min(rows, columns) >= _FEWEST_CELLS:
    return ()
  return (
    f"the mask has only {rows} × {columns} cells of {config.mask.patch_size} px, from which the model learns"
    f" little more than mean colours: give --config.mask.patch_size={_fit(config)['mask.patch_size']}",
  )


def _outputs(settings: Settings) -> Outputs:
  """Returns the reconstruction, shaped like the images."""
  del settings
  return Outputs("reconstruction")


KIND = TaskKind(
  needs=Target.NOTHING,
  group="masked_pixels",
  reads=("masked_pixels", "mask", *image_input.READS, *logged.READS),
  fields=_fields,
  views=_views,
  augment=image_input.augment,
  rules={
    **image_input.RULES,
    **logged.RULES,
    "masked_pixels.target_norm_window": rules.Whole(0, 9999),
    "mask.patch_size": rules.Whole(1, 4096),
    "mask.ratio": rules.Real(0, 1, above=True, below=True),
  },
  check=_check,
  module=_module,
  make=_make,
  describe={"masked_pixels": ("target_norm_window",)},
  view=image_input.SAVED_VIEW,
  inputs=_inputs,
  fit=_fit,
  warnings=_warnings,
  outputs=_outputs,
  summarise=lambda settings: "masked-image model (SimMIM)",
)
