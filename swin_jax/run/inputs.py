"""Where the images of a config come from, and how they become batches."""

import os

from ml_collections import ConfigDict

from swin_jax.data.feed import pipeline
from swin_jax.data.read import decoding, sources, statistics
from swin_jax.data.read.targets import Target
from swin_jax.tasks import kind_of
from swin_jax.terminal.errors import BadInput


def open_input(config: ConfigDict) -> pipeline.Input:
  """The sources of a config, and how their images become batches.

  Raises:
    BadInput: see `sources.open_source`; or what is there is not what the config is for.
  """
  d, kind = config.data, kind_of(config)
  train_source, eval_source = (
    sources.open_source(d.source, d.path, split, kind.needs) for split in (d.train_split, d.eval_split)
  )
  if kind.needs and train_source.targets not in (kind.needs, Target.NOTHING):
    raise BadInput(
      f"{d.path} has {train_source.targets} of pixels, not of images, so task={config.task} cannot be; for"
      " these: configs/own_labels.py, of rasters own_rasters.py:segment, and :regress"
    )
  _check_bands(d)
  train_view, eval_view = kind.views(config)
  decode = decoding.DecodeMapped if kind.needs.per_pixel else decoding.DecodeImage
  return pipeline.Input(
    train_source=train_source,
    eval_source=eval_source,
    train_view=train_view,
    eval_view=eval_view,
    decode=decode(len(d.mean), d.dtype),
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
