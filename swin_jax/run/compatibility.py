"""Checks that a config is compatible with the run that it continues, the model that it evaluates, or the
weights that it starts from.
"""

from collections.abc import Sequence
import functools
import json
import math
from typing import Any

import flax
from ml_collections import ConfigDict

from swin_jax.models import backbone_name, backbone_of
from swin_jax.models.backbone import BackboneKind
from swin_jax.run import reads
from swin_jax.saved.description import DEFAULTS_OF_OLD_FORMATS
from swin_jax.tasks import kind_of
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed

flatten = functools.partial(flax.traverse_util.flatten_dict, sep=".")

# Keys that may change when a run is continued, in addition to `BackboneKind.may_differ`; with
# checkpoint.longer_schedule also `_LENGTH`.
MAY_DIFFER = (
  "mesh",
  "sharding_rules",
  "zero1",
  "log",
  "profile",
  "checkpoint",
  "data.num_threads",
  "data.num_workers",
  "data.max_bad_fraction",
  "data.fit_to_set",
  "optim.accumulation_steps",
  "optim.skip_nonfinite_steps",
)

_LENGTH = ("optim.total_epochs", "optim.total_steps")

# Keys filled in from the data that older runs did not store.
FROM_DATA = ("data.class_names",)


def check_same_run(config: ConfigDict, stored: dict[str, Any], workdir: str) -> None:
  """Checks that a run may be continued under this config.

  Only keys that the task and the backbone read are compared. A key that did not exist when the run began
  counts as having had the value in effect then.

  Raises:
    BadInput: keys differ that must not change during a run.
  """
  ours, theirs = _flat(config), flatten(stored)
  if ours.keys() - theirs.keys():
    old = flatten(DEFAULTS_OF_OLD_FORMATS) | {"model.backbone": backbone_name(stored)} | _of_backbone(stored)
    theirs = old | {key: ours[key] for key in FROM_DATA} | theirs
  allowed = MAY_DIFFER + backbone_of(config).may_differ
  allowed += _LENGTH if config.checkpoint.longer_schedule else ()
  differing = [
    f"{key} ({_short(theirs.get(key))} → {_short(ours.get(key))})"
    for key in sorted(ours.keys() | theirs.keys())
    if ours.get(key) != theirs.get(key) and reads.is_read(config, key) and not reads.is_in(key, allowed)
  ]
  if differing:
    longer = all(each.startswith(_LENGTH) for each in differing)
    hint = "; another length of the run needs --config.checkpoint.longer_schedule" if longer else ""
    shown = listed(differing) + hint
    raise BadInput(
      f"{workdir} holds a run with another config: {shown}; choose another --workdir, or use that config"
    )


def check_same_model(config: ConfigDict, stored: dict[str, Any], workdir: str) -> None:
  """Checks that weights keep their meaning when evaluated under this config; windows and image size may
  differ.

  Raises:
    BadInput: the task, the number of classes or a key of the model differs.
  """
  kind = kind_of(config)
  if kind_of(stored) is not kind:
    raise BadInput(
      f"{workdir} was trained for task={stored['task']}, but the config is for {config.task}: use a config "
      "of that task"
    )
  backbone = _check_same_backbone(config, stored, f"the backbone in {workdir}")
  names = [*backbone.weights, *backbone.applied, "data.dtype", "data.mean", "data.std"]
  # A classifier may pick rows of the saved head (`transfer.class_map`), so `transfer` compares the classes.
  own = [key for key in kind.describe.get(kind.group, ()) if kind.needs.per_pixel or key != "num_classes"]
  names += [f"{kind.group}.{key}" for key in own]
  ours, theirs = _flat(config), flatten(DEFAULTS_OF_OLD_FORMATS) | flatten(stored) | _of_backbone(stored)
  classes = kind.num_classes(stored), kind.num_classes(config)
  if kind.needs.per_pixel and classes[0] != classes[1]:
    raise BadInput(
      f"{workdir} has {classes[0]} classes, but the data has {classes[1]}: evaluate it on data with the same "
      "classes"
    )
  if differing := [
    f"{name} ({theirs.get(name)} → {ours.get(name)})" for name in names if ours.get(name) != theirs.get(name)
  ]:
    flags = _flags(theirs, [name for name in names if ours.get(name) != theirs.get(name)])
    raise BadInput(
      f"{workdir} was trained with another config: {', '.join(differing)}; to use the original give {flags}"
    )


def check_same_encoder(config: ConfigDict, source: dict[str, Any]) -> None:
  """Checks that weights belong to the same encoder; windows, image size and bands may differ.

  Raises:
    BadInput: the backbone or a key of it differs; the message gives the flags that match the weights.
  """
  backbone = _check_same_backbone(config, source, "the encoder in init_from")
  ours, theirs = _flat(config), _of_backbone(source)
  if differing := [name for name in backbone.weights if ours[name] != theirs[name]]:
    further = backbone.further_flags(config, source)
    flags = _flags(theirs | further, [*differing, *further])
    names = [backbone.summarise(settings).name for settings in (source, config)]
    other = f"{names[0]}, but this config's is {names[1]}" if names[0] != names[1] else "another one"
    raise BadInput(f"the encoder in init_from is {other}; to match it give {flags}")


def _check_same_backbone(config: ConfigDict, other: dict[str, Any], what: str) -> BackboneKind:
  """Returns the backbone that a config and other settings share.

  Raises:
    BadInput: they have different backbones; the message begins with `what`.
  """
  names = [backbone_name(settings) for settings in (other, config)]
  if names[0] != names[1]:
    raise BadInput(
      f"{what} is model.backbone={names[0]}, but this config has {names[1]}; to match it give"
      f" --config.model.backbone={names[0]}"
    )
  return backbone_of(config)


def _of_backbone(settings: dict[str, Any]) -> dict[str, Any]:
  """Returns the values that the backbone keeps with its weights, by key, as JSON represents them."""
  return flatten(json.loads(json.dumps(backbone_of(settings).describe(settings))))


def _flat(config: ConfigDict) -> dict[str, Any]:
  """Returns the values of a config by key, as JSON represents them."""
  return flatten(json.loads(json.dumps(config.to_dict())))


def other_normalisation(config: ConfigDict, source: dict[str, Any]) -> str:
  """Returns a note if the weights in init_from were trained on images with the same number of bands but
  another normalisation; otherwise "".
  """
  ours, theirs = ([*group["mean"], *group["std"]] for group in (config.data, source["data"]))
  if len(ours) != len(theirs) or all(
    math.isclose(a, b, abs_tol=1e-6) for a, b in zip(ours, theirs, strict=True)
  ):
    return ""
  flags = _flags(flatten(source), ["data.mean", "data.std"])
  return f"note: the weights in init_from were trained with other images; to match them: {flags}"


def check_same_data(before: int, now: int, split: str, may_grow: bool) -> None:
  """Checks that the size of the data is unchanged; otherwise the data order and the schedule would change.

  Args:
    before, now: number of examples when the run began, and of this data.
    split: name of the data, for the message.
    may_grow: whether the data may have more examples; the caller keeps the schedule.

  Raises:
    BadInput: the number of examples differs.
  """
  if before != now and not (may_grow and before < now):
    raise BadInput(
      f"the run was trained on {before} examples, split '{split}' of data.path now has {now}: choose a new "
      "--workdir"
    )


def _flags(values: dict[str, Any], names: Sequence[str]) -> str:
  """Returns the flags that set the named keys to their values; a trailing comma makes one number a tuple."""

  def text(value):
    if not isinstance(value, (list, tuple)):
      return value
    return ",".join(map(str, value)) + "," * (len(value) == 1)

  return " ".join(f"--config.{name}={text(values[name])}" for name in names)


def _short(value: Any) -> str:
  text = str(value)
  return text if len(text) <= 60 else f"{text[:60]}…"
