"""Reads the properties of a model from the config files of Hugging Face and timm."""

import os
import pathlib
import re
from typing import Any

from swin_jax.models import windows
from swin_jax.models.swin.settings import used_windows
from swin_jax.terminal import json_files, rules
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import clean

_LARGEST = 2**20  # pixels or tokens; more is certainly a mistake
# A name of timm: window → window it is fine-tuned with, image size → larger one.
_TIMM = "^swin.*?_window({0})(?:to({0}))?_({0})(?:to({0}))?".format("[1-9][0-9]{0,5}")
_NESTED = ("backbone_config", "encoder")  # groups that describe the encoder of a larger model
_GROUPS = ("id2label", "model_args", "pretrained_cfg", *_NESTED)  # keys whose values are objects, or null


def sizes_of(path: pathlib.Path, model: dict[str, Any]) -> dict[str, Any]:
  """Returns the sizes in Hugging Face's or timm's config.json; empty if it describes another model.

  Raises:
    BadInput: the model has another activation or epsilon than Swin.
  """
  config, sizes = read(path), {}
  config = next((config[group] for group in _NESTED if config.get(group)), config)
  if config.get("model_type") in ("swin", "swinv2", "donut-swin", "maskformer-swin"):
    theirs = {
      name: config.get(name, model[name])
      for name in ("embed_dim", "depths", "num_heads", "patch_size", "mlp_ratio")
    }
    if theirs != {name: model[name] for name in theirs} or (config["model_type"] == "swinv2") != (
      model["version"] == 2
    ):
      return {}  # the config belongs to another file in the same folder
    if config.get("hidden_act", "gelu") != "gelu" or config.get("layer_norm_eps", 1e-5) != 1e-5:
      theirs = f"hidden_act {config.get('hidden_act')}, layer_norm_eps {config.get('layer_norm_eps')}"
      raise BadInput(f"{path} says {theirs}; Swin has gelu and 1e-5")
    sizes = {"image_size": config.get("image_size"), "window": config.get("window_size")}
    sizes["trained_window"] = config.get("pretrained_window_sizes") or 0
  elif m := re.search(_TIMM, str(config.get("architecture"))):
    before, window, size, larger = (int(group) if group else None for group in m.groups())
    sizes = {"image_size": larger or size, "window": window or before, "trained_window": 0}
    if window:  # pre-trained with another window, which small maps shrank
      earlier = model | {"window_sizes": [before] * len(model["depths"])}
      sizes["trained_window"] = used_windows({"model": earlier}, windows.pair(size))
    theirs = config.get("model_args") or {}
    names = {"img_size": "image_size", "window_size": "window", "pretrained_window_sizes": "trained_window"}
    sizes |= {names[name]: value for name, value in theirs.items() if name in names}
  sizes = {name: value for name, value in sizes.items() if value is not None}
  for name, value in sizes.items():
    if not all(type(size) is int and 0 <= size <= _LARGEST for size in _flat(value)):
      raise BadInput(f"{path}: {name} is {value!r}, not numbers of pixels or tokens; give --{name}=")
  return sizes


def input_size(folder: pathlib.Path) -> dict[str, Any]:
  """Returns the image size in Hugging Face's settings of images; empty if they give none to a dense model.

  The config of a dense model only has the image size of its backbone's pre-training.
  """
  size = read(folder / "preprocessor_config.json").get("size")
  if not (read(folder / "config.json").get("backbone_config") and isinstance(size, dict)):
    return {}
  sides = [size.get("height"), size.get("width")]
  return {"image_size": sides} if all(type(side) is int and 0 < side <= _LARGEST for side in sides) else {}


def _flat(value: Any) -> list[Any]:
  """Returns the numbers in a number, a list, or a list of lists; other values stay as they are."""
  rows = value if isinstance(value, (list, tuple)) else [value]
  return [number for row in rows for number in (row if isinstance(row, (list, tuple)) else [row])] or [None]


def normalisation(folder: pathlib.Path) -> dict[str, list[float]]:
  """Returns mean and std from the settings in a folder, as far as they are given.

  Raises:
    BadInput: a value is invalid; the message names the flag that replaces it.
  """
  settings, timm = (
    read(folder / "preprocessor_config.json"),
    read(folder / "config.json").get("pretrained_cfg") or {},
  )
  stored = {name: settings.get(f"image_{name}", timm.get(name)) for name in ("mean", "std")}
  stored = {name: value for name, value in stored.items() if value is not None}
  for name, rule in (("mean", rules.MEAN), ("std", rules.STD)):
    row = rules.Items(rule, range(1, rules.BANDS.high + 1))
    if name in stored and (wrong := row.problem(stored[name])):
      raise BadInput(
        f"{folder}: its settings state {name} = {rules.shown(stored[name])}: {wrong}; give --{name}="
      )
  return stored


def class_names(path: pathlib.Path, count: int) -> list[str]:
  """Returns the labels in Hugging Face's config.json; empty if their number differs or they are generic."""
  labels = read(path).get("id2label") or {}
  names = [labels.get(str(i)) for i in range(count)] if len(labels) == count else []
  if not all(isinstance(name, str) and name != f"LABEL_{i}" for i, name in enumerate(names)):
    return []
  return list(map(clean, names))


def read(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON file of settings; returns an empty dict if there is none.

  Raises:
    BadInput: the file does not hold a JSON object.
  """
  if not os.path.isfile(path):
    return {}
  settings = json_files.read(path, dict, "it lies next to the weights: correct it, or move it away", nan=True)
  for group in _GROUPS:
    if not isinstance(settings.get(group) or {}, dict):
      raise BadInput(f"{path}, next to the weights, must have an object as {group}")
  return settings
