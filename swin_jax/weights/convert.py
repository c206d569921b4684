"""Foreign weights → a model folder, and a model → foreign weights: strict in both directions."""

from collections.abc import Callable, Iterable, Mapping
import functools
import json
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from swin_jax import files
from swin_jax.errors import BadInput
from swin_jax.models import windows
from swin_jax.weights import description as descriptions
from swin_jax.weights import inference
from swin_jax.weights import layouts
from swin_jax.weights import official
from swin_jax.weights import tensors as tensor_files


class Import(NamedTuple):
  """What a foreign file becomes; nothing of it is read before `read` is called.

  Attributes:
    description: of the model.
    layout: of the file.
    shapes: of our parameters, by path.
    read: path → the parameter, float32.
    notes: where windows and image size come from, and what was left aside.
  """

  description: dict[str, Any]
  layout: layouts.Layout
  shapes: dict[str, tuple[int, ...]]
  read: Callable[[str], np.ndarray]
  notes: list[str]


def plan_import(tensors: tensor_files.Tensors, hints: inference.Hints, layout: str = "auto") -> Import:
  """Finds out what a file holds and how it fills our parameters.

  Args:
    tensors: the file.
    hints: what the file does not say.
    layout: "auto", or what it must be.

  Raises:
    BadInput: it is another architecture, a tensor is left over, or a parameter has none; the message names them.
  """
  found = layouts.detect(tensors.shapes, tensors.source)
  if layout not in ("auto", found.name):
    raise BadInput(f"{tensors.source} has the names of --layout={found.name}, not of --layout={layout}")
  description, notes = inference.infer(tensors, found, hints)
  model, shapes = description["model"], descriptions.parameter_shapes(description)
  pieces, used, wrong = {}, set(), []
  for path, shape in shapes.items():
    name = official.names(path, model)
    stacked = isinstance(name, list)
    pieces[path] = [found.spell(name) for name in (name if stacked else [name])], official.form((name[0] if stacked else name), model)
    for parts in pieces[path][0]:
      used.update(parts)
      missing = [part for part in parts if part not in tensors.shapes]
      theirs = None if missing else _shape_of(parts, tensors.shapes, pieces[path][1])
      if theirs != shape[stacked:]:
        wrong.append(f"{' + '.join(missing or parts)} {'is missing' if missing else f'makes {theirs}, not {shape[stacked:]}'}")
  left = sorted(name for name in tensors.shapes if name not in used and not layouts.is_buffer(name))
  if wrong or left:
    said = [f"{len(wrong)} parameters are not filled: {_some(wrong)}"] if wrong else []
    said += [f"{len(left)} tensors are of no use: {_some(left)}"] if left else []
    raise BadInput(f"{tensors.source} is no Swin V{model['version']} as we know it: {'; '.join(said)}")

  def read(path):
    names, form = pieces[path]
    parts = [form.read(np.concatenate([tensors.read(part) for part in name])).astype(np.float32) for name in names]
    return np.stack(parts) if len(shapes[path]) > parts[0].ndim else parts[0]

  constants = sum(layouts.is_buffer(name) for name in tensors.shapes)
  notes.append(f"{len(used)} tensors used, {constants} constants left aside (they follow from the windows), none left over")
  return Import(description, found, shapes, read, notes)


def plan_export(saved: Any, layout: str) -> tuple[dict[str, tuple[tuple[int, ...], np.dtype]], Callable[[str], np.ndarray]]:
  """A saved model in another layout.

  Args:
    saved: what `folder.open_saved` opened.
    layout: one of `layouts.LAYOUTS`.

  Returns:
    Shape and dtype of every tensor by name, and name → the tensor.

  Raises:
    BadInput: that layout cannot hold it.
  """
  description = descriptions.describe(saved.config)
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


def export(saved: Any, destination: str, layout: str) -> list[str]:
  """Writes a .safetensors file in another layout; for Hugging Face its config.json beside it.

  Returns:
    Lines that say how to load it there.

  Raises:
    BadInput: that layout cannot hold it, or there is such a file already.
  """
  path = pathlib.Path(destination)
  if path.suffix != ".safetensors":
    raise BadInput(f"{destination} must end in .safetensors")
  config = _hf_config(descriptions.describe(saved.config), saved.source) if layout == "hf" else None
  targets = [path] + ([path.with_name("config.json")] if config else [])
  if there := [str(target) for target in targets if target.exists()]:
    raise BadInput(f"{there[0]} is there already; take another name")
  table, read = plan_export(saved, layout)
  path.parent.mkdir(parents=True, exist_ok=True)
  tensor_files.write(path, ((name, shape, dtype) for name, (shape, dtype) in table.items()), read)
  if config:
    files.write(targets[1], json.dumps(config, indent=2) + "\n")
  return [f"{len(table)} tensors, names and shapes of {layout}", _how_to_load(descriptions.describe(saved.config), path, layout)]


def _shape_of(parts: Iterable[str], shapes: Mapping[str, tuple[int, ...]], form: official.Form) -> tuple[int, ...] | None:
  """The shape that tensors of these names have here; nothing is read, and no memory used."""
  sizes = [shapes[part] for part in parts]
  if any(len(size) != len(sizes[0]) or size[1:] != sizes[0][1:] for size in sizes):
    return None
  try:
    return form.read(np.broadcast_to(np.float32(0), (sum(size[0] for size in sizes), *sizes[0][1:]))).shape
  except (ValueError, IndexError):
    return None


def _some(items: list[str]) -> str:
  return ", ".join(items[:4]) + (f" and {len(items) - 4} more" if len(items) > 4 else "")


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
