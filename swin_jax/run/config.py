"""Config and folder of a run: fills in values that the config leaves to the data or to other runs, and
derives numbers from it.
"""

from collections.abc import Sequence
import contextlib
import fcntl
import functools
import json
import os
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from swin_jax.data.read import statistics
from swin_jax.mesh import distributed
from swin_jax.models import backbone_of
from swin_jax.run import checks, optim
from swin_jax.saved import description
from swin_jax.saved import workdir as saved_workdir
from swin_jax.tasks import kind_of
from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput, cannot_write

_MOST_STEPS = 2**31 - 1  # the step is an int32


@contextlib.contextmanager
def own(workdir: str):
  """Creates the run's folder and locks it against other runs until this block ends.

  What a killed process of the run left half-written is removed.

  Raises:
    BadInput: the folder cannot be created or written, or another run has locked it.
    Fault: its disk is full or failing.
  """
  with contextlib.ExitStack() as stack:
    error = None
    if jax.process_index() == 0:
      try:
        os.makedirs(workdir, exist_ok=True)
        lock = stack.enter_context(open(pathlib.Path(workdir, saved_workdir.LOCK), "w"))
      except OSError as e:
        error = cannot_write(f"--workdir={workdir}", e)
      else:
        with contextlib.suppress(OSError):  # some file systems have no locks
          try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # released when the process ends
          except BlockingIOError:
            error = BadInput(
              f"another process is training in --workdir={workdir}; wait for it, or choose another folder"
            )
    distributed.raise_first(error)
    if jax.process_index() == 0:
      for folder in (pathlib.Path(workdir), *pathlib.Path(workdir).glob(f"{saved_workdir.CHECKPOINTS}/*/")):
        files.remove_dead(folder)
    yield


def with_statistics(config: ConfigDict, trained: dict[str, Any] | None = None) -> ConfigDict:
  """Returns the config with data.mean and data.std filled in, and for values also their mean and deviation.

  Missing ones come from the data's statistics.json. This must be called before anything else reads the
  config, because the length of data.mean is the number of bands.

  Args:
    config: as given.
    trained: resolved config of the weights to evaluate, if any. Its statistics replace those of the data,
      because the weights were trained with them.

  Raises:
    BadInput: a value of the config is invalid, the set has no statistics, only one of data.mean and data.std
      is (), or data.dtype cannot hold the data.
  """
  checks.check_values(config)
  config = config.copy_and_resolve_references()
  d = config.data
  if bool(len(d.mean)) != bool(len(d.std)):
    raise BadInput(
      f"config.data.mean = {d.mean}, config.data.std = {d.std}: give both, or (), () for the values of the "
      "data's statistics.json"
    )
  kind = kind_of(config)
  if trained:
    if not len(d.mean):
      d.mean, d.std = (tuple(trained["data"][name]) for name in ("mean", "std"))
    if kind_of(trained) is kind:
      kind.fill(config, trained, statistics.read)
    return config
  if not len(d.mean):
    if d.source != "array_record" or not d.path:
      raise BadInput(
        "data.mean = () and data.std = () mean the statistics.json of a set that prepare wrote: give "
        "--config.data.path of such a set, or one number per band, as in --config.data.mean=0.5,0.4"
        " --config.data.std=0.2,0.2"
      )
    measured = statistics.read(d.path)
    statistics.check_type(d.path, measured, d.dtype)
    scale = 255.0 if d.dtype == "uint8" else 1.0
    d.mean = tuple(value / scale for value in measured["mean"])
    # `or 1.0`: a constant band has deviation 0, and the images are divided by it.
    d.std = tuple(value / scale or 1.0 for value in measured["std"])
  kind.fill(config, None, statistics.read)
  return config


def resolve(
  config: ConfigDict,
  train_classes: Sequence[str],
  eval_classes: Sequence[str],
  *,
  stored: dict[str, Any] | None = None,
  source: dict[str, Any] | None = None,
) -> ConfigDict:
  """Returns the config with values filled in that it leaves to the data or to the run it starts from.

  Args:
    config: as given.
    train_classes, eval_classes: class names of the data, by label; empty if it has no labels.
    stored: resolved config of this run, if it is continued.
    source: resolved config of the run whose weights are transferred, if there is one.

  Raises:
    BadInput: data or weights do not match the config; the message names the keys.
  """
  config = config.copy_and_resolve_references()
  kind = kind_of(config)
  if kind.needs.has_classes:
    configured, in_data = kind.num_classes(config), len(train_classes)
    if not in_data:
      raise BadInput(
        f"the training data has no labels (a folder needs one folder per class), so task={config.task} is not"
        " possible"
      )
    if tuple(eval_classes) != tuple(train_classes):
      raise BadInput(
        f"the classes of the evaluation data ({len(eval_classes)}) differ from those of the training data"
        f" ({in_data})"
      )
    if configured and configured < in_data:
      raise BadInput(f"the data has labels up to {in_data - 1}, but {kind.group}.num_classes = {configured}")
    if (configured or in_data) < 2:
      raise BadInput(
        f"the data has one class, {train_classes[0]}, so there is nothing to learn for task={config.task}"
      )
    if wrong := description.DATA["class_names"].problem(tuple(train_classes)):
      raise BadInput(f"the class names of the training data cannot be stored: {wrong}")
    config[kind.group].num_classes = configured or in_data
    config.data.class_names = tuple(train_classes)
  backbone = backbone_of(config)
  if source and backbone_of(source) is not backbone:
    source = None  # compatibility.py reports the mismatch
  backbone.resolve(config, stored=stored, source=source, other_sizes=kind.needs.per_pixel)
  return config


def count_steps(config: ConfigDict, num_examples: int) -> tuple[int, int]:
  """Returns (steps per epoch, total steps).

  Raises:
    BadInput: there are fewer examples than a batch has, or the schedule does not fit whole steps.
  """
  steps = num_examples // config.data.batch_size
  if not steps:
    smaller = 2 ** (num_examples.bit_length() - 1)
    raise BadInput(
      f"data.batch_size = {config.data.batch_size}, but split '{config.data.train_split}' has {num_examples}"
      f" examples: use a smaller batch, such as --config.data.batch_size={smaller}"
    )
  o = config.optim
  total = o.total_steps or max(1, round(o.total_epochs * steps))
  if total > _MOST_STEPS:
    raise BadInput(
      f"config.optim.total_epochs = {o.total_epochs} of {steps:,} steps are {total:,} steps; at most"
      f" {_MOST_STEPS:,} can be counted"
    )
  if o.schedule in optim.WITH_MILESTONES and not round(o.milestone_epochs[0] * steps):
    raise BadInput(
      f"config.optim.milestone_epochs = {o.milestone_epochs}: the first is less than one of the {steps:,}"
      " steps of an epoch"
    )
  if o.total_steps and warmup_steps(config, steps) > total:
    raise BadInput(
      f"config.optim.warmup_epochs = {o.warmup_epochs:g} are {warmup_steps(config, steps):,} steps, more than"
      f" optim.total_steps = {total:,}: give a shorter warm-up or more steps"
    )
  return steps, total


def warmup_steps(config: ConfigDict, steps_per_epoch: int) -> int:
  """Returns the number of steps of the warm-up."""
  return round(config.optim.warmup_epochs * steps_per_epoch)


def intervals(config: ConfigDict, steps_per_epoch: int) -> dict[str, int]:
  """Returns the steps between two entries of each kind; see `Schedule.every`."""
  every = {"evaluate": config.log.eval_every_epochs, "save": config.checkpoint.every_epochs}
  every = {name: max(1, round(epochs * steps_per_epoch)) for name, epochs in every.items()}
  return every | {"keep": every["save"] * config.checkpoint.keep_every, "log": config.log.every_steps}


def learning_rate(config: ConfigDict, steps_per_epoch: int, total_steps: int):
  """Returns the function (step, peak) → learning rate, and the peak, both scaled to the batch size."""
  o, scale = config.optim, config.data.batch_size / 512
  if not o.lr:
    scale = 0.0  # no rate of the schedule is larger than its peak: a control run, whose parameters stay
  rate = functools.partial(
    optim.learning_rate,
    schedule=o.schedule,
    total_steps=total_steps,
    warmup_steps=warmup_steps(config, steps_per_epoch),
    warmup_lr=o.warmup_lr * scale,
    min_lr=o.min_lr * scale,
    milestones=tuple(round(epoch * steps_per_epoch) for epoch in o.milestone_epochs),
    decay_rate=o.decay_rate,
  )
  return rate, o.lr * scale


def write(config: ConfigDict, workdir: str) -> None:
  """Writes the resolved config to the workdir."""
  if jax.process_index() > 0:
    return
  files.write(pathlib.Path(workdir, saved_workdir.CONFIG), json.dumps(config.to_dict(), indent=2) + "\n")
