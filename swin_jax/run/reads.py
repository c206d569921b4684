"""Which keys of a config a run reads: those of every run, and those of its task."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from swin_jax.tasks import kind_of
from swin_jax.tasks.task import TaskKind
from swin_jax.terminal.errors import BadInput

# Groups, and keys outside of groups, that every task reads; `TaskKind.reads` has the others.
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
  """Returns whether a key, "group.key", is one of some names of keys and groups, or lies in one of them."""
  return any(key == name or key.startswith(name + ".") for name in names)


def is_read(kind: TaskKind, key: str) -> bool:
  """Returns whether a run of this kind reads a key."""
  return is_in(key, (*COMMON, *kind.reads))


def check_flags(config: ConfigDict, keys: Iterable[str]) -> None:
  """Refuses flags for keys that the chosen task does not read.

  Args:
    config: with the flags applied, so that its task is the chosen one.
    keys: that flags have set, as "group.key".

  Raises:
    BadInput: there is such a flag; the message names the keys of its group that the task does read.
  """
  kind = kind_of(config)
  for key in keys:
    key = key.partition("[")[0]  # of one entry of a tuple
    if is_read(kind, key):
      continue
    group = key.partition(".")[0]
    read = [name for name in config[group] if is_read(kind, f"{group}.{name}")]
    instead = f"of this group it reads {', '.join(read)}" if read else f"it reads nothing of config.{group}"
    raise BadInput(f"--config.{key}: task={config.task} does not read it; {instead}")
