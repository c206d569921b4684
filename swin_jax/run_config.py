"""A run's config and its folder: numbers derived from it, mistakes in it, and whether it may continue what is there."""

from collections.abc import Sequence
import functools
import json
import math
import os
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from swin_jax import optim
from swin_jax.checkpoint import SavedParameters
from swin_jax.data import image_ops
from swin_jax.data import rand_augment
from swin_jax.errors import BadInput
from swin_jax.models import windows
from swin_jax.models.swin import REMAT_POLICIES

# What may differ when a run is continued; with checkpoint.longer_schedule also optim.total_epochs.
MAY_DIFFER = (
    "mesh", "sharding_rules", "log", "checkpoint", "data.num_threads", "data.num_workers", "data.max_bad_fraction",
    "model.remat", "model.unroll",
)  # fmt: skip


def prepare_workdir(workdir: str) -> None:
  """Makes the folder.

  Raises:
    BadInput: it cannot be made or written.
  """
  try:
    os.makedirs(workdir, exist_ok=True)
    probe = pathlib.Path(workdir) / f".writable-{os.getpid()}"
    probe.touch()
    probe.unlink()
  except OSError as error:
    raise BadInput(f"--workdir={workdir} cannot be written: {error.strerror or error}") from error


def resolve(config: ConfigDict, train_classes: Sequence[str], eval_classes: Sequence[str], stored: dict[str, Any] | None) -> ConfigDict:
  """Fills what the config leaves to the data and to `init_from`, and checks what can be checked before anything is built.

  Args:
    config: as given.
    train_classes, eval_classes: class names of the data, by label; empty if it has no labels.
    stored: the resolved config of the run that is continued, None for a new one.

  Raises:
    BadInput: sizes that cannot be; the message names the keys.
  """
  config = config.copy_and_resolve_references()
  model = config.model
  _check(config)
  if config.task == "classification":
    wanted, found = config.classification.num_classes, len(train_classes)
    if not found:
      raise BadInput("the training data has no labels (a folder needs one folder per class), so task=classification cannot be")
    if tuple(eval_classes) != tuple(train_classes):
      raise BadInput(f"the evaluation data has other classes ({len(eval_classes)}) than the training data ({found})")
    if wanted and wanted < found:
      raise BadInput(f"the data has labels up to {found - 1}, but classification.num_classes = {wanted}")
    config.classification.num_classes = wanted or found
  if not model.trained_window_sizes and config.init_from and model.version == 2:
    model.trained_window_sizes = stored["model"]["trained_window_sizes"] if stored else trained_windows(SavedParameters(config.init_from).config)
  return config


def trained_windows(config: dict[str, Any]) -> tuple[tuple[int, int], ...]:
  """The windows that a run's weights have seen, per stage: a small map shrinks them."""
  model = config["model"]
  if model["trained_window_sizes"]:
    return tuple(pair(size) for size in model["trained_window_sizes"])
  height, width = (-(-side // model["patch_size"]) for side in config["data"]["image_size"])
  sizes = []
  for window in model["window_sizes"]:
    sizes.append(windows.window_and_shift((height, width), pair(window), False)[0])
    height, width = -(-height // 2), -(-width // 2)
  return tuple(sizes)


def pair(size) -> tuple[int, int]:
  """A window as (height, width), from that or from one number."""
  return (int(size), int(size)) if isinstance(size, int) else tuple(int(side) for side in size)


def count_steps(config: ConfigDict, num_examples: int) -> tuple[int, int]:
  """(steps per epoch, total steps).

  Raises:
    BadInput: less data than a batch.
  """
  steps = num_examples // config.data.batch_size
  if not steps:
    raise BadInput(f"data.batch_size = {config.data.batch_size}, but split '{config.data.train_split}' has {num_examples} examples")
  return steps, max(1, round(config.optim.total_epochs * steps))


def learning_rate(config: ConfigDict, steps_per_epoch: int, total_steps: int):
  """(step, peak) → learning rate, and the peak, scaled to the batch size."""
  o, scale = config.optim, config.data.batch_size / 512
  rate = functools.partial(
      optim.learning_rate,
      schedule=o.schedule,
      total_steps=total_steps,
      warmup_steps=round(o.warmup_epochs * steps_per_epoch),
      warmup_lr=o.warmup_lr * scale,
      min_lr=o.min_lr * scale,
      milestones=tuple(round(epoch * steps_per_epoch) for epoch in o.milestone_epochs),
      decay_rate=o.decay_rate,
  )
  return rate, o.lr * scale


def read(workdir: str) -> dict[str, Any] | None:
  """The resolved config in a workdir that has begun, or None."""
  path = pathlib.Path(workdir) / "config.json"
  return json.loads(path.read_text()) if path.exists() else None


def write(config: ConfigDict, workdir: str) -> None:
  """Writes the resolved config to the workdir."""
  path = pathlib.Path(workdir) / "config.json"
  partial = path.with_suffix(".partial")
  partial.write_text(json.dumps(config.to_dict(), indent=2) + "\n")
  os.replace(partial, path)


def check_same_run(config: ConfigDict, stored: dict[str, Any], workdir: str) -> None:
  """Refuses to continue a run under another config.

  Raises:
    BadInput: keys differ that may not.
  """
  ours, theirs = flatten(json.loads(json.dumps(config.to_dict()))), flatten(stored)
  allowed = MAY_DIFFER + (("optim.total_epochs",) if config.checkpoint.longer_schedule else ())
  differing = [
      f"{key} ({theirs.get(key)} → {ours.get(key)})"
      for key in sorted(ours.keys() | theirs.keys())
      if ours.get(key) != theirs.get(key) and not any(key == name or key.startswith(name + ".") for name in allowed)
  ]
  if differing:
    hint = "; a longer schedule needs --config.checkpoint.longer_schedule" if "optim.total_epochs" in differing[0] else ""
    raise BadInput(f"{workdir} holds a run with another config: {', '.join(differing)}{hint}; take another --workdir, or that config")


def describe(config: ConfigDict, data: Any, program: Any, total_steps: int, workdir: str) -> str:
  """The run in a few lines; the config and a table of all parameters are in the workdir."""
  rows = []
  decays = optim.OFFICIAL_PRETRAINING_DECAY_RULES if config.optim.official_pretraining_decay else optim.DECAY_RULES
  mask = jax.tree.leaves(optim.decay_mask(program.state.params, decays))
  for (path, leaf), decay in zip(jax.tree_util.tree_leaves_with_path(program.state.params), mask):
    rows.append((optim.path_name(path), leaf.shape, str(leaf.sharding.spec), "decays" if decay else ""))
  if jax.process_index() == 0:
    lines = ["parameter | shape | partition | weight decay"] + [" | ".join(map(str, row)).rstrip() for row in rows]
    (pathlib.Path(workdir) / "parameters.txt").write_text("\n".join(lines) + "\n")
  count = sum(math.prod(row[1]) for row in rows)
  mesh = " × ".join(f"{name} {size}" for name, size in program.mesh.shape.items())
  return (
      f"{config.task}, Swin V{config.model.version}: {count:,} parameters, {program.flops / 1e9:.3g} GFLOP an image;"
      f" {sum(mask)} of {len(mask)} arrays decay ({workdir}/parameters.txt)\n"
      f"{jax.device_count()} {jax.devices()[0].device_kind} as {mesh}; {len(data.train_source):,} images to train,"
      f" {len(data.eval_source):,} to evaluate; {total_steps:,} steps of {config.data.batch_size}"
  )


def _check(config: ConfigDict) -> None:
  m, d, a = config.model, config.data, config.augment
  choices = {
      "task": (config.task, ("classification", "masked_pixels")),
      "model.version": (m.version, (1, 2)),
      "model.dtype": (m.dtype, ("bfloat16", "float32")),
      "model.remat": (m.remat, tuple(REMAT_POLICIES)),
      "optim.schedule": (config.optim.schedule, optim.SCHEDULES),
      "augment.interpolation": (a.interpolation, tuple(image_ops.INTERPOLATIONS)),
  }
  for key, (value, allowed) in choices.items():
    if value not in allowed:
      raise BadInput(f"config.{key} = {value!r}: there are {', '.join(map(repr, allowed))}")
  for key, low, value, high in (
      ("augment.crop_scale", 0, *a.crop_scale), ("augment.crop_ratio", 0, *a.crop_ratio), ("augment.eval_crop_fraction", 0, a.eval_crop_fraction, 1),
      ("augment.rand_augment_magnitude", -1e-9, a.rand_augment_magnitude, 10), ("mask.ratio", 0, config.mask.ratio, 1),
  ):  # fmt: skip
    if not low < value <= high:
      raise BadInput(f"config.{key} must be more than {max(low, 0)} and at most {high}, and is {value}")
  for key, value in (("data.batch_size", d.batch_size), ("data.eval_batch_size", d.eval_batch_size), ("log.every_steps", config.log.every_steps),
                     ("data.num_threads", d.num_threads), ("optim.accumulation_steps", config.optim.accumulation_steps),
                     ("checkpoint.keep_latest", config.checkpoint.keep_latest)):  # fmt: skip
    if value < 1:
      raise BadInput(f"config.{key} = {value} must be at least 1")
  if config.optim.schedule in ("step", "multistep") and not config.optim.milestone_epochs:
    raise BadInput(f"config.optim.schedule = '{config.optim.schedule}' needs optim.milestone_epochs")
  if a.rand_augment_operations and len(d.mean) not in rand_augment.BANDS:
    raise BadInput(f"RandAugment is for images of 1 or 3 bands, data.mean has {len(d.mean)}: set augment.rand_augment_operations=0")
  if a.crop_padding and a.eval_crop_fraction != 1.0:
    raise BadInput("augment.crop_padding is for small images seen whole: set augment.eval_crop_fraction=1.0")
  stages = len(m.depths)
  for name in ("num_heads", "window_sizes", "trained_window_sizes"):
    if len(m[name]) != stages and (m[name] or name != "trained_window_sizes"):
      raise BadInput(f"model.{name} = {m[name]} needs one entry for each of the {stages} stages of model.depths = {m.depths}")
  for i, heads in enumerate(m.num_heads):
    if heads < 1 or (m.embed_dim * 2**i) % heads:
      raise BadInput(f"model.num_heads[{i}] = {heads} does not divide the {m.embed_dim * 2**i} channels of stage {i}")
  for size in (*m.window_sizes, *m.trained_window_sizes):
    if min(pair(size)) < 1:
      raise BadInput(f"model.window_sizes = {m.window_sizes}, trained {m.trained_window_sizes}: a window has at least one token")
  if len(d.image_size) != 2 or min(d.image_size) < m.patch_size:
    raise BadInput(f"data.image_size = {d.image_size} must be (height, width), each at least model.patch_size = {m.patch_size}")
  if len(d.mean) != len(d.std):
    raise BadInput(f"data.mean has {len(d.mean)} bands, data.std {len(d.std)}")
  if d.batch_size % config.optim.accumulation_steps:
    raise BadInput(f"data.batch_size = {d.batch_size} does not divide into optim.accumulation_steps = {config.optim.accumulation_steps}")
  if config.task == "masked_pixels":
    p = config.mask.patch_size
    if p % m.patch_size or any(side % p for side in d.image_size):
      raise BadInput(
          f"mask.patch_size = {p} must divide data.image_size = {d.image_size} and be a multiple of model.patch_size = {m.patch_size}"
      )


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
  flat = {}
  for key, value in tree.items():
    flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
  return flat
