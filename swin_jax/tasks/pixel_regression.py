"""Pixel regression with UPerNet: one number per pixel, for example height, biomass or temperature."""

from collections.abc import Callable, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from swin_jax.data.read.decoding import DecodeMapped
from swin_jax.data.read.targets import Target
from swin_jax.drawing import legend, value_pictures
from swin_jax.drawing import pixels as drawn
from swin_jax.models import upernet
from swin_jax.models.backbone import Backbone, Settings
from swin_jax.ops import mixing
from swin_jax.tasks import dense, pixel_input
from swin_jax.tasks.task import Drawing, Measured, Outputs, PixelAnswers, Task, TaskKind, normalised
from swin_jax.terminal import rules
from swin_jax.terminal.errors import BadInput

# Evaluation metrics, all errors; the first ranks evaluations by default.
_METRICS = ("mean_absolute_error", "mean_squared_error", "relative_squared_error", "loss")


def make_task(
  model: upernet.UPerNet,
  *,
  mean: Sequence[float],
  std: Sequence[float],
  value_mean: float,
  value_std: float,
  views: dense.TestTimeViews,
) -> Task:
  """Returns the task of pixel regression with UPerNet.

  The model's output and the loss are in standard deviations, (value - value_mean) / value_std, as is
  everything else unless noted.

  Args:
    model: backbone and head with one output.
    mean, std: per band, used to normalise the images.
    value_mean, value_std: mean and standard deviation of the values, in their unit.
    views: views that evaluation averages over.
  """

  def target(batch):
    return (batch["value_map"] - value_mean) / value_std

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

  def measure(params, batch):
    expected = jnp.where(batch["weight"][:, None, None] > 0, target(batch), jnp.nan)
    return Measured(error_sums(predicted(params, batch), expected, value_std))

  def pictures(params, batch, bands=()):
    predictions, valid = predicted(params, batch), batch.get("valid")
    predictions = predictions if valid is None else jnp.where(valid, predictions, jnp.nan)
    pixels = drawn.as_rgb(mixing.normalise(batch["image"], mean, std), valid, mean, std, bands)
    inside = drawn.inside(batch.get("extent"), pixels)
    return value_pictures.value_panels(pixels, predictions, target(batch), inside)

  return Task(
    model,
    init,
    normalised(mean, std),
    loss,
    measure,
    functools.partial(upernet.flops, model),
    pictures,
    pictures_show="regression",
    titles=drawn.TITLES,
    legend=lambda picture, _: legend.with_scales(picture, value_mean, value_std),
    exchanged=functools.partial(upernet.exchanged, model),
  )


def known_l1(scores: jax.Array, target: jax.Array) -> jax.Array:
  """Returns the mean absolute error over all pixels of the batch whose value is known; 0 if none is.

  Args:
    scores: float32 [B, H, W, 1]; resized here to the size of the target.
    target: float32 [B, height, width], NaN where the value is unknown.
  """
  known = ~jnp.isnan(target)
  scores = dense.resize(scores, target.shape[1:3])[..., 0]
  return jnp.sum(jnp.where(known, jnp.abs(scores - target), 0.0)) / jnp.maximum(jnp.sum(known), 1)


def error_sums(
  predicted: jax.Array, target: jax.Array, unit: float
) -> dict[str, tuple[jax.Array, jax.Array]]:
  """Returns the sums of the regression metrics.

  Args:
    predicted, target: float32, of one shape, in standard deviations; NaN in the target marks unknown values.
    unit: one standard deviation in the unit of the values.

  Returns:
    loss: mean absolute error in standard deviations.
    mean_absolute_error, mean_squared_error: in the unit of the values, and in its square.
    relative_squared_error: squared error relative to that of the constant prediction 0, which is the mean
      of the training values.
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


def draw(
  settings: Settings,
  class_names: Sequence[str],
  pixels: jax.Array,
  predictions: np.ndarray,
  truth: np.ndarray | None,
) -> Drawing:
  """Draws the predicted values of an image, which are in their unit, as colours; see `task.PixelAnswers`."""
  del class_names
  known = np.full(predictions.shape, np.nan, np.float32) if truth is None else truth
  mean, std = (settings["pixel_regression"][name] for name in ("value_mean", "value_std"))
  panels = value_pictures.value_panels(pixels, (predictions[None] - mean) / std, (known[None] - mean) / std)
  both = ~np.isnan(known) & ~np.isnan(predictions)
  error = np.mean(np.abs(known - predictions)[both]) if both.any() else 0
  return Drawing(
    np.asarray(panels)[0],
    None if truth is None else f"{error:.4g} in the mean",
    lambda picture: legend.with_scales(picture, mean, std, truth is not None),
  )


def _module(backbone: Backbone, settings: Settings) -> upernet.UPerNet:
  head = {key: settings["pixel_regression"][key] for key in pixel_input.HEAD}
  return upernet.UPerNet(backbone, num_classes=1, **head)


def _make(backbone: Backbone, config: ConfigDict) -> Task:
  return make_task(
    _module(backbone, config),
    mean=config.data.mean,
    std=config.data.std,
    value_mean=config.pixel_regression.value_mean,
    value_std=config.pixel_regression.value_std,
    views=pixel_input.test_time_views(config),
  )


def _fill(config: ConfigDict, trained: Settings | None, read: Callable[[str], dict[str, Any]]) -> None:
  """Fills in mean and standard deviation of the values if the config leaves them to the data.

  Raises:
    BadInput: one is given without the other, or there is no prepared set with statistics of values.
  """
  c = config.pixel_regression
  if c.value_std:
    return
  if trained:
    c.update({name: trained["pixel_regression"][name] for name in ("value_mean", "value_std")})
    return
  if c.value_mean:
    raise BadInput(
      "config.pixel_regression.value_mean is given without value_std: give both, or neither to use the "
      "data's statistics.json"
    )
  if config.data.source != "array_record" or not config.data.path:
    raise BadInput(
      "pixel_regression.value_std = 0 means the statistics.json of a set that prepare wrote: give "
      "--config.data.path of such a set, or both numbers, as in --config.pixel_regression.value_mean=250"
      " --config.pixel_regression.value_std=80"
    )
  statistics = read(config.data.path)
  if Target.VALUES not in statistics:
    raise BadInput(
      f"{config.data.path} holds no values of pixels: prepare it from a folder with SPLIT/images and"
      " SPLIT/values; see the README"
    )
  values = statistics[Target.VALUES]
  c.update(value_mean=values["mean"][0], value_std=values["std"][0] or 1.0)


def _outputs(settings: Settings) -> Outputs:
  """Returns values in their unit [B, H, W, 1]."""
  mean, std = (settings["pixel_regression"][name] for name in ("value_mean", "value_std"))
  return Outputs("values", lambda output: output * std + mean)


KIND = TaskKind(
  needs=Target.VALUES,
  group="pixel_regression",
  reads=("pixel_regression", *pixel_input.READS),
  fields=lambda config: pixel_input.fields(config, "value_map", jnp.float32),
  views=lambda config: pixel_input.views(config, "value_map"),
  decode=DecodeMapped,
  augment=pixel_input.augment,
  rules={
    **pixel_input.RULES,
    **{f"pixel_regression.{key}": rule for key, rule in pixel_input.HEAD.items()},
    "pixel_regression.value_mean": rules.MEAN,
    "pixel_regression.value_std": dataclasses.replace(rules.STD, or_zero=True),
  },
  check=lambda config: pixel_input.check(config, "pixel_regression"),
  warnings=pixel_input.warnings,
  check_saved=lambda settings: pixel_input.check_head(settings, "pixel_regression"),
  module=_module,
  make=_make,
  metrics=lambda settings: dict.fromkeys(_METRICS, False),
  describe={"pixel_regression": (*pixel_input.HEAD, "value_mean", "value_std"), **pixel_input.DESCRIBE},
  outputs=_outputs,
  summarise=lambda settings: "UPerNet of one value",
  fill=_fill,
  evaluation=pixel_input.evaluation,
  head=tuple(pixel_input.HEAD),
  defaults_of_old_formats=pixel_input.OLD_HEAD,
  pixels=PixelAnswers("regress", "number", lambda scores: scores[..., 0], draw),
)
