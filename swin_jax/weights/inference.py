"""Infers what model a foreign file holds from its names, shapes and constant tensors.

Properties that these do not determine come from a config.json or from flags.
"""

from collections.abc import Callable
import json
import math
import pathlib
import re
from typing import Any, NamedTuple

import numpy as np

from swin_jax.models import windows
from swin_jax.saved.tensors import Tensors
from swin_jax.tasks import classification, masked_pixels
from swin_jax.terminal.errors import BadInput
from swin_jax.weights.layouts import Layout

# normalisation of public models with three bands
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Hints(NamedTuple):
  """Properties of a file given by the caller; None for those to be inferred.

  Attributes:
    image_size: pixels, one number or (height, width).
    window: tokens, one number or one a stage.
    trained_window: V2, one a stage: the windows in whose units offsets are measured; 0 for those of `window`.
    mean, std: per band, of pixels scaled to 0..1.
    target_norm_window: pixels, see `masked_pixels.make_task`.
  """

  image_size: Any = None
  window: Any = None
  trained_window: Any = None
  mean: Any = None
  std: Any = None
  target_norm_window: int | None = None


def infer(tensors: Tensors, layout: Layout, hints: Hints) -> tuple[dict[str, Any], list[str]]:
  """Infers the description of a model (`description.py`).

  Returns:
    The description, and notes on the origin of everything that the tensors do not determine.

  Raises:
    BadInput: names or shapes are not those of a Swin Transformer, or a flag is needed; the message names
      the flag.
  """

  def shape(name):
    parts = [tensors.shapes.get(part) for part in layout.spell(name)]
    if None in parts:
      raise BadInput(f"{tensors.source} lacks {layout.spell(name)[parts.index(None)]}")
    return (sum(part[0] for part in parts), *parts[0][1:])

  def has(name):
    return all(part in tensors.shapes for part in layout.spell(name))

  if hints.target_norm_window and (hints.target_norm_window < 0 or hints.target_norm_window % 2 == 0):
    raise BadInput(f"--target_norm_window must be odd, or 0; it is {hints.target_norm_window}")
  depths = _depths(tensors, layout)
  embed_dim, bands, *patch = shape("patch_embed.proj.weight")
  if len(patch) != 2 or patch[0] != patch[1]:
    raise BadInput(f"{tensors.source}: its patches are {patch}; they must be square")
  first = "layers.{}.blocks.0.attn.{}"
  if has(first.format(0, "logit_scale")):
    version, num_heads = 2, [shape(first.format(i, "logit_scale"))[0] for i in range(len(depths))]
  elif has(first.format(0, "relative_position_bias_table")):
    version, num_heads = (
      1,
      [shape(first.format(i, "relative_position_bias_table"))[1] for i in range(len(depths))],
    )
  else:
    names = [
      layout.spell(first.format(0, leaf))[0] for leaf in ("logit_scale", "relative_position_bias_table")
    ]
    raise BadInput(f"{tensors.source} is neither Swin V2 nor V1: it has no {' and no '.join(names)}")
  masked = has("decoder.0.weight")
  num_classes = shape("head.weight")[0] if has("head.weight") and not masked else 0

  def has_norm(stage, block):
    return layout.name != "hf" and has(f"layers.{stage}.blocks.{block}.norm3.weight")

  kind = masked_pixels.KIND if masked else classification.KIND
  description = {
    "task": kind.group,
    "model": {
      "version": version,
      "patch_size": patch[0],
      "embed_dim": embed_dim,
      "depths": depths,
      "num_heads": num_heads,
      "mlp_ratio": shape("layers.0.blocks.0.mlp.fc1.weight")[0] / embed_dim,
      "extra_norm_every": _extra_norm_every(depths, has_norm, tensors.source),
    },
    # 8-bit images practically never have more than four bands.
    "data": {
      "dtype": "uint8" if bands <= 4 else "float32",
      "class_names": _class_names(tensors.folder / "config.json", num_classes),
    },
    kind.group: {"target_norm_window": hints.target_norm_window or 0}
    if masked
    else {"num_classes": num_classes},
  }
  sizes, origins = _sizes(tensors, layout, description["model"], hints)
  description["data"]["image_size"] = sizes["image_size"]
  description["model"] |= {"window_sizes": sizes["window"], "trained_window_sizes": sizes["trained_window"]}
  description["data"] |= _normalisation(tensors.folder, bands, hints, origins)
  if masked:
    target = (
      f"normalised by {hints.target_norm_window} px around them"
      if hints.target_norm_window
      else "as they are"
    )
    origins.append(
      f"targets are pixels {target}"
      + (" (if not: --target_norm_window)" if hints.target_norm_window is None else "")
    )
  return description, origins


def _normalisation(
  folder: pathlib.Path, bands: int, hints: Hints, origins: list[str]
) -> dict[str, list[float]]:
  """Returns mean and std of the images: from flags, from a file in the weights' folder, or assumed."""
  config, cfg = (
    _json(folder / "preprocessor_config.json"),
    _json(folder / "config.json").get("pretrained_cfg") or {},
  )
  beside = {"mean": config.get("image_mean", cfg.get("mean")), "std": config.get("image_std", cfg.get("std"))}
  supposed = (
    {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    if bands == 3
    else {"mean": [0.0] * bands, "std": [1.0] * bands}
  )
  normalisation = {}
  for name, value in supposed.items():
    said, stored = getattr(hints, name), beside[name]
    if said is not None and len(said) != bands:
      raise BadInput(f"--{name} must have {bands} numbers, one a band; it has {len(said)}")
    if said is None:
      where = (
        "from the file beside it"
        if stored and len(stored) == bands
        else "of ImageNet"
        if bands == 3
        else f"{value[0]:g}"
      )
      origins.append(f"{name} {where} (if not: --{name})")
    normalisation[name] = [
      float(number) for number in (said or (stored if stored and len(stored) == bands else value))
    ]
  return normalisation


def _depths(tensors: Tensors, layout: Layout) -> list[int]:
  start = re.escape(layout.spell("layers.0.downsample.norm.weight")[0].partition("layers.")[0])
  blocks = {
    (int(m[1]), int(m[2]))
    for name in tensors.shapes
    if (m := re.match(rf"{start}layers\.(\d+)\.blocks\.(\d+)\.", name))
  }
  depths = [
    sum(stage == i for stage, _ in blocks) for i in range(1 + max((stage for stage, _ in blocks), default=-1))
  ]
  if not depths or blocks != {(i, j) for i, depth in enumerate(depths) for j in range(depth)}:
    raise BadInput(f"{tensors.source}: some of its blocks are missing; it has {depths} in its stages")
  return depths


def _extra_norm_every(depths: list[int], has_norm: Callable[[int, int], bool], source: str) -> int:
  blocks = {(i, j) for i, depth in enumerate(depths) for j in range(depth) if has_norm(i, j)}
  if not blocks:
    return 0
  every = 1 + min(j for _, j in blocks)
  if blocks != {(i, j) for i, depth in enumerate(depths) for j in range(depth) if (j + 1) % every == 0}:
    raise BadInput(
      f"{source}: its extra norms are not after every so many blocks of a stage, but after {sorted(blocks)}"
      " (stage, block)"
    )
  return every


def _sizes(
  tensors: Tensors, layout: Layout, model: dict[str, Any], hints: Hints
) -> tuple[dict[str, list], list[str]]:
  """Returns image_size, window and trained_window as lists, and a note on the origin of each."""
  version, patch, stages = model["version"], model["patch_size"], len(model["depths"])
  buffers = _from_buffers(tensors, layout, version, patch, stages)
  config = _from_config(tensors.folder / "config.json", model)
  flags = {name: getattr(hints, name) for name in ("image_size", "window", "trained_window")}
  flags = {name: value for name, value in flags.items() if value is not None}
  sizes, origins, missing = {"trained_window": []}, [], []
  # V1 has no trained windows: its tables are specific to the window
  for name in ("image_size", "window", "trained_window")[: 3 if version == 2 else 2]:
    for where, known in ((f"--{name}", flags), ("the file", buffers), ("config.json beside it", config)):
      if name in known:
        sizes[name] = _lists(name, known[name], stages)
        origins.append(f"{_MEANING[name]} from {where}")
        break
    else:
      missing.append(name)
  if missing:
    raise BadInput(
      f"{tensors.source} does not say its {' and '.join(_MEANING[name] for name in missing)}: give "
      + " and ".join(f"--{name}= ({_EXAMPLE[name]})" for name in missing)
    )
  if flags.get("trained_window") and isinstance(flags["trained_window"], int) and stages > 1:
    if flags["trained_window"] != max(map(max, sizes["window"])):
      raise BadInput(
        f"--trained_window={flags['trained_window']} must be one number a stage, as 12,12,12,6: small maps"
        " shrink windows"
      )
    sizes["trained_window"] = [None] * stages
  maps = windows.map_sizes(sizes["image_size"], patch, stages)
  used = [
    list(windows.window_and_shift(size, tuple(window), False)[0])
    for size, window in zip(maps, sizes["window"], strict=True)
  ]
  sizes["trained_window"] = [
    trained or mine for trained, mine in zip(sizes["trained_window"], used, strict=False)
  ]
  return sizes, origins


_MEANING = {"image_size": "image size", "window": "windows", "trained_window": "trained windows"}
_EXAMPLE = {
  "image_size": "in pixels",
  "window": "in tokens, one number or one a stage",
  "trained_window": "those of pre-training, one a stage, as 12,12,12,6; 0 if it has known no other than"
  " --window",
}


def _lists(name: str, value: Any, stages: int) -> list:
  """Returns [height, width], or one pair per stage; None for 0, a trained window equal to the window."""
  if name == "image_size":
    if len(windows.pair(value)) != 2 or min(windows.pair(value)) < 1:
      raise BadInput(f"--image_size must be a number of pixels, or height and width; it is {value}")
    return list(windows.pair(value))
  values = [value] * stages if isinstance(value, int) else list(value)
  least = 0 if name == "trained_window" else 1
  if len(values) != stages or min(min(windows.pair(size)) for size in values) < least:
    raise BadInput(f"--{name} must be one number of tokens, or {stages}, one a stage; it is {value}")
  return [list(windows.pair(size)) if size else None for size in values]


def _from_buffers(tensors: Tensors, layout: Layout, version: int, patch: int, stages: int) -> dict[str, Any]:
  """Returns the sizes that the constant tensors determine; a file has all of these tensors, or none."""

  def name_of(stage, block, leaf):
    return layout.spell(f"layers.{stage}.blocks.{block}.{leaf}")[0]

  used, trained = [], []
  for i in range(stages):
    if version == 1:
      table = name_of(i, 0, "attn.relative_position_bias_table")
      side = math.isqrt(tensors.shapes[table][0])
      if side * side != tensors.shapes[table][0] or side % 2 == 0:
        return {}
      used.append([(side + 1) // 2] * 2)
      continue
    table = name_of(i, 0, "attn.relative_coords_table")
    if table not in tensors.shapes:
      return {}
    _, height, width, _ = tensors.shapes[table]
    used.append([(height + 1) // 2, (width + 1) // 2])
    values = tensors.read(table)[0]
    trained.append([_trained(values[-1, 0, 0], used[-1][0]), _trained(values[0, -1, 1], used[-1][1])])
  sizes = {"window": used} | ({"trained_window": trained} if version == 2 else {})
  # no mask: the map may be a single window, or the file may hold no masks
  mask = tensors.shapes.get(name_of(0, 1, "attn_mask"))
  # assumes a square image; the contents of the masks are checked against it later
  if mask and math.isqrt(mask[0]) ** 2 == mask[0]:
    rows = math.isqrt(mask[0])
    sizes["image_size"] = [rows * used[0][0] * patch, rows * used[0][1] * patch]
    # A window shrunk by a small map would have its full size on a larger map.
    maps = windows.map_sizes(sizes["image_size"], patch, stages)
    if all(
      tuple(window) == windows.window_and_shift(size, tuple(used[0]), False)[0]
      for size, window in zip(maps, used, strict=True)
    ):
      sizes["window"] = [used[0]] * stages
  return sizes


def _trained(largest: float, window: int) -> int:
  """Returns the trained window in tokens, computed from the largest log-spaced offset.

  See `windows.log_spaced_offsets`.
  """
  if window == 1 or not np.isfinite(largest):
    return 1
  return 1 + round(8 * (window - 1) / (2 ** (3 * float(largest)) - 1))


def _from_config(path: pathlib.Path, model: dict[str, Any]) -> dict[str, Any]:
  """Returns the sizes in Hugging Face's or timm's config.json, if it describes this model."""
  config, sizes = _json(path), {}
  if config.get("model_type") in ("swin", "swinv2"):
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
      raise BadInput(f"{path} says {theirs}; Swin has gelu, 1e-5")
    sizes = {"image_size": config.get("image_size"), "window": config.get("window_size")}
    sizes["trained_window"] = config.get("pretrained_window_sizes") or 0
  elif m := re.search(r"^swin.*?_window(\d+)(?:to(\d+))?_(\d+)(?:to(\d+))?", str(config.get("architecture"))):
    before, window, size, larger = (int(group) if group else None for group in m.groups())
    sizes = {"image_size": larger or size, "window": window or before, "trained_window": 0}
    if window:  # pre-trained with another window, which small maps shrank
      maps = windows.map_sizes(windows.pair(size), model["patch_size"], len(model["depths"]))
      sizes["trained_window"] = [
        windows.window_and_shift(side, windows.pair(before), False)[0] for side in maps
      ]
    names = {"img_size": "image_size", "window_size": "window", "pretrained_window_sizes": "trained_window"}
    sizes |= {names[name]: value for name, value in (config.get("model_args") or {}).items() if name in names}
  return {name: value for name, value in sizes.items() if value is not None}


def _class_names(path: pathlib.Path, count: int) -> list[str]:
  """Returns the labels in Hugging Face's config.json; empty if their number differs or they are generic."""
  labels = _json(path).get("id2label") or {}
  names = [labels.get(str(i)) for i in range(count)]
  return (
    names
    if len(labels) == count
    and all(isinstance(name, str) and name != f"LABEL_{i}" for i, name in enumerate(names))
    else []
  )


def _json(path: pathlib.Path) -> dict[str, Any]:
  """Reads a JSON file of settings; returns an empty dict if there is none.

  Raises:
    BadInput: the file is not valid JSON.
  """
  try:
    settings = json.loads(path.read_text())
  except OSError:
    return {}
  except ValueError as error:
    raise BadInput(f"{path}, which lies beside the weights, is no JSON: {error}") from error
  return settings if isinstance(settings, dict) else {}
