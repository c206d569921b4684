"""Where the images of a config come from, and how they become batches."""

from ml_collections import ConfigDict

from swin_jax.data import decoding
from swin_jax.data import pipeline
from swin_jax.data import sources
from swin_jax.data import views


def open_input(config: ConfigDict) -> pipeline.Input:
  """The sources of a config, and how their images become batches."""
  d, a = config.data, config.augment
  mask = None
  if config.task == "masked_pixels":
    mask = views.Mask(config.mask.patch_size, config.model.patch_size, config.mask.ratio)
  return pipeline.Input(
      train_source=sources.open_source(d.source, d.path, d.train_split),
      eval_source=sources.open_source(d.source, d.path, d.eval_split),
      train_view=views.Augment(
          image_size=d.image_size, crop_scale=a.crop_scale, crop_ratio=a.crop_ratio, crop_padding=a.crop_padding,
          interpolation=a.interpolation, flip_probability=a.flip_probability, mask=mask, rotate=a.rotate,
      ),  # fmt: skip
      eval_view=views.EvalView(d.image_size, a.eval_crop_fraction, a.interpolation, mask),
      decode=decoding.DecodeImage(len(d.mean), d.dtype),
      seed=config.seed,
      batch_size=d.batch_size,
      eval_batch_size=d.eval_batch_size,
      max_bad_fraction=d.max_bad_fraction,
      num_threads=d.num_threads,
      num_workers=d.num_workers,
  )
