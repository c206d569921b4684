"""A run's config and its folder: numbers derived from it, mistakes in it, and whether it may continue what is there."""

from collections.abc import Sequence
import contextlib
import fcntl
import functools
import json
import math
import os
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict

from swin_jax import files
from swin_jax import optim
from swin_jax import sharding
from swin_jax.data import image_ops
from swin_jax.data import rand_augment
from swin_jax.errors import BadInput
from swin_jax.models import remat
from swin_jax.models.windows import chunk_counts
from swin_jax.models.windows import map_sizes
from swin_jax.models.windows import padded_size
from swin_jax.models.windows import pair
from swin_jax.models.windows import window_and_shift

# What may differ when a run is continued; with checkpoint.longer_schedule also optim.total_epochs.
MAY_DIFFER = (
    "mesh", "sharding_rules", "zero1", "log", "profile", "checkpoint", "data.num_threads", "data.num_workers", "data.max_bad_fraction",
    "model.remat", "model.attention_chunks", "model.unroll", "optim.skip_nonfinite_steps",
)  # fmt: skip


@contextlib.contextmanager
def own(workdir: str):
  """Makes the run's folder, and keeps other runs out of it for as long as this one lives.

  Raises:
    BadInput: it cannot be made or written, or another run is in it.
  """
  if jax.process_index() > 0:
    yield
    return
  try:
    os.makedirs(workdir, exist_ok=True)
    lock = open(pathlib.Path(workdir) / ".lock", "w")
  except OSError as error:
    raise BadInput(f"--workdir={workdir} cannot be written: {error.strerror or error}") from error
  with lock:
    try:
      fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, whatever ends it
    except BlockingIOError as error:
      raise BadInput(f"another process is training in --workdir={workdir}; wait for it, or take another folder") from error
    except OSError:
      pass  # a file system without locks
    yield


def resolve(
    config: ConfigDict,
    train_classes: Sequence[str],
    eval_classes: Sequence[str],
    *,
    stored: dict[str, Any] | None = None,
    source: dict[str, Any] | None = None,
) -> ConfigDict:
  """Fills what the config leaves to the data and to the run it starts from.

  Args:
    config: as given.
    train_classes, eval_classes: class names of the data, by label; empty if it has no labels.
    stored: the resolved config of this run, if it is continued.
    source: the resolved config of the run whose weights are taken over, if there is one.

  Raises:
    BadInput: data or weights do not fit; the message names the keys.
  """
  config = config.copy_and_resolve_references()
  model = config.model
  if config.task == "classification":
    wanted, found = config.classification.num_classes, len(train_classes)
    if not found:
      raise BadInput("the training data has no labels (a folder needs one folder per class), so task=classification cannot be")
    if tuple(eval_classes) != tuple(train_classes):
      raise BadInput(f"the evaluation data has other classes ({len(eval_classes)}) than the training data ({found})")
    if wanted and wanted < found:
      raise BadInput(f"the data has labels up to {found - 1}, but classification.num_classes = {wanted}")
    config.classification.num_classes = wanted or found
  if model.version == 2 and stored:
    model.trained_window_sizes = model.trained_window_sizes or stored["model"]["trained_window_sizes"]
  elif model.version == 2 and source:
    trained, wanted = trained_windows(source), tuple(pair(size) for size in model.trained_window_sizes)
    if wanted and wanted != trained:
      raise BadInput(f"model.trained_window_sizes = {wanted}, but the weights were trained with {trained}; leave it ()")
    model.trained_window_sizes = trained
  return config


def trained_windows(config: dict[str, Any]) -> tuple[tuple[int, int], ...]:
  """The windows that a run's weights have seen, per stage: a small map shrinks them."""
  model = config["model"]
  if model["trained_window_sizes"]:
    return tuple(pair(size) for size in model["trained_window_sizes"])
  maps = map_sizes(config["data"]["image_size"], model["patch_size"], len(model["depths"]))
  return tuple(window_and_shift(size, pair(window), False)[0] for size, window in zip(maps, model["window_sizes"]))


def count_steps(config: ConfigDict, num_examples: int) -> tuple[int, int]:
  """(steps per epoch, total steps).

  Raises:
    BadInput: less data than a batch.
  """
  steps = num_examples // config.data.batch_size
  if not steps:
    raise BadInput(f"data.batch_size = {config.data.batch_size}, but split '{config.data.train_split}' has {num_examples} examples")
  return steps, max(1, round(config.optim.total_epochs * steps))


def intervals(config: ConfigDict, steps_per_epoch: int) -> dict[str, int]:
  """Steps between two evaluations ("evaluate"), two saves ("save"), and two saves that are kept for good ("keep"; 0 for none)."""
  every = {"evaluate": config.log.eval_every_epochs, "save": config.checkpoint.every_epochs}
  every = {name: max(1, round(epochs * steps_per_epoch)) for name, epochs in every.items()}
  return every | {"keep": every["save"] * config.checkpoint.keep_every}


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


def write(config: ConfigDict, workdir: str) -> None:
  """Writes the resolved config to the workdir."""
  if jax.process_index() > 0:
    return
  files.write(pathlib.Path(workdir) / "config.json", json.dumps(config.to_dict(), indent=2) + "\n")


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
    longer = any(text.startswith("optim.total_epochs") for text in differing)
    hint = "; a longer schedule needs --config.checkpoint.longer_schedule" if longer else ""
    raise BadInput(f"{workdir} holds a run with another config: {', '.join(differing)}{hint}; take another --workdir, or that config")


def check_same_model(config: ConfigDict, stored: dict[str, Any], workdir: str) -> None:
  """Refuses to evaluate weights under a config that gives their numbers another meaning; windows and image size may differ.

  Raises:
    BadInput: keys differ that may not.
  """
  names = ("task", "model.version", "model.patch_size", "model.embed_dim", "model.depths", "model.num_heads", "model.mlp_ratio",
           "model.extra_norm_every", "data.mean", "data.std", "masked_pixels.target_norm_window")  # fmt: skip
  ours, theirs = flatten(json.loads(json.dumps(config.to_dict()))), flatten(stored)
  if differing := [f"{name} ({theirs.get(name)} → {ours.get(name)})" for name in names if ours.get(name) != theirs.get(name)]:
    raise BadInput(f"{workdir} was trained with another config: {', '.join(differing)}; give the flags of its training, see config.json there")


def check_same_data(before: int, now: int, split: str) -> None:
  """Refuses to continue on data of another size: order and schedule would change.

  Raises:
    BadInput: the number of examples differs.
  """
  if before != now:
    raise BadInput(f"the run was trained on {before} examples, split '{split}' of data.path now has {now}: take a new --workdir")


def describe(config: ConfigDict, data: Any, program: Any, total_steps: int, workdir: str) -> str:
  """The run in a few lines; the config and a table of all parameters are in the workdir."""
  rows, state = [], program.state
  decays = optim.OFFICIAL_PRETRAINING_DECAY_RULES if config.optim.official_pretraining_decay else optim.DECAY_RULES
  mask = jax.tree.leaves(optim.decay_mask(state.params, decays))
  for (path, leaf), decay in zip(jax.tree_util.tree_leaves_with_path(state.params), mask):
    rows.append((optim.path_name(path), leaf.shape, leaf.sharding.spec, sharding.bytes_per_device(leaf), "decays" if decay else ""))
  if jax.process_index() == 0:
    lines = ["parameter | shape | partition | bytes per device | weight decay"] + [" | ".join(map(str, row)).rstrip() for row in rows]
    (pathlib.Path(workdir) / "parameters.txt").write_text("\n".join(lines) + "\n")
  count = sum(math.prod(row[1]) for row in rows)
  mesh = " × ".join(f"{name} {size}" for name, size in program.mesh.shape.items())
  held = {"parameters": state.params, "optimizer state": state.opt_state, "average": state.ema}
  held = ", ".join(f"{name} {sharding.bytes_per_device(tree) / 1e9:.3g} GB" for name, tree in held.items() if tree is not None)
  path, whole = sharding.largest_replicated(state)
  whole = f"; the largest array that each holds whole is {path}, {whole / 1e6:.0f} MB" if whole > 4e6 else ""
  return (
      f"{config.task}, Swin V{config.model.version}: {count:,} parameters, {program.flops / 1e9:.3g} GFLOP an image;"
      f" {sum(mask)} of {len(mask)} arrays decay ({workdir}/parameters.txt)\n"
      f"{jax.device_count()} {jax.devices()[0].device_kind} as {mesh}; {len(data.train_source):,} images to train,"
      f" {len(data.eval_source):,} to evaluate; {total_steps:,} steps of {config.data.batch_size}\n"
      f"each device holds {held}{whole}"
  )


def check(config: ConfigDict) -> None:
  """Checks what needs neither data nor devices.

  Raises:
    BadInput: numbers that cannot be; the message names the keys.
  """
  m, d, a = config.model, config.data, config.augment
  choices = {
      "task": (config.task, ("classification", "masked_pixels")),
      "model.version": (m.version, (1, 2)),
      "model.dtype": (m.dtype, ("bfloat16", "float32")),
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
                     ("checkpoint.keep_latest", config.checkpoint.keep_latest), ("model.patch_size", m.patch_size)):  # fmt: skip
    if value < 1:
      raise BadInput(f"config.{key} = {value} must be at least 1")
  for key, value in (("checkpoint.keep_every", config.checkpoint.keep_every), ("checkpoint.keep_best", config.checkpoint.keep_best),
                     ("optim.skip_nonfinite_steps", config.optim.skip_nonfinite_steps), ("profile.num_steps", config.profile.num_steps),
                     ("data.num_workers", d.num_workers)):  # fmt: skip
    if value < 0:
      raise BadInput(f"config.{key} = {value} must not be negative")
  for key, low, value, high in (
      ("model.drop_path_rate", 0, m.drop_path_rate, 0.99), ("optim.ema_decay", 0, config.optim.ema_decay, 0.999999),
      ("optim.layer_decay", 0.01, config.optim.layer_decay, 1), ("classification.label_smoothing", 0, config.classification.label_smoothing, 0.99),
  ):  # fmt: skip
    if not low <= value <= high:
      raise BadInput(f"config.{key} must be between {low} and {high}, and is {value}")
  if not 0 <= config.optim.warmup_epochs <= config.optim.total_epochs:
    raise BadInput(f"config.optim.warmup_epochs = {config.optim.warmup_epochs} must not be more than optim.total_epochs = {config.optim.total_epochs}")
  if config.optim.schedule in ("step", "multistep") and not config.optim.milestone_epochs:
    raise BadInput(f"config.optim.schedule = '{config.optim.schedule}' needs optim.milestone_epochs")
  if a.rand_augment_operations and len(d.mean) not in rand_augment.BANDS:
    raise BadInput(f"RandAugment is for images of 1 or 3 bands, data.mean has {len(d.mean)}: set augment.rand_augment_operations=0")
  if a.crop_padding and a.eval_crop_fraction != 1.0:
    raise BadInput("augment.crop_padding is for small images seen whole: set augment.eval_crop_fraction=1.0")
  stages = len(m.depths)
  for name in ("num_heads", "window_sizes", "trained_window_sizes", "attention_chunks"):
    if len(m[name]) != stages and (m[name] or name in ("num_heads", "window_sizes")):
      raise BadInput(f"model.{name} = {m[name]} needs one entry for each of the {stages} stages of model.depths = {m.depths}")
  for i, heads in enumerate(m.num_heads):
    if heads < 1 or (m.embed_dim * 2**i) % heads:
      raise BadInput(f"model.num_heads[{i}] = {heads} does not divide the {m.embed_dim * 2**i} channels of stage {i}")
  for size in (*m.window_sizes, *m.trained_window_sizes):
    if min(pair(size)) < 1:
      raise BadInput(f"model.window_sizes = {m.window_sizes}, trained {m.trained_window_sizes}: a window has at least one token")
  if len(d.image_size) != 2 or min(d.image_size) < m.patch_size:
    raise BadInput(f"data.image_size = {d.image_size} must be (height, width), each at least model.patch_size = {m.patch_size}")
  if len(d.mean) != len(d.std) or not d.mean or min(d.std) <= 0:
    raise BadInput(f"data.mean = {d.mean} and data.std = {d.std} need one number a band, the deviations above 0")
  remat.policy(m.remat)
  for i, (chunks, size) in enumerate(zip(m.attention_chunks, map_sizes(d.image_size, m.patch_size, stages))):
    window, _ = window_and_shift(size, pair(m.window_sizes[i]), False)
    try:
      chunk_counts(chunks, math.prod(padded_size(size, window)) // math.prod(window), m.num_heads[i] // max(1, config.mesh.model))
    except BadInput as error:
      raise BadInput(f"config.model.attention_chunks[{i}] = {chunks}: stage {i}, {error}") from error
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
