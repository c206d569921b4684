"""Checks of a config that need neither data nor devices: invalid values, and values that contradict each
other.
"""

from collections.abc import Sequence
import math

from ml_collections import ConfigDict

from swin_jax.data.read import image_ops
from swin_jax.kernels.window_attention import CHOICES
from swin_jax.models import remat
from swin_jax.models.swin import make_config
from swin_jax.models.swin.geometry import geometry
from swin_jax.models.windows import chunk_counts, sides
from swin_jax.run import optim
from swin_jax.saved.choices import BANDS, BIAS_TABLES
from swin_jax.tasks import kind_of, rules
from swin_jax.terminal.errors import BadInput

# Rules of the keys that every task reads; task kinds and backbones have their own tables.
RULES = {
  "data.dtype": rules.one_of("uint8", "float32"),
  "optim.schedule": rules.one_of(*optim.SCHEDULES),
  "augment.interpolation": rules.one_of(*image_ops.INTERPOLATIONS),
  "transfer.bias_tables": rules.one_of(*BIAS_TABLES),
  "transfer.bands": rules.one_of(*BANDS),
  "data.batch_size": rules.at_least(1),
  "data.eval_batch_size": rules.at_least(1),
  "data.num_threads": rules.at_least(1),
  "data.num_workers": rules.at_least(0),
  "log.every_steps": rules.at_least(1),
  "checkpoint.keep_every": rules.at_least(0),
  "checkpoint.keep_best": rules.at_least(0),
  "profile.num_steps": rules.at_least(0),
  "optim.accumulation_steps": rules.at_least(1),
  "optim.skip_nonfinite_steps": rules.at_least(0),
  "optim.ema_decay": rules.between(0, 0.999999),
  "optim.layer_decay": rules.between(0.01, 1),
}
SWIN_RULES = {
  "model.version": rules.one_of(1, 2),
  "model.dtype": rules.one_of("bfloat16", "float32"),
  "model.attention_kernel": rules.one_of(*CHOICES),
  "model.padding": rules.one_of("masked", "attended"),
  "model.bias_rows": rules.one_of("offsets", "first"),
  "model.drop_path_rate": rules.between(0, 0.99),
}


def check(config: ConfigDict) -> None:
  """Checks everything in a config that needs neither data nor devices.

  Raises:
    BadInput: a value is invalid or contradicts another; the message names the keys.
  """
  kind = kind_of(config)
  rules.check(config, RULES | SWIN_RULES)
  _check_run(config)
  _check_data(config)
  kind.check(config)
  _check_swin(config, kind.evaluation(config).sizes)


def _check_run(config: ConfigDict) -> None:
  """Checks the schedule, the checkpoints and the accumulation steps."""
  o, keep_latest = config.optim, config.checkpoint.keep_latest
  if keep_latest < 2:
    raise BadInput(
      f"config.checkpoint.keep_latest = {keep_latest} must be at least 2: should the newest be damaged, the"
      " one before is used"
    )
  if not 0 <= o.warmup_epochs <= o.total_epochs:
    raise BadInput(
      f"config.optim.warmup_epochs = {o.warmup_epochs} must not be more than optim.total_epochs ="
      f" {o.total_epochs}"
    )
  if o.schedule in ("step", "multistep") and not o.milestone_epochs:
    raise BadInput(f"config.optim.schedule = '{o.schedule}' needs optim.milestone_epochs")
  if config.data.batch_size % o.accumulation_steps:
    raise BadInput(
      f"data.batch_size = {config.data.batch_size} does not divide into optim.accumulation_steps ="
      f" {o.accumulation_steps}"
    )


def _check_data(config: ConfigDict) -> None:
  """Checks the images: size, bands, dtype, and processing that all tasks share."""
  d, shown = config.data, config.log.picture_bands
  if d.class_names:
    raise BadInput("config.data.class_names are found in the data; leave it ()")
  _check_axes(config)
  if len(d.mean) != len(d.std) or not d.mean or min(d.std) <= 0:
    raise BadInput(
      f"data.mean = {d.mean} and data.std = {d.std} need one number a band, the deviations above 0"
    )
  if d.dtype == "uint8" and not all(0 <= mean <= 1 for mean in d.mean):
    raise BadInput(
      f"data.mean = {tuple(round(mean, 3) for mean in d.mean)}, but pixels of data.dtype=uint8 are scaled"
      " to 0..1: of rasters of other numbers give --config.data.dtype=float32"
    )
  if config.augment.rotate and d.image_size[-2] != d.image_size[-1]:
    raise BadInput(
      f"augment.rotate turns by 90°, which needs square images: data.image_size = {d.image_size}"
    )
  if shown and (len(shown) not in (1, 3) or not 0 <= min(shown) <= max(shown) < len(d.mean)):
    raise BadInput(f"log.picture_bands = {shown} must be one or three of the bands 0 to {len(d.mean) - 1}")


def _check_axes(config: ConfigDict) -> None:
  """Checks that all sizes have as many axes as data.image_size."""
  m, image = config.model, config.data.image_size
  axes = len(image)
  if axes not in (2, 3):
    raise BadInput(f"data.image_size = {image} must be (height, width), or (frames, height, width) of clips")
  each = [("patch_size", m.patch_size), ("merge_size", m.merge_size)]
  each += [(key, size) for key in ("window_sizes", "trained_window_sizes") for size in m[key]]
  for key, size in each:
    if len(sides(size, 2)) != axes or min(sides(size, 2)) < 1:
      raise BadInput(
        f"model.{key} = {m[key]} must have one number of at least 1 for each of the {axes} axes of"
        f" data.image_size = {image}; one number for all stands for (height, width)"
      )
  if any(side < patch for side, patch in zip(image, sides(m.patch_size, 2), strict=True)):
    raise BadInput(f"data.image_size = {image} must be at least model.patch_size = {m.patch_size}")
  if m.bias_rows == "first" and (m.version, axes) != (1, 3):
    raise BadInput("model.bias_rows = 'first' is for model.version = 1 and data.image_size of clips")


def _check_swin(config: ConfigDict, eval_sizes: Sequence[tuple[int, int]]) -> None:
  """Checks the config group of the backbone.

  Args:
    config: the config.
    eval_sizes: see `Evaluation.sizes`.
  """
  m, stages = config.model, len(config.model.depths)
  for name in ("num_heads", "window_sizes", "trained_window_sizes", "attention_chunks"):
    if len(m[name]) != stages and (m[name] or name in ("num_heads", "window_sizes")):
      raise BadInput(
        f"model.{name} = {m[name]} needs one entry for each of the {stages} stages of model.depths ="
        f" {m.depths}"
      )
  for i, heads in enumerate(m.num_heads):
    if heads < 1 or (m.embed_dim * 2**i) % heads:
      raise BadInput(
        f"model.num_heads[{i}] = {heads} does not divide the {m.embed_dim * 2**i} channels of stage {i}"
      )
  remat.policy(m.remat)
  stage_geometries = geometry(make_config(**m), config.data.image_size)
  for i, (chunks, stage) in enumerate(zip(m.attention_chunks, stage_geometries, strict=False)):
    count = math.prod(stage.padded) // math.prod(stage.window)
    try:
      chunk_counts(chunks, count, m.num_heads[i] // max(1, config.mesh.model))
    except BadInput as error:
      raise BadInput(f"config.model.attention_chunks[{i}] = {chunks}: stage {i}, {error}") from error
  if m.version == 1:
    _check_bias_tables(config, eval_sizes)


def _check_bias_tables(config: ConfigDict, eval_sizes: Sequence[tuple[int, int]]) -> None:
  """Checks that whole images have the same windows as training crops; V1's bias tables depend on them."""
  m = config.model

  def used(size):
    return [stage.window for stage in geometry(make_config(**m), size)]

  trained = used(config.data.image_size)
  for eval_size in eval_sizes:
    if used(eval_size) != trained:
      raise BadInput(
        f"V1's bias tables are of the windows {trained} of crops of {config.data.image_size}, but in"
        f" evaluation, at {eval_size} pixels, windows are {used(eval_size)}: take larger crops, smaller"
        " model.window_sizes, or V2"
      )
