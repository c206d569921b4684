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
from swin_jax.tasks import image_input, masked_loss
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
    return masked_loss.normalise_target(images, target_norm_window, valid) if target_norm_window else images

  def init(rng, batch):
    return model.init(rng, mixing.normalise(batch["image"], mean, std), batch["mask"])["params"]

  def loss(params, batch, rng):
    images, (reconstruction, losses) = forward(params, batch, train=True, rngs={"dropout": rng})
    valid = batch.get("valid")
    value = masked_loss.masked_l1(reconstruction, target_of(images, valid), batch["mask"], patch_size, valid)
    return value, {"loss": (value, jnp.ones(()))}, losses

  def measure(params, batch):
    images, reconstruction = forward(params, batch)
    valid = batch.get("valid")
    each = jax.vmap(masked_loss.masked_l1, (0, 0, 0, None, None if valid is None else 0))
    errors, weight = (
      each(reconstruction, target_of(images, valid), batch["mask"], patch_size, valid),
      batch["weight"],
    )
    if valid is not None:  # an image whose masked pixels hold no data has no target, so it gets no weight
      hidden = masked_loss.pixel_mask(batch["mask"], patch_size, images.shape[1:-1])
      weight *= jnp.any(valid & hidden, axis=tuple(range(1, images.ndim)))
    return Measured({"loss": (jnp.sum(errors * weight), jnp.sum(weight))})

  def pictures(params, batch, bands=()):
    images, reconstruction = forward(params, batch)
    valid = batch.get("valid")
    masked = masked_loss.pixel_mask(batch["mask"], patch_size, images.shape[1:-1])
    pasted = jnp.where(
      masked, masked_loss.in_pixels(reconstruction, images, target_norm_window, valid), images
    )
    panels = jnp.stack([images, jnp.where(masked, 0.0, images), pasted], axis=1)
    panels = drawn.visible(panels, None if valid is None else valid[:, None], mean, std)
    return jnp.round(drawn.shown(panels, bands) * 255.0).astype(jnp.uint8)

  return Task(
    model,
    init,
    normalised(mean, std),
    loss,
    measure,
    model.encoder.flops,
    pictures,
    "reconstruction",
    ("original", "masked", "reconstructed"),
  )


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


def _warnings(config: ConfigDict, largest: tuple[int, int] | None) -> Sequence[str]:
  lines = image_input.warnings(config, largest)
  rows, columns = (side // config.mask.patch_size for side in config.data.image_size[-2:])
  if min(rows, columns) >= _FEWEST_CELLS:
    return lines
  return (
    *lines,
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
  metrics=lambda settings: {"loss": False},
  describe={"masked_pixels": ("target_norm_window",)},
  inputs=_inputs,
  fit=_fit,
  warnings=_warnings,
  outputs=_outputs,
  summarise=lambda settings: "masked-image model (SimMIM)",
)
