"""Fits a run to its training images (`data.fit_to_set`), and warns of settings that may work poorly."""

from collections.abc import Collection
import math
from typing import Any

from ml_collections import ConfigDict

from swin_jax.mesh import sharding
from swin_jax.run import config as run_config
from swin_jax.tasks import kind_of

_BATCHES = 8  # batches that an epoch should have at least ...
_SMALL_BATCH = 32  # ... unless batches become smaller than this
_LEAST_STEPS = 1000  # chosen length of a run whose epochs have fewer steps in total
_FEW_STEPS = 200  # fewer than this are named
_RATE_SHARE = 1 / 20  # of the rate given; a lower peak is named
_WARMUP_SHARE = 1 / 3  # of the run; a longer warm-up is named
_BATCH, _EPOCHS, _STEPS = "data.batch_size", "optim.total_epochs", "optim.total_steps"
# Keys in epochs that grow with the length of the run, so that it keeps its shape.
_SHAPE = ("optim.warmup_epochs", "optim.milestone_epochs", "log.eval_every_epochs", "checkpoint.every_epochs")


def by_size(config: ConfigDict, given: Collection[str]) -> dict[str, Any]:
  """Returns the values that suit the size of the images, by key, if data.fit_to_set is on.

  Args:
    config: as given.
    given: keys that flags set; they keep their value.
  """
  chosen = kind_of(config).fit(config) if config.data.fit_to_set else {}
  return {key: value for key, value in chosen.items() if key not in given}


def by_number(config: ConfigDict, num_examples: int, given: Collection[str]) -> dict[str, Any]:
  """Returns the values that suit the number of training images, by key, if data.fit_to_set is on.

  Raises:
    BadInput: the devices do not form the mesh.
  """
  chosen, batch_size = {}, config.data.batch_size
  if not config.data.fit_to_set:
    return chosen
  if _BATCH not in given:
    parts = sharding.batch_parts(sharding.make_mesh(config.mesh), config.sharding_rules)
    batch_size = _batch_size(batch_size, num_examples, parts * config.optim.accumulation_steps)
    chosen[_BATCH] = batch_size
  steps = config.optim.total_epochs * (num_examples // batch_size)
  if not {_EPOCHS, _STEPS}.intersection(given) and steps and not config.optim.total_steps:
    chosen[_STEPS] = max(round(steps), _LEAST_STEPS)
    if (longer := chosen[_STEPS] / steps) > 1.01:
      chosen |= {key: _times(_get(config, key), longer) for key in _SHAPE}
  return {key: value for key, value in chosen.items() if key not in given}


def kept(config: ConfigDict, stored: dict[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
  """Returns the values that a run began with, by key, if data.fit_to_set is on.

  Args:
    config: as given.
    stored: config of the run, or the part of it that a model folder keeps.
    given: keys that flags set; they keep their value.
  """
  if not config.data.fit_to_set:
    return {}
  keys = (*kind_of(config).fit(config), _BATCH, *([] if _EPOCHS in given else [_STEPS]), *_SHAPE)
  values = {}
  for key in keys:
    group, _, name = key.partition(".")
    if key not in given and name in stored.get(group, {}):
      value = stored[group][name]
      values[key] = tuple(value) if isinstance(value, list) else value
  return values


def apply(config: ConfigDict, values: dict[str, Any]) -> ConfigDict:
  """Returns the config with these values, by key."""
  config = config.copy_and_resolve_references()
  for key, value in values.items():
    group, _, name = key.partition(".")
    config[group][name] = value
  return config


def changes(config: ConfigDict, values: dict[str, Any]) -> set[str]:
  """Returns the keys that have another value in the config than among these."""
  return {key for key, value in values.items() if _get(config, key) != value}


def describe(values: dict[str, Any], num_examples: int, is_kept: bool) -> str:
  """Returns what was chosen, or kept from the start of the run, in a line."""
  shown = ", ".join(
    f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
    for key, value in values.items()
    if value not in ((), 0)
  )
  why = "as chosen when the run began" if is_kept else f"for {num_examples:,} training images"
  return f"data.fit_to_set, {why}: {shown}"


def warnings(
  config: ConfigDict,
  steps_per_epoch: int,
  total_steps: int,
  changed: Collection[str],
  largest: tuple[int, int] | None,
) -> list[str]:
  """Returns warnings of settings likely to give a poor result, a line each.

  Args:
    config: of the run.
    steps_per_epoch, total_steps: of the run.
    changed: keys whose value is not the config file's. A file whose rate and batch were made for each other
      needs no remark on the rate.
    largest: (height, width) of the largest training image; None where it is unknown.
  """
  o, size = config.optim, config.data.batch_size
  warmup_steps = run_config.warmup_steps(config, steps_per_epoch)
  _, peak = run_config.learning_rate(config, steps_per_epoch, total_steps)
  lines = []
  if total_steps < _FEW_STEPS:
    lines.append(
      f"the run has only {total_steps} steps of {size} images, too few to learn much: give more epochs, a"
      f" smaller --{'config.' + _BATCH}, or --{'config.' + _STEPS}={_LEAST_STEPS}"
    )
  if warmup_steps > total_steps * _WARMUP_SHARE:
    lines.append(
      f"the warm-up takes {warmup_steps} of the {total_steps} steps: give a smaller"
      " --config.optim.warmup_epochs, or a longer run"
    )
  if {_BATCH, "optim.lr"}.intersection(changed) and 0 < peak < o.lr * _RATE_SHARE:
    lines.append(
      f"the peak learning rate is {peak:.3g}, not {o.lr:.3g}: optim.lr is per 512 images, and the batch has"
      f" {size}; for {o.lr:.3g} give --config.optim.lr={o.lr * 512 / size:.3g}"
    )
  return [*lines, *kind_of(config).warnings(config, largest)]


def _batch_size(most: int, num_examples: int, unit: int) -> int:
  """Returns a multiple of `unit`, at most `most`, that leaves few images of an epoch unused; `most` if there
  is none.
  """
  aim = min(most, max(_SMALL_BATCH, num_examples // _BATCHES))
  size = min(most, num_examples // max(1, num_examples // aim))
  whole = math.lcm(4, unit)
  return size // whole * whole or size // unit * unit or most


def _times(value: Any, factor: float) -> Any:
  return tuple(each * factor for each in value) if isinstance(value, tuple) else value * factor


def _get(config: ConfigDict, key: str) -> Any:
  group, _, name = key.partition(".")
  return config[group][name]
