"""Checks of a config that need neither data nor devices: invalid values, and values that contradict each
other.
"""

from collections.abc import Mapping

from ml_collections import ConfigDict

from swin_jax.mesh import sharding
from swin_jax.models import BACKBONES, backbone_of
from swin_jax.models.backbone import Settings
from swin_jax.run import optim
from swin_jax.saved import description
from swin_jax.saved.choices import BANDS, BIAS_TABLES
from swin_jax.tasks import KINDS, kind_of
from swin_jax.terminal import addresses, rules
from swin_jax.terminal.errors import BadInput

_EPOCHS, _INTERVAL = rules.Real(0, 1e6), rules.Real(0, 1e6, above=True)
_MOMENT = rules.Real(0, 0.999999)  # closer to 1, float32 holds 1, with which averages never change
_RATE, _COUNT = rules.Real(0, 100), rules.Whole(0, 2**31 - 1)
_AXIS = rules.Either(rules.Choice(-1), rules.Whole(1, 2**20))
# Rules of the keys that every run reads; `TaskKind.rules` and `BackboneKind.rules` hold the others. Each key
# of configs/common.py has a rule, with finite limits.
RULES: Mapping[str, rules.Rule] = {
  "seed": rules.Whole(0, 2**32 - 1),
  "init_from": rules.Text(),
  "model_of_source": rules.FLAG,
  "transfer.bias_tables": rules.Choice(*BIAS_TABLES),
  "transfer.bands": rules.Choice(*BANDS),
  "transfer.class_map": rules.Text(),
  "data.source": rules.Text(),
  "data.path": rules.Text(),
  "data.train_split": rules.Text(),
  "data.eval_split": rules.Text(),
  **{f"data.{key}": rule for key, rule in description.DATA.items()},
  "data.fit_to_set": rules.FLAG,
  "data.batch_size": rules.Whole(1, 2**20),
  "data.eval_batch_size": rules.Whole(1, 2**20),
  "data.num_threads": rules.Whole(1, 1024),
  "data.num_workers": rules.Whole(0, 1024),
  "data.max_bad_fraction": rules.Real(0, 1),
  "optim.total_epochs": _INTERVAL,
  "optim.total_steps": _COUNT,
  "optim.warmup_epochs": _EPOCHS,
  "optim.lr": _RATE,
  "optim.warmup_lr": _RATE,
  "optim.min_lr": _RATE,
  "optim.schedule": rules.Choice(*optim.SCHEDULES),
  "optim.milestone_epochs": rules.Items(_INTERVAL, range(1001), rising=True),
  "optim.decay_rate": rules.Real(0, 1, above=True),
  "optim.weight_decay": rules.Real(0, 10),
  "optim.official_pretraining_decay": rules.FLAG,
  "optim.freeze_encoder": rules.FLAG,
  "optim.layer_decay": rules.Real(0.01, 1),
  "optim.clip_norm": rules.Real(1e-6, 1e6, or_zero=True),
  "optim.b1": _MOMENT,
  "optim.b2": _MOMENT,
  "optim.eps": rules.Real(1e-30, 1),
  "optim.ema_decay": _MOMENT,
  "optim.skip_nonfinite_steps": _COUNT,
  "optim.accumulation_steps": rules.Whole(1, 2**20),
  "mesh.data": _AXIS,
  "mesh.fsdp": _AXIS,
  "mesh.model": _AXIS,
  "sharding_rules": rules.Passes(sharding.check_rules),
  "zero1": rules.FLAG,
  "checkpoint.every_epochs": _INTERVAL,
  "checkpoint.keep_latest": rules.Whole(2, 10_000),
  "checkpoint.best_by": rules.Text(),
  "checkpoint.patience": _COUNT,
  "checkpoint.keep_best": rules.Whole(0, 10_000),
  "checkpoint.keep_every": _COUNT,
  "checkpoint.longer_schedule": rules.FLAG,
  "log.every_steps": rules.Whole(1, 2**31 - 1),
  "log.eval_every_epochs": _INTERVAL,
  "log.wandb": rules.Text(),
  "profile.start_step": rules.Whole(1, 2**31 - 1),
  "profile.num_steps": rules.Whole(0, 10_000),
}


def table(settings: Settings) -> dict[str, rules.Rule]:
  """Returns the rule of every key that a run with the task and the backbone of these settings reads.

  Raises:
    BadInput: there is no such task or backbone.
  """
  return {**_names(), **RULES, **backbone_of(settings).rules, **kind_of(settings).rules}


def _names() -> dict[str, rules.Rule]:
  return {"task": rules.Choice(*KINDS), "model.backbone": rules.Choice(*BACKBONES)}


def check_values(config: ConfigDict) -> None:
  """Checks each value that a run reads on its own, by `table`.

  Raises:
    BadInput: a key is missing, or its value is invalid; the message names the key.
  """
  rules.check(config, _names())
  rules.check(config, table(config))


def check(config: ConfigDict) -> None:
  """Checks everything in a config that needs neither data nor devices.

  Raises:
    BadInput: a value is invalid or contradicts another; the message names the keys.
  """
  check_values(config)
  addresses.check_local("config.transfer.class_map", config.transfer.class_map)
  kind, backbone = kind_of(config), backbone_of(config)
  _check_run(config)
  if config.data.class_names:
    raise BadInput("config.data.class_names comes from the data; leave it ()")
  description.check_data(config)
  backbone.check(config)
  kind.check(config)
  for size in kind.evaluation(config).sizes:
    if why := backbone.refusal(config, size):
      raise BadInput(f"{why}, and evaluation shows images of that size: train on larger data.image_size")


def _check_run(config: ConfigDict) -> None:
  """Checks the schedule and the accumulation steps."""
  o = config.optim
  if not o.total_steps and o.warmup_epochs > o.total_epochs:
    raise BadInput(
      f"config.optim.warmup_epochs = {o.warmup_epochs} must not be more than optim.total_epochs ="
      f" {o.total_epochs}"
    )
  if o.schedule in optim.WITH_MILESTONES and not o.milestone_epochs:
    raise BadInput(f"config.optim.schedule = '{o.schedule}' needs optim.milestone_epochs")
  if o.schedule == "step" and len(o.milestone_epochs) > 1:
    raise BadInput(
      f"config.optim.milestone_epochs = {o.milestone_epochs}: schedule 'step' has one number, the interval of"
      " the drops; 'multistep' has several"
    )
  ends = {"min_lr": o.schedule in optim.WITH_FLOOR, "warmup_lr": o.warmup_epochs > 0}
  for name, is_read in ends.items():
    if is_read and o.lr and o[name] > o.lr:  # with lr = 0 all rates are 0
      raise BadInput(
        f"config.optim.{name} = {o[name]} must not be more than optim.lr = {o.lr}, the peak of the schedule"
      )
  if config.data.batch_size % o.accumulation_steps:
    raise BadInput(
      f"data.batch_size = {config.data.batch_size} does not divide into optim.accumulation_steps ="
      f" {o.accumulation_steps}"
    )
  free = [f"mesh.{axis}" for axis, size in config.mesh.items() if size == -1]
  if len(free) > 1:
    raise BadInput(f"config.{free[0]} and config.{free[1]} are -1, but only one axis can take the rest")
