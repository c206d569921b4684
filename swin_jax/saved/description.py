"""Model descriptions: the part of a run's config that determines the meaning of its weights.

The config.json of a model folder holds one. Its keys are those of `configs/common.py`, so workdirs and model
folders are read in the same way.
"""

from collections.abc import Sequence
import copy
import math
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from swin_jax.models import BACKBONES, backbone_name, backbone_of, levels_of, windows
from swin_jax.tasks import KINDS, kind_of
from swin_jax.terminal import json_files, rules
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import printable

# Keys of the data in the description of every model, with their rules; its task and its backbone add theirs.
DATA = {
  "image_size": rules.Items(rules.SIDE, (2, 3)),
  "dtype": rules.Choice("uint8", "float32"),
  "mean": rules.Items(rules.MEAN, range(rules.BANDS.high + 1)),
  "std": rules.Items(rules.STD, range(rules.BANDS.high + 1)),
  "class_names": rules.Items(rules.Text(), range(1_000_001)),  # by label; may be empty
}
# Keys that older runs and model folders lack, with the values that were in effect then. Tasks state their
# own, and a backbone fills in its own (`BackboneKind.describe`).
DEFAULTS_OF_OLD_FORMATS = {
  "data": {"class_names": [], "dtype": "uint8", "fit_to_set": False},
  "model_of_source": False,
  "optim": {"total_steps": 0, "freeze_encoder": False},
  "checkpoint": {"best_by": "", "patience": 0},
  "log": {"wandb": ""},
  "augment": {"interpolation": "bilinear", "rotate": False},
  "transfer": {"bias_tables": "geometric", "bands": "repeat", "class_map": ""},
  **{kind.group: kind.defaults_of_old_formats for kind in KINDS.values()},
}


def describe(config: dict[str, Any], source: str) -> dict[str, Any]:
  """Returns the model description in a run's config or in a config.json, with explicit trained windows.

  Args:
    config: of a run or a model folder.
    source: name of the source, for messages.

  Raises:
    BadInput: the config lacks a key, or a value is invalid or contradicts another; the message names it.
  """
  if wrong := _find_damage(config):
    raise BadInput(f"the config of {source} is damaged: {wrong}; it must be one that this program wrote")
  try:
    kind, backbone = kind_of(config), backbone_of(config)
    description = backbone.describe(config)
    description["model"] = {"backbone": backbone_name(config)} | description.get("model", {})
    description |= {
      group: {key: _value(config, group, key) for key in keys}
      for group, keys in ({"data": DATA} | kind.describe).items()
    }
    description["task"] = config["task"]
    description["data"]["class_names"] = list(map(printable, description["data"]["class_names"]))
  except KeyError as error:
    raise BadInput(f"the config of {source} lacks {error}: it must be one that this program wrote") from error
  try:
    settings = ConfigDict(description)
    check_data(settings)
    backbone.check_saved(settings)
    kind.check_saved(settings)
  except BadInput as error:
    raise BadInput(f"the config of {source} contradicts itself: {error}") from error
  return description


def _find_damage(config: Any) -> str:
  """Returns what is wrong with the values of a config that a description takes from it; "" if nothing is.

  A missing key is not wrong: older configs lack some.
  """
  names = {"task": rules.Choice(*KINDS), "model": {"backbone?": rules.Choice(*BACKBONES)}}
  if wrong := json_files.check(config, names):
    return wrong
  kind, backbone = kind_of(config), backbone_of(config)
  table = {f"data.{key}": rule for key, rule in DATA.items()}
  table |= {key: rule for key, rule in backbone.rules.items() if key not in backbone.may_differ}
  described = (f"{group}.{key}" for group, keys in kind.describe.items() for key in keys)
  table |= {key: kind.rules[key] for key in described}
  schema = {}
  for name, rule in table.items():
    group, _, key = name.partition(".")
    schema.setdefault(f"{group}?", {})[f"{key}?"] = rule
  return json_files.check(config, schema)


def check_data(config: ConfigDict) -> None:
  """Checks the images that a config or a description names: size, bands and dtype.

  Raises:
    BadInput: values contradict each other; the message names the keys.
  """
  d = config.data
  if math.prod(d.image_size) > rules.MOST_PIXELS:
    raise BadInput(
      f"data.image_size = {d.image_size} is {math.prod(d.image_size):,} pixels; at most"
      f" {rules.MOST_PIXELS:,} are possible"
    )
  if len(d.mean) != len(d.std) or not d.mean:
    raise BadInput(f"data.mean = {d.mean} and data.std = {d.std} need one number per band")
  for name in ("mean", "std"):
    if d.dtype == "uint8" and not all(0 <= number <= 1 for number in d[name]):
      raise BadInput(
        f"data.{name} = {tuple(round(number, 3) for number in d[name])}, but pixels of data.dtype=uint8 are"
        " scaled to 0..1: for rasters of other numbers give --config.data.dtype=float32"
      )


def _value(config: dict[str, Any], group: str, key: str) -> Any:
  """Returns the value of a config key; for a config older than the key, the value that was in effect then."""
  old = DEFAULTS_OF_OLD_FORMATS.get(group)
  return (config[group] if old is None else old | config.get(group, {}))[key]


def adapt(
  description: dict[str, Any],
  window: Any = None,
  image_size: Any = None,
  bands: int | None = None,
  band_rule: str = "repeat",
  class_rows: Sequence[int] | None = None,
) -> dict[str, Any]:
  """Returns the description of the same model for other windows, images, bands and classes.

  Args:
    description: of the model.
    window: for all stages, or (height, width); None keeps the windows, including windows that differ by
      stage.
    image_size: pixels, or (height, width); None keeps it.
    bands: number of image bands; None keeps it.
    band_rule: how new bands are derived, see `transfer.Rules`; their mean and std are derived from the old
      ones in the same way.
    class_rows: for each new class, by label, the old class it is taken from; None keeps the classes.

  Raises:
    BadInput: a window, image size or number of bands is invalid, or the backbone has no windows.
  """
  adapted, axes = copy.deepcopy(description), len(description["data"]["image_size"])
  for name, size in (("window", window), ("image_size", image_size)):
    if size is not None and rules.Items(rules.SIDE, (axes,)).problem(windows.sides(size, axes)):
      expected = "height and width" if axes == 2 else "time, height and width"
      raise BadInput(
        f"{name} must be a positive number of at most {rules.SIDE.high:,}, or {expected}, not {size}"
      )
  if window is not None:
    adapted = backbone_of(adapted).adapt(adapted, window)
  if image_size is not None:
    adapted["data"]["image_size"] = list(windows.sides(image_size, axes))
    if math.prod(adapted["data"]["image_size"]) > rules.MOST_PIXELS:
      raise BadInput(f"image_size = {image_size} is more than {rules.MOST_PIXELS:,} pixels")
    patch = levels_of(adapted)[0].stride
    if any(side < stride for side, stride in zip(adapted["data"]["image_size"], patch, strict=True)):
      raise BadInput(f"image_size = {image_size} must be at least the model's patch of {patch} pixels")
  if bands is not None:
    if wrong := rules.BANDS.problem(bands):
      raise BadInput(f"bands = {bands}: {wrong}")
    for name, neutral in (("mean", 0.0), ("std", 1.0)):
      old = adapted["data"][name]
      adapted["data"][name] = {
        "repeat": [old[i % len(old)] for i in range(bands)],
        "mean": [sum(old) / len(old)] * bands,
        "zero": [old[i] if i < len(old) else neutral for i in range(bands)],
      }[band_rule]
  if class_rows is not None:
    names = adapted["data"]["class_names"]
    adapted["data"]["class_names"] = (
      [names[row] for row in class_rows] if max(class_rows) < len(names) else []
    )
    kind = kind_of(adapted)
    if kind.needs.has_classes:
      adapted[kind.group]["num_classes"] = len(class_rows)
  return adapted


def make_module(
  description: dict[str, Any], dtype: str = "float32", unroll: bool = False, kernel: str = "xla"
) -> nn.Module:
  """Returns the model as a linen module, for inference."""
  encoder = backbone_of(description).restore(description, dtype=dtype, unroll=unroll, kernel=kernel)
  return kind_of(description).module(encoder, description)


def parameter_shapes(description: dict[str, Any]) -> dict[str, tuple[int, ...]]:
  """Returns the shape of every parameter, by path; nothing is computed."""
  module, size = make_module(description), tuple(description["data"]["image_size"])
  images = jax.ShapeDtypeStruct((1, *size, len(description["data"]["mean"])), jnp.float32)
  others = kind_of(description).inputs(description, size).values()
  inputs = (images, *(jax.ShapeDtypeStruct((1, *shape), dtype) for shape, dtype in others))
  variables = jax.eval_shape(
    lambda *inputs: flax.core.meta.unbox(module.init(jax.random.key(0), *inputs)), *inputs
  )
  return {
    path: leaf.shape for path, leaf in flax.traverse_util.flatten_dict(variables["params"], sep="/").items()
  }


def summary(description: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> tuple[str, str]:
  """Returns a summary of the model in two lines."""
  data, backbone = description["data"], backbone_of(description).summarise(description)
  pixels = " × ".join(map(str, data["image_size"]))
  bands = f"{len(data['mean'])} band{'s' * (len(data['mean']) > 1)}"
  return (
    f"{backbone.name}, {kind_of(description).summarise(description)}:"
    f" {sum(map(math.prod, shapes.values())):,} parameters",
    f"{backbone.sizes}, {bands}; {pixels} px" + (f", {backbone.geometry}" if backbone.geometry else ""),
  )
