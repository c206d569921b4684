"""Config keys that a run reads: those common to all runs, and those of its task."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from swin_jax.tasks import kind_of
from swin_jax.tasks.task import TaskKind
from swin_jax.terminal.errors import BadInput

# Groups, and keys outside of groups, that every task reads; `TaskKind.reads` lists the others.
COMMON = (
  "task",
  "seed",
  "init_from",
  "transfer",
  "model",
  "data",
  "optim",
  "mesh",
  "sharding_rules",
  "zero1",
  "checkpoint",
  "log",
  "profile",
)


def is_in(key: str, names: Iterable[str]) -> bool:
  """Returns whether a key, "group.key", is among `names` or lies in a group among them."""
  return any(key == name or key.startswith(name + ".") for name in names)


def is_read(kind: TaskKind, key: str) -> bool:
  """Returns whether a run of this kind reads a key."""
  return is_in(key, (*COMMON, *kind.reads))


def check_flags(config: ConfigDict, keys: Iterable[str]) -> None:
  """Checks that flags set only keys that the chosen task reads.

  Args:
    config: config after the flags are applied, so that `task` is the chosen one.
    keys: keys set by flags, as "group.key".

  Raises:
    BadInput: the task does not read a key; the message names the keys of its group that the task reads.
  """
  kind = kind_of(config)
  for key in keys:
    key = key.partition("[")[0]  # a flag may set one entry of a tuple
    if is_read(kind, key):
      continue
    group = key.partition(".")[0]
    read = [name for name in config[group] if is_read(kind, f"{group}.{name}")]
    instead = f"of this group it reads {', '.join(read)}" if read else f"it reads nothing of config.{group}"
    raise BadInput(f"--config.{key}: task={config.task} does not read it; {instead}")
