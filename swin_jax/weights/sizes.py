"""Infers the sizes that depend on images: image size, windows and trained windows."""

from collections.abc import Mapping
import math
from typing import Any

from swin_jax.models import windows
from swin_jax.models.swin.settings import used_windows
from swin_jax.saved.tensors import Tensors
from swin_jax.terminal.errors import BadInput
from swin_jax.weights import config_file
from swin_jax.weights.layouts import Layout


def infer(
  tensors: Tensors, layout: Layout, model: dict[str, Any], hints: Mapping[str, Any]
) -> tuple[dict[str, list], list[str]]:
  """Returns image_size, window and trained_window as lists, and a note on the origin of each.

  Raises:
    BadInput: a size is unknown or invalid; the message names the flag.
  """
  version, stages = model["version"], len(model["depths"])
  buffers = _from_buffers(tensors, layout, model)
  config = config_file.sizes_of(tensors.folder / "config.json", model)
  flags = {name: hints[name] for name in ("image_size", "window", "trained_window")}
  flags = {name: value for name, value in flags.items() if value is not None}
  usual = {}
  if layout.name == "torchvision" and "window" in buffers:  # its last map is one window
    sides = (
      max(side) * model["patch_size"] * 2 ** (stages - 1) for side in zip(*buffers["window"], strict=True)
    )
    usual = {"image_size": list(sides)}
  sizes, origins, missing = {"trained_window": []}, [], []
  # V1 has no trained windows: its tables are specific to the window
  for name in ("image_size", "window", "trained_window")[: 3 if version == 2 else 2]:
    for where, known in (
      (f"--{name}", flags),
      ("the file", buffers),
      ("preprocessor_config.json next to it", config_file.input_size(tensors.folder)),
      ("config.json next to it", config),
      (f"torchvision's models with such windows (if not: --{name})", usual),
    ):
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
        f"--trained_window={flags['trained_window']} must be one number per stage, as in 12,12,12,6: small "
        "maps shrink windows"
      )
    sizes["trained_window"] = [None] * stages
  used = _used(model, sizes["window"], sizes["image_size"])
  sizes["trained_window"] = [
    trained or mine for trained, mine in zip(sizes["trained_window"], used, strict=False)
  ]
  return sizes, origins


_MEANING = {"image_size": "image size", "window": "windows", "trained_window": "trained windows"}

_EXAMPLE = {
  "image_size": "in pixels",
  "window": "in tokens, one number or one per stage",
  "trained_window": "those of pre-training, one per stage, as in 12,12,12,6; 0 if they equal --window",
}


def _lists(name: str, value: Any, stages: int) -> list:
  """Returns [height, width], or one pair per stage; None for 0, a trained window equal to the window."""
  if name == "image_size":
    if not _is_size(value, 1):
      raise BadInput(f"--image_size must be a number of pixels, or height and width; it is {value}")
    return list(windows.pair(value))
  values = [value] * stages if isinstance(value, int) else list(value)
  least = 0 if name == "trained_window" else 1
  if len(values) != stages or not all(_is_size(size, least) for size in values):
    raise BadInput(f"--{name} must be one number of tokens, or {stages}, one per stage; it is {value}")
  return [list(windows.pair(size)) if size else None for size in values]


def _is_size(value: Any, least: int) -> bool:
  """Returns whether a value is a whole number of at least `least`, or a pair of these."""
  size = windows.pair(value)
  return len(size) == 2 and all(isinstance(side, int) and side >= least for side in size)


def _used(model: dict[str, Any], window_sizes: list, image_size: list) -> list[list[int]]:
  """Returns the window that each stage uses on images of `image_size` pixels."""
  return [
    list(window) for window in used_windows({"model": model | {"window_sizes": window_sizes}}, image_size)
  ]


def _from_buffers(tensors: Tensors, layout: Layout, model: dict[str, Any]) -> dict[str, Any]:
  """Returns the sizes that the constant tensors determine; a file has all of these tensors, or none."""
  version, patch, stages = model["version"], model["patch_size"], len(model["depths"])

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
    match tensors.shapes[table]:
      case (1, height, width, 2) if height % 2 and width % 2:
        pass
      case shape:
        raise BadInput(f"{tensors.source} is not a known form of Swin: its {table} has shape {list(shape)}")
    used.append([(height + 1) // 2, (width + 1) // 2])
    values = tensors.read(table)[0]
    trained.append([_trained(values[-1, 0, 0], used[-1][0]), _trained(values[0, -1, 1], used[-1][1])])
  sizes = {"window": used} | ({"trained_window": trained} if version == 2 else {})
  # no mask: the map may be a single window, or the file may hold no masks
  mask = tensors.shapes.get(name_of(0, 1, "attn_mask"))
  # assumes a square image; the contents of the masks are checked against it later
  if mask and mask[0] and math.isqrt(mask[0]) ** 2 == mask[0]:
    rows = math.isqrt(mask[0])
    sizes["image_size"] = [rows * used[0][0] * patch, rows * used[0][1] * patch]
    # A window shrunk by a small map would have its full size on a larger map.
    if _used(model, [used[0]] * stages, sizes["image_size"]) == used:
      sizes["window"] = [used[0]] * stages
  return sizes


def _trained(largest: float, window: int) -> int:
  """Returns the trained window in tokens, computed from the largest log-spaced offset.

  Returns 1 if no window has this offset; the table then differs from the one that follows, and is refused.
  See `windows.log_spaced_offsets`.
  """
  scaled = 2 ** (3 * min(float(largest), 10.0)) - 1
  if window == 1 or not scaled > 0:  # also if it is not a number
    return 1
  return 1 + round(8 * (window - 1) / scaled)
