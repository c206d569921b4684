"""What other programs need to load an exported file: Hugging Face's config.json, or a line of Python."""

import pathlib
from typing import Any

from swin_jax.models import windows
from swin_jax.models.swin.settings import trained_windows, used_windows
from swin_jax.tasks import kind_of, masked_pixels, segmentation
from swin_jax.terminal.errors import BadInput
from swin_jax.weights import upernet


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


def hf_config(description: dict[str, Any], source: str) -> dict[str, Any]:
  """Returns the config.json of transformers for a model.

  Raises:
    BadInput: transformers cannot represent the model.
  """
  model, data = description["model"], description["data"]
  window, trained = _windows(description, source)
  if model["version"] == 1 and set(used_windows(description)) != {(window, window)}:
    raise BadInput(
      f"{source} has smaller windows on its small maps; Hugging Face's V1 has one window for all stages"
    )
  height, width = data["image_size"]
  family = "Swinv2" if model["version"] == 2 else "Swin"
  classes = kind_of(description).num_classes(description)
  masked = kind_of(description) is masked_pixels.KIND
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
  labels = {}
  if classes:
    names = data["class_names"]
    labels["id2label"] = {i: names[i] if i < len(names) else f"LABEL_{i}" for i in range(classes)}
    labels["label2id"] = {label: i for i, label in labels["id2label"].items()}
  if kind_of(description) is segmentation.KIND:
    return upernet.hf_config(config, description, labels)
  return config | labels


def with_transformers(config: dict[str, Any], path: pathlib.Path) -> str:
  """Returns a line of Python that loads the file with transformers."""
  named = "" if path.name == "model.safetensors" else "  # once it is called model.safetensors"
  return f"model = transformers.{config['architectures'][0]}.from_pretrained('{path.parent}'){named}"


def in_python(description: dict[str, Any], path: pathlib.Path, layout: str, source: str) -> str:
  """Returns a line of Python that loads the file with the program of the layout."""
  load = f"model.load_state_dict(safetensors.torch.load_file('{path}')"
  if kind_of(description) is segmentation.KIND:  # mmsegmentation does not load the constants
    return f"{load}, strict=False)  # in an EncoderDecoder of a SwinTransformer and a UPerHead of these sizes"
  if layout == "openmmlab":  # its code does not load the constants
    return f"{load}, strict=False)  # in a model whose backbone is a SwinTransformer of these sizes"
  if layout == "torchvision":
    return f"model = {_torchvision(description, source)}; {load})"
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
  elif kind_of(description) is masked_pixels.KIND:
    stride = model["patch_size"] * 2 ** (len(model["depths"]) - 1)
    encoder = f"{family}ForSimMIM({arguments})"
    expression = (
      f"SimMIM(config, {encoder}, {stride}, in_chans={len(data['mean'])}, patch_size={model['patch_size']})"
    )
  else:
    expression = f"{family}({arguments})"
  return f"model = {expression}; {load})"


def _torchvision(description: dict[str, Any], source: str) -> str:
  """Returns the Python expression of the model in torchvision.

  Raises:
    BadInput: torchvision does not have such a model.
  """
  model, used = description["model"], used_windows(description)
  lack = ""
  if len(description["data"]["mean"]) != 3:
    lack = f"{len(description['data']['mean'])} bands, but torchvision's models have 3"
  elif not kind_of(description).num_classes(description):
    lack = "no classes, but torchvision's models have a classifier"
  elif len(set(used)) > 1:
    lack = f"windows {used}, but torchvision's models have one window for all stages"
  elif model["version"] == 2 and trained_windows(description) != used:
    lack = f"trained windows {trained_windows(description)}, but torchvision's models use those of training"
  if lack:
    raise BadInput(f"{source} has {lack}")
  module = "torchvision.models.swin_transformer"
  arguments = {
    "patch_size": [model["patch_size"]] * 2,
    "embed_dim": model["embed_dim"],
    "depths": list(model["depths"]),
    "num_heads": list(model["num_heads"]),
    "window_size": list(used[0]),
    "mlp_ratio": model["mlp_ratio"],
    "num_classes": kind_of(description).num_classes(description),
  }
  if model["version"] == 2:
    arguments["block"] = f"{module}.SwinTransformerBlockV2"
    arguments["downsample_layer"] = f"{module}.PatchMergingV2"
  return f"{module}.SwinTransformer({', '.join(f'{name}={value}' for name, value in arguments.items())})"
