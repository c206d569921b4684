"""A saved model → a file with the names and shapes of the official code, timm or Hugging Face."""

from collections.abc import Callable
import functools
import json
import pathlib
from typing import Any

import jax
import numpy as np

from swin_jax import files
from swin_jax.errors import BadInput
from swin_jax.models import windows
from swin_jax.weights import description as descriptions
from swin_jax.weights import layouts
from swin_jax.weights import official
from swin_jax.weights import tensors
from swin_jax.weights.folder import Saved


def plan(saved: Saved, layout: str) -> tuple[dict[str, tuple[tuple[int, ...], np.dtype]], Callable[[str], np.ndarray]]:
  """A saved model in another layout.

  Args:
    saved: what `folder.open_saved` opened.
    layout: one of `layouts.LAYOUTS`.

  Returns:
    Shape and dtype of every tensor by name, and name → the tensor.

  Raises:
    BadInput: that layout cannot hold it.
  """
  description = descriptions.describe(saved.config, saved.source)
  model, masked = description["model"], description["task"] == "masked_pixels"
  if layout != "official" and model["extra_norm_every"]:
    raise BadInput(f"{saved.source} has an extra norm every {model['extra_norm_every']} blocks, which --layout={layout} has no place for")
  if masked and layout == "timm":
    raise BadInput(f"{saved.source} is a masked-image model, which timm has none of; --layout=official or hf, or fine-tune it first")
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

  @functools.lru_cache(maxsize=1)  # blocks that are stacked here are written one after the other
  def ours(path):
    return np.asarray(saved.read({path: jax.ShapeDtypeStruct(saved.shapes[path], np.float32, sharding=here)})[path])

  def read(name):
    if name in constants:
      return constants[name]()
    path, block, form, i, count = makers[name]
    value = ours(path) if block is None else ours(path)[block]
    return np.split(form.write(value), count)[i]

  return table, read


def export(saved: Saved, destination: str, layout: str) -> list[str]:
  """Writes a .safetensors file in another layout; for Hugging Face its config.json beside it.

  Returns:
    Lines that say how to load it there.

  Raises:
    BadInput: that layout cannot hold it, or there is such a file already.
  """
  path = pathlib.Path(destination)
  if path.suffix != ".safetensors":
    raise BadInput(f"{destination} must end in .safetensors")
  description = descriptions.describe(saved.config, saved.source)
  config = _hf_config(description, saved.source) if layout == "hf" else None
  targets = [path] + ([path.with_name("config.json")] if config else [])
  if there := [str(target) for target in targets if target.exists()]:
    raise BadInput(f"{there[0]} is there already; take another name")
  table, read = plan(saved, layout)
  path.parent.mkdir(parents=True, exist_ok=True)
  tensors.write(path, ((name, shape, dtype) for name, (shape, dtype) in table.items()), read)
  if config:
    files.write(targets[1], json.dumps(config, indent=2) + "\n")
  return [f"{len(table)} tensors, names and shapes of {layout}", _how_to_load(description, path, layout)]


def _hf_config(description: dict[str, Any], source: str) -> dict[str, Any]:
  model, data = description["model"], description["data"]
  used = descriptions.used_windows(description)
  nominal = {windows.pair(window) for window in model["window_sizes"]}
  largest = max(h for h, _ in nominal)
  height, width = data["image_size"]
  maps = windows.map_sizes((height, width), model["patch_size"], len(model["depths"]))
  if any(windows.window_and_shift(size, (largest, largest), False)[0] != window for size, window in zip(maps, used)):
    raise BadInput(f"{source} has windows {used}; Hugging Face's models have one square window for all stages")
  if model["version"] == 1 and set(used) != {(largest, largest)}:
    raise BadInput(f"{source} has windows {used}; Hugging Face's V1 has the same in every stage, and does not shrink them to small maps")
  trained = [windows.pair(window) for window in model["trained_window_sizes"]]
  if any(h != w for h, w in trained):
    raise BadInput(f"{source} was trained with windows {trained}; Hugging Face's models know square ones only")
  masked, version = description["task"] == "masked_pixels", model["version"]
  family = "Swinv2" if version == 2 else "Swin"
  classes = description["classification"]["num_classes"]
  kind = "ForMaskedImageModeling" if masked else "ForImageClassification" if classes else "Model"
  config = {
      "architectures": [family + kind],
      "model_type": family.lower(),
      "image_size": height if height == width else [height, width],
      "patch_size": model["patch_size"],
      "num_channels": len(data["mean"]),
      "embed_dim": model["embed_dim"],
      "depths": list(model["depths"]),
      "num_heads": list(model["num_heads"]),
      "window_size": largest,
      "mlp_ratio": model["mlp_ratio"],
      "qkv_bias": True,
      "hidden_act": "gelu",
      "layer_norm_eps": 1e-5,
      "use_absolute_embeddings": False,
      "encoder_stride": model["patch_size"] * 2 ** (len(model["depths"]) - 1),
  }
  if version == 2:
    config["pretrained_window_sizes"] = [h for h, _ in trained]
  if classes:
    labels = {i: f"LABEL_{i}" for i in range(classes)}
    config |= {"id2label": labels, "label2id": {label: i for i, label in labels.items()}}
  return config


def _how_to_load(description: dict[str, Any], path: pathlib.Path, layout: str) -> str:
  """A line of Python that loads the file there."""
  model, data, version = description["model"], description["data"], description["model"]["version"]
  if layout == "hf":
    kind = _hf_config(description, "")["architectures"][0]
    named = "" if path.name == "model.safetensors" else ", once it is called model.safetensors"
    return f"transformers.{kind}.from_pretrained('{path.parent}'){named}"
  arguments = {
      "img_size": tuple(data["image_size"]),
      "patch_size": model["patch_size"],
      "in_chans": len(data["mean"]),
      "num_classes": description["classification"]["num_classes"],
      "embed_dim": model["embed_dim"],
      "depths": tuple(model["depths"]),
      "num_heads": tuple(model["num_heads"]),
      "window_size": max(h for h, _ in map(windows.pair, model["window_sizes"])),
  }
  if version == 2:
    arguments["pretrained_window_sizes"] = tuple(h for h, _ in map(windows.pair, model["trained_window_sizes"]))
  family = "SwinTransformerV2" if version == 2 else "SwinTransformer"
  if layout == "timm":
    family = f"timm.models.swin_transformer{'_v2' if version == 2 else ''}.{family}"
  elif description["task"] == "masked_pixels":
    family += "ForSimMIM"
  arguments = ", ".join(f"{name}={value}" for name, value in arguments.items())
  return f"model = {family}({arguments}); model.load_state_dict(safetensors.torch.load_file('{path}'))"
