"""What a run prints when it starts: its model, devices, data and schedule, and a table of all parameters."""

import math
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from swin_jax.mesh import devices, sharding
from swin_jax.models import backbone_of
from swin_jax.run import optim
from swin_jax.run.schedule import Schedule
from swin_jax.saved import workdir as saved_workdir
from swin_jax.terminal import files


def describe(config: ConfigDict, data: Any, program: Any, schedule: Schedule, workdir: str) -> list[str]:
  """Returns the lines of a summary of the run, and writes a table of all parameters to the workdir."""
  rows, state = [], program.state
  backbone = backbone_of(config)
  trained = optim.trained(state.params, config.optim.freeze_encoder)
  mask = optim.decay_mask(trained, optim.decay_rules(backbone.decay(config)))
  decays = {sharding.path_name(path): each for path, each in jax.tree_util.tree_leaves_with_path(mask)}
  for path, leaf in jax.tree_util.tree_leaves_with_path(state.params):
    name = sharding.path_name(path)
    how = ("decays" if decays[name] else "") if name in decays else "frozen"
    rows.append((name, leaf.shape, leaf.sharding.spec, sharding.bytes_per_device(leaf), how))
  if jax.process_index() == 0:
    lines = ["parameter | shape | partition | bytes per device | weight decay"] + [
      " | ".join(map(str, row)).rstrip() for row in rows
    ]
    files.write(pathlib.Path(workdir, saved_workdir.PARAMETERS), "\n".join(lines) + "\n")
  count = sum(math.prod(row[1]) for row in rows)
  frozen = sum(math.prod(row[1]) for row in rows if row[0] not in decays)
  frozen = f", {frozen:,} of them frozen" if frozen else ""
  mesh = " × ".join(f"{name} {size}" for name, size in program.mesh.shape.items())
  held = {"parameters": state.params, "optimizer state": state.opt_state, "average": state.ema}
  held = ", ".join(
    f"{name} {sharding.bytes_per_device(tree) / 1e9:.3g} GB"
    for name, tree in held.items()
    if tree is not None
  )
  path, whole = sharding.largest_replicated(state)
  whole = f"; the largest fully replicated array is {path}, {whole / 1e6:.0f} MB" if whole > 4e6 else ""
  return [
    f"{config.task}, {backbone.summarise(config).name}: {count:,} parameters{frozen},"
    f" {program.flops / 1e9:.3g} GFLOP per image; {sum(decays.values())} of {len(rows)} arrays decay"
    f" ({workdir}/{saved_workdir.PARAMETERS})",
    f"{devices.describe(jax.devices())}; mesh {mesh}; {len(data.train_source):,} images to"
    " train,"
    f" {len(data.eval_source):,} to evaluate",
    _describe_schedule(config, schedule, len(data.train_source)),
    f"each device holds {held}{whole}",
  ]


def _describe_schedule(config: ConfigDict, schedule: Schedule, num_examples: int) -> str:
  """Returns batch, steps and rates of a run in a line."""
  size, lr = config.data.batch_size, config.optim.lr
  unused = num_examples % size
  left = f", {unused:,} of {num_examples:,} images unused in each" if unused else ""
  return (
    f"{schedule.total:,} steps of {size} images, {schedule.epoch(schedule.total):.3g} epochs{left}; learning"
    f" rate {lr:.3g} per 512 images, {lr * size / 512:.3g} for these {size}"
  )
