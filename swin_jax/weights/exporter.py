"""Exports a saved model to a file with the names and shapes of the official code, timm or Hugging Face."""

from collections.abc import Callable
import contextlib
import functools
import json
import pathlib
from typing import Any

import jax
import numpy as np

from swin_jax.models import backbone_of, swin, windows
from swin_jax.models.swin import official
from swin_jax.models.swin.settings import changed, pads, used_windows
from swin_jax.saved import description as descriptions
from swin_jax.saved import tensors
from swin_jax.saved.folder import check_free
from swin_jax.saved.saved import Saved
from swin_jax.tasks import classification, kind_of, masked_pixels
from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput
from swin_jax.weights import layouts

# Task → whether other programs treat its models as masked-image models; they support no other task's head.
_MASKED = {classification.KIND.group: False, masked_pixels.KIND.group: True}


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
  description = _describe(saved)
  model = description["model"]
  masked = _MASKED[description["task"]]
  if layout != "official" and model["extra_norm_every"]:
    raise BadInput(
      f"{saved.source} has an extra norm every {model['extra_norm_every']} blocks, which --layout={layout} "
      "cannot hold"
    )
  if masked and layout == "timm":
    raise BadInput(
      f"{saved.source} is a masked-image model, which timm does not have; --layout=official or hf, or"
      " fine-tune it first"
    )
  spelling = layouts.make(layout, model["version"], masked)
  table, makers = {}, {}
  for path, shape in saved.shapes.items():
    names = official.names(path, model)
    stacked = isinstance(names, list)
    for block, name in enumerate(names if stacked else [names]):
      parts, form = spelling.spell(name), official.form(name, model)
      whole = form.write(np.broadcast_to(np.float32(0), shape[stacked:])).shape
      for i, part in enumerate(parts):
        table[part] = (whole[0] // len(parts), *whole[1:]), np.dtype(np.float32)
        makers[part] = path, block if stacked else None, form, i, len(parts)
  constants = {}
  if layout == "official":
    constants = {spelling.encoder + name: make for name, make in official.buffers(description).items()}
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
    path, block, form, i, count = makers[name]
    value = ours(path) if block is None else ours(path)[block]
    return np.split(form.write(value), count)[i]

  return table, read


def _describe(saved: Saved) -> dict[str, Any]:
  """Returns the description of a model, after checking that other layouts can represent it.

  Raises:
    BadInput: other layouts cannot represent its backbone, its head, its axes or one of its settings.
  """
  description = descriptions.describe(saved.config, saved.source)
  if backbone_of(description) is not swin.KIND:
    raise BadInput(f"{saved.source} is not a Swin Transformer; python -m swin_jax.export exports it")
  if description["task"] not in _MASKED:
    raise BadInput(
      f"{saved.source} is a model of {description['task']}, whose head no other layout has; python -m "
      "swin_jax.export exports the whole model"
    )
  settings, patch = changed(description), windows.sides(description["model"]["patch_size"], 2)
  if len(set(patch)) > 1:
    settings["patch_size"] = patch
  trait = " and ".join(f"model.{key} = {value!r}" for key, value in settings.items())
  trait = f"has {trait}" if trait else ""
  if len(description["data"]["image_size"]) != 2:
    trait = "is a model of clips"
  if trait:
    raise BadInput(
      f"{saved.source} {trait}, which no other layout can represent; python -m swin_jax.export exports the"
      " whole model"
    )
  description["model"] |= {"patch_size": patch[0]}  # a number, even where the model has one for each axis
  return description


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
  description = _describe(saved)
  config = _hf_config(description, saved.source) if layout == "hf" else None
  how_to_load = (
    _how_to_load_hf(config, path) if config else _how_to_load(description, path, layout, saved.source)
  )
  targets = [path] + ([path.with_name("config.json")] if config else [])
  check_free(destination)
  if existing := [str(target) for target in targets if target.exists()]:
    raise BadInput(f"{existing[0]} already exists; choose another name")
  table, read = plan(saved, layout)
  with files.replacing(targets[1]) if config else contextlib.nullcontext() as partial:  # both files or none
    if config:
      partial.write_text(json.dumps(config, indent=2) + "\n")
    tensors.write(path, ((name, shape, dtype) for name, (shape, dtype) in table.items()), read)
  lines = [f"wrote {destination}: {len(table)} tensors, names and shapes of {layout}"]
  if pads(description):
    height, width = description["data"]["image_size"]
    lines.append(
      f"note: images of {height} × {width} px are padded to whole windows; swin_jax masks the padding, the "
      "other program attends to it"
    )
  return [*lines, how_to_load]


def _windows(description: dict[str, Any], source: str) -> tuple[int, list[int]]:
  """Returns the one window that other programs use for all stages, and the trained window of each stage.

  A trained window is 0 if it equals the window used in its stage.

  Raises:
    BadInput: the windows are not square, or differ between stages for a reason other than small maps.
  """
  model, used = description["model"], used_windows(description)
  largest = max(max(windows.pair(window)) for window in model["window_sizes"])
  square = model | {"window_sizes": [largest] * len(model["depths"])}
  if used_windows(description | {"model": square}) != used:
    raise BadInput(f"{source} has windows {used}; other programs have one square window for all stages")
  trained = [windows.pair(window) for window in model["trained_window_sizes"]]
  if any(h != w for h, w in trained):
    raise BadInput(f"{source} was trained with windows {trained}; other programs have only square ones")
  return largest, [0 if size == window else size[0] for size, window in zip(trained, used, strict=False)]


def _hf_config(description: dict[str, Any], source: str) -> dict[str, Any]:
  model, data = description["model"], description["data"]
  window, trained = _windows(description, source)
  if model["version"] == 1 and set(used_windows(description)) != {(window, window)}:
    raise BadInput(
      f"{source} has smaller windows on its small maps; Hugging Face's V1 has one window for all stages"
    )
  height, width = data["image_size"]
  family = "Swinv2" if model["version"] == 2 else "Swin"
  classes = kind_of(description).num_classes(description)
  masked = _MASKED[description["task"]]
  config = {
    "architectures": [
      family + ("ForMaskedImageModeling" if masked else "ForImageClassification" if classes else "Model")
    ],
    "model_type": family.lower(),
    "image_size": height if height == width else [height, width],
    "patch_size": model["patch_size"],
    "num_channels": len(data["mean"]),
    "embed_dim": model["embed_dim"],
    "depths": list(model["depths"]),
    "num_heads": list(model["num_heads"]),
    "window_size": window,
    "mlp_ratio": model["mlp_ratio"],
    "qkv_bias": True,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-5,
    "use_absolute_embeddings": False,
    "encoder_stride": model["patch_size"] * 2 ** (len(model["depths"]) - 1),
  }
  if model["version"] == 2:
    config["pretrained_window_sizes"] = trained
  if classes:
    names = data["class_names"]
    labels = {i: names[i] if i < len(names) else f"LABEL_{i}" for i in range(classes)}
    config |= {"id2label": labels, "label2id": {label: i for i, label in labels.items()}}
  return config


def _how_to_load_hf(config: dict[str, Any], path: pathlib.Path) -> str:
  """Returns a line of Python that loads the file with transformers."""
  named = "" if path.name == "model.safetensors" else "  # once it is called model.safetensors"
  return f"model = transformers.{config['architectures'][0]}.from_pretrained('{path.parent}'){named}"


def _how_to_load(description: dict[str, Any], path: pathlib.Path, layout: str, source: str) -> str:
  """Returns a line of Python that loads the file with the official code or timm."""
  model, data, version = description["model"], description["data"], description["model"]["version"]
  window, trained = _windows(description, source)
  arguments = {
    "img_size": tuple(data["image_size"]),
    "patch_size": model["patch_size"],
    "in_chans": len(data["mean"]),
    "num_classes": kind_of(description).num_classes(description),
    "embed_dim": model["embed_dim"],
    "depths": tuple(model["depths"]),
    "num_heads": tuple(model["num_heads"]),
    "window_size": window,
    "mlp_ratio": model["mlp_ratio"],
  }
  if version == 2:
    arguments["pretrained_window_sizes"] = tuple(trained)
  if model["extra_norm_every"]:  # in SatVision's code, not in the official code
    arguments["extra_norm_period"] = model["extra_norm_every"]
  arguments = ", ".join(f"{name}={value}" for name, value in arguments.items())
  family = "SwinTransformerV2" if version == 2 else "SwinTransformer"
  if layout == "timm":
    expression = f"timm.models.swin_transformer{'_v2' if version == 2 else ''}.{family}({arguments})"
  elif _MASKED[description["task"]]:
    stride = model["patch_size"] * 2 ** (len(model["depths"]) - 1)
    encoder = f"{family}ForSimMIM({arguments})"
    expression = (
      f"SimMIM(config, {encoder}, {stride}, in_chans={len(data['mean'])}, patch_size={model['patch_size']})"
    )
  else:
    expression = f"{family}({arguments})"
  return f"model = {expression}; model.load_state_dict(safetensors.torch.load_file('{path}'))"
