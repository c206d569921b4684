"""Exports a saved model to a file with the names and shapes of another program."""

import collections
from collections.abc import Callable
import contextlib
import functools
import json
import pathlib
from typing import Any

import jax
import numpy as np

from swin_jax.models import backbone_of, swin, windows
from swin_jax.models.norms import GROUP
from swin_jax.models.swin import official
from swin_jax.models.swin.settings import changed
from swin_jax.saved import choices, tensors
from swin_jax.saved import description as descriptions
from swin_jax.saved.saved import Saved
from swin_jax.tasks import classification, kind_of, masked_pixels, segmentation
from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput
from swin_jax.weights import conventions, layouts, loading, upernet

# Task → layouts whose programs have its models, and what they are called in messages.
_LAYOUTS = {
  classification.KIND.group: (choices.LAYOUTS, ""),
  masked_pixels.KIND.group: (("official", "hf"), "a masked-image model"),
  segmentation.KIND.group: (("hf", "openmmlab", "official"), "a UPerNet"),
}

# Layouts whose files hold constants, and which of them.
_CONSTANTS = {"official": ("index", "table", "mask")} | dict.fromkeys(
  ("torchvision", "openmmlab"), ("index", "table")
)


def plan(
  saved: Saved, layout: str
) -> tuple[dict[str, tuple[tuple[int, ...], np.dtype]], Callable[[str], np.ndarray]]:
  """Maps a saved model to another layout.

  Args:
    saved: as opened by `folder.open_saved`.
    layout: one of `choices.LAYOUTS`.

  Returns:
    Shape and dtype of every tensor by name, and a function from a name to the tensor.

  Raises:
    BadInput: the layout cannot represent the model.
  """
  description = _describe(saved, layout)
  model = description["model"]
  kind, stages = kind_of(description), len(model["depths"])
  masked, dense = kind is masked_pixels.KIND, kind is segmentation.KIND
  spelling = layouts.make(layout, model["version"], stages, masked=masked, dense=dense)
  table, makers = {}, collections.defaultdict(list)
  for path, shape in saved.shapes.items():
    names = layouts.names(path, model)
    stacked = isinstance(names, list)
    for block, name in enumerate(names if stacked else [names]):
      parts, form, (k, count) = spelling.spell(name), spelling.form(name, model), spelling.part(name)
      whole = form.write(np.broadcast_to(np.float32(0), shape[stacked:])).shape
      for i, part in enumerate(parts):
        table[part] = (whole[0] // len(parts) * count, *whole[1:]), np.dtype(np.float32)
        makers[part].append((path, block if stacked else None, form, (i, len(parts)), (k, count)))
  zero = np.zeros((), np.int64)
  constants = {counter: lambda: zero for name in table if (counter := upernet.counter(name))}
  if layout in _CONSTANTS:
    for name, make in official.buffers(description).items():
      if name.endswith(_CONSTANTS[layout]) and not (dense and name.endswith("mask")):
        flat = layout == "torchvision" and name.endswith("index")
        constants[spelling.spell(name)[0]] = lambda make=make, flat=flat: (
          make().reshape(-1) if flat else make()
        )
  for name, make in constants.items():
    value = make()
    table[name] = value.shape, value.dtype

  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

  @functools.lru_cache(maxsize=1)  # blocks that are stacked here are written consecutively
  def ours(path):
    return np.asarray(
      saved.read({path: jax.ShapeDtypeStruct(saved.shapes[path], np.float32, sharding=here)})[path]
    )

  def read(name):
    if name in constants:
      return constants[name]()
    tensor = np.zeros(table[name][0], np.float32)
    for path, block, form, (i, count), (k, parts) in makers[name]:
      value = ours(path) if block is None else ours(path)[block]
      np.split(tensor, parts)[k][...] = np.split(form.write(value), count)[i]  # a view of the rows
    return tensor

  return table, read


def _describe(saved: Saved, layout: str) -> dict[str, Any]:
  """Returns the description of a model, after checking that the layout can represent it.

  Raises:
    BadInput: the layout cannot represent its backbone, its head, its axes or one of its settings.
  """
  description = descriptions.describe(saved.config, saved.source)
  if backbone_of(description) is not swin.KIND:
    raise BadInput(f"{saved.source} is not a Swin Transformer; python -m swin_jax.export exports it")
  if description["task"] not in _LAYOUTS:
    raise BadInput(
      f"{saved.source} is a model of {description['task']}, whose head no other layout has; python -m "
      "swin_jax.export exports the whole model"
    )
  dense = kind_of(description) is segmentation.KIND
  known, called = _LAYOUTS[description["task"]]
  if layout not in known:
    *others, last = known
    advice = "" if dense else ", or fine-tune it first"
    raise BadInput(
      f"{saved.source} is {called}, which {layout} does not have; --layout={', '.join(others)} or"
      f" {last}{advice}"
    )
  if dense:
    _check_dense(description, saved.source)
  every = description["model"]["extra_norm_every"]
  if every and layout not in ("official", "openmmlab"):
    raise BadInput(
      f"{saved.source} has an extra norm every {every} blocks, which --layout={layout} cannot hold"
    )
  settings = changed(description) | conventions.unlike(description, layout, dense)
  patch = windows.sides(description["model"]["patch_size"], 2)
  if len(set(patch)) > 1:
    settings["patch_size"] = patch
  trait = " and ".join(f"model.{key} = {value!r}" for key, value in settings.items())
  trait = f"has {trait}" if trait else ""
  if len(description["data"]["image_size"]) != 2:
    trait = "is a model of clips"
  if trait:
    raise BadInput(
      f"{saved.source} {trait}, which --layout={layout} cannot represent; python -m swin_jax.export exports"
      " the whole model"
    )
  if not dense and (why := conventions.refused_size(description, layout)):
    size = " × ".join(map(str, description["data"]["image_size"]))
    raise BadInput(
      f"{saved.source}: images of {size} px {why}; python -m swin_jax.export exports the whole model"
    )
  description["model"] |= {"patch_size": patch[0]}  # a number, even where the model has one for each axis
  return description


def _check_dense(description: dict[str, Any], source: str) -> None:
  """Checks that other programs can have a UPerNet.

  Raises:
    BadInput: its norms or its backbone are of another kind.
  """
  norm = description[segmentation.KIND.group]["norm"]
  why = ""
  if norm != "batch":
    why = (
      f"norms with segmentation.norm={norm!r}, statistics of each image over {GROUP} channels, where other"
      " programs' UPerNet has batch norm with running statistics"
    )
  elif description["model"]["version"] != 1:
    why = "a backbone of Swin V2, where other programs' UPerNet has V1"
  if why:
    raise BadInput(f"{source} has {why}; python -m swin_jax.export exports the whole model")


def export(saved: Saved, destination: str, layout: str) -> list[str]:
  """Writes a .safetensors file in another layout; for Hugging Face also its config.json in the same folder.

  Returns:
    Lines that explain how to load the file.

  Raises:
    BadInput: the layout cannot represent the model, or the file already exists.
  """
  path = pathlib.Path(destination)
  if path.suffix != ".safetensors":
    raise BadInput(f"{destination} must end in .safetensors")
  description = _describe(saved, layout)
  config = loading.hf_config(description, saved.source) if layout == "hf" else None
  how_to_load = (
    loading.with_transformers(config, path)
    if config
    else loading.in_python(description, path, layout, saved.source)
  )
  targets = [path] + ([path.with_name("config.json")] if config else [])
  files.check_free(destination)
  if existing := [str(target) for target in targets if target.exists()]:
    raise BadInput(f"{existing[0]} already exists; choose another name")
  table, read = plan(saved, layout)
  with files.replacing(targets[1]) if config else contextlib.nullcontext() as partial:  # both files or none
    if config:
      partial.write_text(json.dumps(config, indent=2) + "\n")
    tensors.write(path, ((name, shape, dtype) for name, (shape, dtype) in table.items()), read)
  return [f"wrote {destination}: {len(table)} tensors, names and shapes of {layout}", how_to_load]
