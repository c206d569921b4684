"""Where the images of a config come from, and how they become batches."""

from collections.abc import Callable
import os

from ml_collections import ConfigDict

from swin_jax.data.feed import pipeline
from swin_jax.data.read import decoding, sources, statistics
from swin_jax.data.view import dense_views, views
from swin_jax.tasks import kinds
from swin_jax.terminal.errors import BadInput


def open_input(config: ConfigDict) -> pipeline.Input:
  """The sources of a config, and how their images become batches.

  Raises:
    BadInput: see `sources.open_source`; or what is there is not what the config is for.
  """
  d = config.data
  targets = kinds.TARGETS[config.task]
  train_source, eval_source = (
    sources.open_source(d.source, d.path, split, targets) for split in (d.train_split, d.eval_split)
  )
  if config.task == "classification" and train_source.targets:
    raise BadInput(
      f"{d.path} has {train_source.targets} of pixels, not of images, so task=classification cannot be; for"
      " these:"
      " configs/own_labels.py, of rasters own_rasters.py:segment, and :regress"
    )
  _check_bands(d)
  train_view, eval_view = _mapped_views(config) if targets else _image_views(config)
  return pipeline.Input(
    train_source=train_source,
    eval_source=eval_source,
    train_view=train_view,
    eval_view=eval_view,
    decode=(decoding.DecodeMapped if targets else decoding.DecodeImage)(len(d.mean), d.dtype),
    seed=config.seed,
    batch_size=d.batch_size,
    eval_batch_size=d.eval_batch_size,
    max_bad_fraction=d.max_bad_fraction,
    num_threads=d.num_threads,
    num_workers=d.num_workers,
  )


def _check_bands(d: ConfigDict) -> None:
  """Refuses, where statistics tell of it, a set whose every image would be."""
  if d.source != "array_record" or not os.path.exists(statistics.path_of(d.path)):
    return
  found = statistics.read(d.path)
  statistics.check_type(d.path, found, d.dtype)
  there, wanted = len(found["mean"]), len(d.mean)
  if there != wanted and not {there, wanted} <= {1, 3}:  # grey and colour become each other
    raise BadInput(
      f"{d.path} has images of {there} bands, data.mean and the run of {wanted}: take the data or the run"
      " of the other number"
    )


def _image_views(config: ConfigDict) -> tuple[Callable, Callable]:
  """(training, evaluation) views of images alone."""
  d, a = config.data, config.augment
  mask = None
  if config.task == "masked_pixels":
    mask = views.Mask(config.mask.patch_size, config.model.patch_size, config.mask.ratio)
  augment = views.Augment(
    image_size=d.image_size,
    crop_scale=a.crop_scale,
    crop_ratio=a.crop_ratio,
    crop_padding=a.crop_padding,
    interpolation=a.interpolation,
    flip_probability=a.flip_probability,
    mask=mask,
    rotate=a.rotate,
  )
  return augment, views.EvalView(d.image_size, a.eval_crop_fraction, a.interpolation, mask)


def _mapped_views(config: ConfigDict) -> tuple[Callable, Callable]:
  """(training, evaluation) views of images with maps."""
  d, a, dense = config.data, config.augment, config.dense
  fill = tuple(round(255 * mean) for mean in d.mean) if d.dtype == "uint8" else tuple(d.mean)
  augment = dense_views.Augment(
    image_size=d.image_size,
    sides=dense.sides,
    scale_range=dense.scale_range,
    flip_probability=a.flip_probability,
    interpolation=a.interpolation,
    fill=fill,
    rotate=a.rotate,
  )
  return augment, dense_views.EvalView(dense.eval_canvas, dense.sides, a.interpolation, fill)
