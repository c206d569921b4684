"""Checks of a config that need neither data nor devices: invalid values, and values that contradict each
other.
"""

from ml_collections import ConfigDict

from swin_jax.models import backbone_of
from swin_jax.run import optim
from swin_jax.saved.choices import BANDS, BIAS_TABLES
from swin_jax.tasks import kind_of
from swin_jax.terminal import rules
from swin_jax.terminal.errors import BadInput

# Rules of the keys that every task reads; task kinds and backbones have their own tables.
RULES = {
  "data.dtype": rules.one_of("uint8", "float32"),
  "optim.schedule": rules.one_of(*optim.SCHEDULES),
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


def check(config: ConfigDict) -> None:
  """Checks everything in a config that needs neither data nor devices.

  Raises:
    BadInput: a value is invalid or contradicts another; the message names the keys.
  """
  kind, backbone = kind_of(config), backbone_of(config)
  rules.check(config, RULES)
  _check_run(config)
  _check_data(config)
  backbone.check(config)
  kind.check(config)
  for size in kind.evaluation(config).sizes:
    if why := backbone.refusal(config, size):
      raise BadInput(f"{why}, and evaluation shows images of that size: train on larger data.image_size")


def _check_run(config: ConfigDict) -> None:
  """Checks the schedule, the checkpoints and the accumulation steps."""
  o, keep_latest = config.optim, config.checkpoint.keep_latest
  if keep_latest < 2:
    raise BadInput(
      f"config.checkpoint.keep_latest = {keep_latest} must be at least 2: if the newest is damaged, the one "
      "before it is used"
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
  """Checks the images: size, bands and dtype."""
  d = config.data
  if d.class_names:
    raise BadInput("config.data.class_names comes from the data; leave it ()")
  if len(d.image_size) not in (2, 3):
    raise BadInput(
      f"data.image_size = {d.image_size} must be (height, width), or (frames, height, width) of clips"
    )
  if len(d.mean) != len(d.std) or not d.mean or min(d.std) <= 0:
    raise BadInput(
      f"data.mean = {d.mean} and data.std = {d.std} need one number per band, and deviations above 0"
    )
  if d.dtype == "uint8" and not all(0 <= mean <= 1 for mean in d.mean):
    raise BadInput(
      f"data.mean = {tuple(round(mean, 3) for mean in d.mean)}, but pixels of data.dtype=uint8 are scaled"
      " to 0..1: for rasters of other numbers give --config.data.dtype=float32"
    )
