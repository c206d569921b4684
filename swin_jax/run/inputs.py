"""Opens the input pipeline of a config: sources, decoding, views and batches."""

import os

from ml_collections import ConfigDict

from swin_jax.data.feed import pipeline
from swin_jax.data.read import sources, statistics
from swin_jax.data.read.example import Source
from swin_jax.data.read.targets import Target
from swin_jax.tasks import kind_of
from swin_jax.terminal.errors import BadInput


def open_sources(config: ConfigDict) -> tuple[Source, Source]:
  """Returns the sources of the training and the evaluation images.

  Raises:
    BadInput: see `sources.open_sources`; or targets or bands of the data do not match the config.
  """
  d, kind = config.data, kind_of(config)
  splits = (d.train_split, d.eval_split)
  train_source, eval_source = sources.open_sources(d.source, d.path, splits, kind.needs)
  if kind.needs and train_source.targets not in (kind.needs, Target.NOTHING):
    recipes = (
      f"--config={name}" for of_rasters in (False, True) for name in train_source.targets.recipes(of_rasters)
    )
    raise BadInput(
      f"{d.path} has {train_source.targets} of pixels, not of images, so task={config.task} is not possible; "
      f"for these: {', of rasters '.join(recipes)}"
    )
  _check_bands(d)
  return train_source, eval_source


def open_input(config: ConfigDict) -> pipeline.Input:
  """Returns the input pipeline of a config. See `open_sources`."""
  return connect(config, *open_sources(config))


def connect(config: ConfigDict, train_source: Source, eval_source: Source) -> pipeline.Input:
  """Returns the input pipeline of a config that reads from these sources."""
  d, kind = config.data, kind_of(config)
  train_view, eval_view = kind.views(config)
  return pipeline.Input(
    train_source=train_source,
    eval_source=eval_source,
    train_view=train_view,
    eval_view=eval_view,
    decode=kind.decode(len(d.mean), d.dtype),
    seed=config.seed,
    batch_size=d.batch_size,
    eval_batch_size=d.eval_batch_size,
    max_bad_fraction=d.max_bad_fraction,
    num_threads=d.num_threads,
    num_workers=d.num_workers,
  )


def _check_bands(d: ConfigDict) -> None:
  """Checks dtype and number of bands of a prepared set, if it has statistics, before any image is read.

  Raises:
    BadInput: they do not match the config, so every image would be rejected.
  """
  if d.source != "array_record" or not os.path.exists(statistics.path_of(d.path)):
    return
  measured = statistics.read(d.path)
  statistics.check_type(d.path, measured, d.dtype)
  in_data, expected = len(measured["mean"]), len(d.mean)
  if in_data != expected and not {in_data, expected} <= {1, 3}:  # grey and RGB are converted into each other
    raise BadInput(
      f"{d.path} has images of {in_data} bands, but data.mean has {expected}: use matching data, or change "
      "data.mean and data.std"
    )
