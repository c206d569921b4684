"""Config keys that a run reads: those common to all runs, those of its task and those of its backbone."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from swin_jax.models import BACKBONES, backbone_name, backbone_of
from swin_jax.models.backbone import Settings
from swin_jax.run import checks, source_model
from swin_jax.tasks import kind_of
from swin_jax.terminal.errors import BadInput

# Groups, keys outside of groups, and single keys that every run reads; `TaskKind.reads` and
# `BackboneKind.reads` list the others.
COMMON = (
  "task",
  "seed",
  "init_from",
  "model_of_source",
  "transfer",
  "model.backbone",
  "data",
  "optim",
  "mesh",
  "sharding_rules",
  "zero1",
  "checkpoint",
  "log.every_steps",
  "log.eval_every_epochs",
  "log.wandb",
  "profile",
)


def is_in(key: str, names: Iterable[str]) -> bool:
  """Returns whether a key, "group.key", is among `names` or lies in a group among them."""
  return any(key == name or key.startswith(name + ".") for name in names)


def is_read(settings: Settings, key: str) -> bool:
  """Returns whether a run with the task and the backbone of these settings reads a key."""
  return is_in(key, (*COMMON, *kind_of(settings).reads, *backbone_of(settings).reads))


def check_flags(config: ConfigDict, keys: Iterable[str]) -> None:
  """Checks that flags set only keys that the chosen task and backbone read.

  Args:
    config: config after the flags are applied, so that `task` and `model.backbone` are the chosen ones.
    keys: keys set by flags, as "group.key".

  Raises:
    BadInput: a value of the config is invalid; a key is not read, and the message names the keys of its group
      that are read; or the length of the run is given twice.
  """
  checks.check_values(config)
  keys = list(keys)
  source_model.refuse_flags(config, keys)
  if "optim.total_epochs" in keys and config.optim.total_steps:
    raise BadInput(
      f"--config.optim.total_epochs has no effect, because optim.total_steps = {config.optim.total_steps}"
      " replaces it: give one of the two"
    )
  for key in keys:
    key = key.partition("[")[0]  # a flag may set one entry of a tuple
    if is_read(config, key):
      continue
    group = key.partition(".")[0]
    read = [name for name in config[group] if is_read(config, f"{group}.{name}")]
    instead = f"of this group it reads {', '.join(read)}" if read else f"it reads no key of config.{group}"
    of_a_backbone = any(is_in(key, kind.reads) for kind in BACKBONES.values())
    chosen = f"model.backbone={backbone_name(config)}" if of_a_backbone else f"task={config.task}"
    raise BadInput(f"--config.{key}: {chosen} does not read it; {instead}")
