"""What a model is: the part of a run's config that the meaning of its weights depends on, as config.json of a
model folder holds it.

The keys are those of `configs/common.py`, so that a workdir and a model folder are read alike.
"""

from collections.abc import Sequence
import copy
import math
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp

from swin_jax.models import backbone_name, backbone_of, windows
from swin_jax.tasks import kind_of
from swin_jax.terminal.errors import BadInput

# What a description keeps of the data, for every model: class names by label, perhaps none. Task and backbone
# add keys of their own.
DATA = ("image_size", "dtype", "mean", "std", "class_names")
# Keys that runs and model folders from before them lack, with what they did.
DEFAULTS_OF_OLD_FORMATS = {
  "data": {"class_names": [], "dtype": "uint8"},
  "augment": {"interpolation": "bilinear"},
}


def describe(config: dict[str, Any], source: str) -> dict[str, Any]:
  """The description in a run's config, or in a config.json, with the trained windows said.

  Args:
    config: of a run or a model folder.
    source: what to call it in messages.

  Raises:
    BadInput: it lacks something; the message names it.
  """
  try:
    kind, backbone = kind_of(config), backbone_of(config)
    described = backbone.describe(config)
    described["model"] = {"backbone": backbone_name(config)} | described.get("model", {})
    described |= {
      group: {key: _value(config, group, key) for key in keys}
      for group, keys in ({"data": DATA} | kind.describe).items()
    }
    described["task"] = config["task"]
    described["data"]["class_names"] = list(described["data"]["class_names"])
  except (KeyError, TypeError, IndexError) as error:
    raise BadInput(f"the config of {source} lacks {error}: it must be one that this program wrote") from error
  return described


def _value(config: dict[str, Any], group: str, key: str) -> Any:
  """Returns what a config says of a key or, where it is older than the key, what was done then."""
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
  """The same model for other windows, images, bands and classes.

  Args:
    description: of the model.
    window: for all stages, or (height, width); None to keep them. Where the stages have their own and it is
      None, they keep them.
    image_size: pixels, or (height, width); None to keep it.
    bands: of the images; None to keep them.
    band_rule: what new bands are made of, see `transfer.Rules`; their mean and std are made of the old ones
      alike.
    class_rows: the class that each becomes, by label; None to keep them.

  Raises:
    BadInput: a window, an image size or a number of bands that is none; or the backbone has no windows.
  """
  made, axes = copy.deepcopy(description), len(description["data"]["image_size"])
  for name, size in (("window", window), ("image_size", image_size)):
    if size is not None and not (
      len(windows.sides(size, axes)) == axes and min(windows.sides(size, axes)) > 0
    ):
      wanted = "height and width" if axes == 2 else "time, height and width"
      raise BadInput(f"{name} must be a positive number, or {wanted}, not {size}")
  if window is not None:
    made = backbone_of(made).adapt(made, window)
  if image_size is not None:
    made["data"]["image_size"] = list(windows.sides(image_size, axes))
  if bands is not None:
    if bands < 1:
      raise BadInput(f"bands must be a positive number, not {bands}")
    for name, neutral in (("mean", 0.0), ("std", 1.0)):
      old = made["data"][name]
      made["data"][name] = {
        "repeat": [old[i % len(old)] for i in range(bands)],
        "mean": [sum(old) / len(old)] * bands,
        "zero": [old[i] if i < len(old) else neutral for i in range(bands)],
      }[band_rule]
  if class_rows is not None:
    names = made["data"]["class_names"]
    made["data"]["class_names"] = [names[row] for row in class_rows] if max(class_rows) < len(names) else []
    kind = kind_of(made)
    if kind.needs.has_classes:
      made[kind.group]["num_classes"] = len(class_rows)
  return made


def make_module(
  description: dict[str, Any], dtype: str = "float32", unroll: bool = False, kernel: str = "xla"
) -> nn.Module:
  """Returns the model as a linen module, for inference."""
  encoder = backbone_of(description).restore(description, dtype=dtype, unroll=unroll, kernel=kernel)
  return kind_of(description).module(encoder, description)


def parameter_shapes(description: dict[str, Any]) -> dict[str, tuple[int, ...]]:
  """The shape of every parameter, by path; nothing is computed."""
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


def summary(description: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> str:
  """The model in two lines."""
  data, backbone = description["data"], backbone_of(description).summarise(description)
  pixels = " × ".join(map(str, data["image_size"]))
  bands = f"{len(data['mean'])} band{'s' * (len(data['mean']) > 1)}"
  return (
    f"{backbone.name}, {kind_of(description).summarise(description)}:"
    f" {sum(map(math.prod, shapes.values())):,} parameters\n"
    f"{backbone.sizes}, {bands}; {pixels} px" + (f", {backbone.geometry}" if backbone.geometry else "")
  )
