"""Pixel regression: a number for every pixel, such as height, biomass or temperature, by UPerNet with one
output.
"""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp

from swin_jax.drawing import legend, value_pictures
from swin_jax.drawing.pixels import as_rgb
from swin_jax.models import upernet
from swin_jax.models.backbone import Backbone
from swin_jax.ops import mixing
from swin_jax.ops.pixels import holds_data, valid
from swin_jax.tasks import dense
from swin_jax.tasks.task import Task


def make_task(
  encoder: Backbone,
  *,
  mean: Sequence[float],
  std: Sequence[float],
  channels: int,
  value_mean: float,
  value_std: float,
  views: dense.Views,
) -> Task:
  """Regression by UPerNet on a backbone.

  The model's output, the loss and what is not said to be otherwise are in deviations: (value - value_mean) /
  value_std.

  Args:
    encoder: the backbone.
    mean, std: of the images, per band.
    channels: of the head, see `upernet.UPerNet`.
    value_mean, value_std: of the values, in their unit.
    views: of evaluation.
  """
  model = upernet.UPerNet(encoder, 1, channels)

  def target(batch):
    return (batch["label"] - value_mean) / value_std

  def predicted(params, batch):
    images = mixing.normalise(batch["image"], mean, std)
    return dense.predict(
      functools.partial(model.apply, {"params": params}), images, views, lambda scores: scores
    )[..., 0]

  def init(rng, batch):
    return model.init(rng, mixing.normalise(batch["image"], mean, std))["params"]

  def loss(params, batch, rng):
    images = mixing.normalise(batch["image"], mean, std)
    both, losses = model.apply({"params": params}, images, train=True, rngs={"dropout": rng})
    main, auxiliary = (known_l1(scores, target(batch)) for scores in both)
    value, one = main + upernet.AUXILIARY_WEIGHT * auxiliary, jnp.ones(())
    sums = {"loss": (value, one), "main_loss": (main, one), "auxiliary_loss": (auxiliary, one)}
    return value, sums, losses

  def eval_sums(params, batch):
    wanted = jnp.where(batch["weight"][:, None, None] > 0, target(batch), jnp.nan)
    return error_sums(predicted(params, batch), wanted, value_std)

  def pictures(params, batch, bands=()):
    pixels = as_rgb(mixing.normalise(batch["image"], mean, std), valid(batch["image"]), mean, std, bands)
    found = jnp.where(holds_data(batch["image"]), predicted(params, batch), jnp.nan)
    return value_pictures.value_views(pixels, found, target(batch))

  return Task(
    model,
    init,
    loss,
    eval_sums,
    pictures,
    ("eval/mean_absolute_error", False),
    functools.partial(upernet.flops, model),
    pictures_show="regression",
    legend=lambda picture, _: legend.with_scales(picture, value_mean, value_std),
  )


def known_l1(scores: jax.Array, target: jax.Array) -> jax.Array:
  """Mean absolute error over the pixels of the batch whose number is known; 0 where none is.

  Args:
    scores: float32 [B, H, W, 1], resized to the target's size.
    target: float32 [B, height, width], NaN where it is not known.
  """
  known = ~jnp.isnan(target)
  scores = dense.resize(scores, target.shape[1:3])[..., 0]
  return jnp.sum(jnp.where(known, jnp.abs(scores - target), 0.0)) / jnp.maximum(jnp.sum(known), 1)


def error_sums(
  predicted: jax.Array, target: jax.Array, unit: float
) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Sums for the scores of numbers.

  Args:
    predicted, target: float32, of one shape, in deviations; NaN in the target is not known.
    unit: of a deviation.

  Returns:
    loss, in deviations; mean_absolute_error and mean_squared_error, in the unit of the values and its square;
    and relative_squared_error,
    to that of who always says 0: the mean in training.
  """
  known = ~jnp.isnan(target)
  target = jnp.where(known, target, 0.0)
  errors = jnp.where(known, predicted - target, 0.0)
  count, absolute, squared = jnp.sum(known), jnp.sum(jnp.abs(errors)), jnp.sum(errors**2)
  return {
    "loss": (absolute, count),
    "mean_absolute_error": (absolute * unit, count),
    "mean_squared_error": (squared * unit**2, count),
    "relative_squared_error": (squared, jnp.sum(target**2)),
  }
