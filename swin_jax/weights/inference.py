"""Infers what model a foreign file holds from its names, shapes and constant tensors.

Properties that these do not determine come from a config.json or from flags.
"""

from collections.abc import Callable
import pathlib
from typing import Any, NamedTuple

from swin_jax.saved.tensors import Tensors
from swin_jax.tasks import classification, masked_pixels, segmentation
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import clean
from swin_jax.weights import config_file, conventions, satlas, sizes, upernet
from swin_jax.weights.layouts import Layout

# normalisation of public models with three bands
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]

_MOST_STAGES, _MOST_BLOCKS = 10, 100  # that are looked for; blocks are counted per stage


class Hints(NamedTuple):
  """Properties of a file given by the caller; None for those to be inferred.

  Attributes:
    image_size: pixels, one number or (height, width).
    window: tokens, one number or one a stage.
    trained_window: V2, one a stage: the windows in whose units offsets are measured; 0 for those of `window`.
    mean, std: per band, of pixels scaled to 0..1.
    target_norm_window: pixels, see `masked_pixels.make_task`.
    encoder_only: whether head and decoder are left out.
  """

  image_size: Any = None
  window: Any = None
  trained_window: Any = None
  mean: Any = None
  std: Any = None
  target_norm_window: int | None = None
  encoder_only: bool = False


def infer(tensors: Tensors, layout: Layout, hints: Hints) -> tuple[dict[str, Any], list[str]]:
  """Infers the description of a model (`description.py`).

  Returns:
    The description, and notes on the origin of everything that the tensors do not determine.

  Raises:
    BadInput: names or shapes are not those of a Swin Transformer, or a flag is needed; the message names
      the flag.
  """

  def shape(name, axes):
    """Returns the shape of a tensor that has at least `axes` axes, none of them empty."""
    (spelled,) = layout.spell(name)
    if spelled not in tensors.shapes:
      raise BadInput(f"{tensors.source} lacks {spelled}")
    sides = tensors.shapes[spelled]
    if len(sides) < axes or not all(sides):
      raise BadInput(f"{tensors.source} is not a known form of Swin: its {spelled} has shape {list(sides)}")
    return sides

  def has(name):
    return all(part in tensors.shapes for part in layout.spell(name))

  def has_head(name):
    return has(name) and not hints.encoder_only

  if hints.target_norm_window and (hints.target_norm_window < 0 or hints.target_norm_window % 2 == 0):
    raise BadInput(f"--target_norm_window must be odd, or 0; it is {hints.target_norm_window}")
  depths = _depths(tensors, layout)
  embed_dim, bands, *patch = shape("patch_embed.proj.weight", 4)
  if len(patch) == 3:
    raise BadInput(
      f"{tensors.source} is a Swin Transformer of clips or volumes: its patches are {patch}; import reads"
      " models of images"
    )
  if len(patch) != 2 or patch[0] != patch[1]:
    raise BadInput(f"{tensors.source}: its patches are {patch}; they must be square")
  first = "layers.{}.blocks.0.attn.{}"
  if has(first.format(0, "logit_scale")):
    version, num_heads = 2, [shape(first.format(i, "logit_scale"), 1)[0] for i in range(len(depths))]
  elif has(first.format(0, "relative_position_bias_table")):
    version, num_heads = (
      1,
      [shape(first.format(i, "relative_position_bias_table"), 2)[1] for i in range(len(depths))],
    )
  else:
    names = [
      layout.spell(first.format(0, leaf))[0] for leaf in ("logit_scale", "relative_position_bias_table")
    ]
    raise BadInput(f"{tensors.source} is neither Swin V2 nor V1: it has no {' and no '.join(names)}")
  masked, dense = has_head("decoder.0.weight"), has_head(upernet.FUSE)
  if dense and (lack := upernet.lack(has, layout.norms)):
    raise BadInput(f"{tensors.source} {lack}; --encoder_only imports its encoder")

  def has_norm(stage, block):
    return layout.name != "hf" and has(f"layers.{stage}.blocks.{block}.norm3.weight")

  kind = segmentation.KIND if dense else masked_pixels.KIND if masked else classification.KIND
  description = {
    "task": kind.group,
    "model": {
      "version": version,
      "patch_size": patch[0],
      "embed_dim": embed_dim,
      "depths": depths,
      "num_heads": num_heads,
      "mlp_ratio": shape("layers.0.blocks.0.mlp.fc1.weight", 2)[0] / embed_dim,
      "extra_norm_every": _extra_norm_every(depths, has_norm, tensors.source),
      **conventions.clamping(layout, version),
    },
    # 8-bit images practically never have more than four bands.
    "data": {"dtype": "uint8" if bands <= 4 else "float32"},
  }
  inferred, origins = sizes.infer(tensors, layout, description["model"], hints._asdict())
  description["data"]["image_size"] = inferred["image_size"]
  description["model"] |= {
    "window_sizes": inferred["window"],
    "trained_window_sizes": inferred["trained_window"],
  }
  settings, doubts = conventions.imported(layout, description)
  description["model"] |= settings
  origins += doubts
  description["data"] |= _normalisation(tensors, layout, bands, hints, origins)
  if dense:
    description |= upernet.describe(shape, inferred["image_size"])
  elif masked:
    description[kind.group] = {"target_norm_window": hints.target_norm_window or 0}
  else:
    description[kind.group] = {"num_classes": shape("head.weight", 2)[0] if has_head("head.weight") else 0}
  description["data"]["class_names"] = _class_names(tensors, description[kind.group].get("num_classes", 0))
  if masked:
    target = (
      f"normalised by {hints.target_norm_window} px around them" if hints.target_norm_window else "unchanged"
    )
    origins.append(
      f"targets are pixels {target}"
      + (" (if not: --target_norm_window)" if hints.target_norm_window is None else "")
    )
  return description, origins


def _class_names(tensors: Tensors, count: int) -> list[str]:
  """Returns the names of the classes in the file or in a file next to it; empty if there are not as many."""
  inside = [clean(name) for name in tensors.class_names]
  return inside if len(inside) == count else config_file.class_names(tensors.folder / "config.json", count)


def _normalisation(
  tensors: Tensors, layout: Layout, bands: int, hints: Hints, origins: list[str]
) -> dict[str, list[float]]:
  """Returns mean and std of the images: from flags, from a file in the weights' folder, or assumed."""
  from_files = config_file.normalisation(tensors.folder)
  sensor = (
    satlas.sensor_of(pathlib.Path(tensors.source).name, bands) if layout.name == "torchvision" else None
  )
  if sensor:
    assumed, whose = {"mean": sensor.mean, "std": sensor.std}, "of Satlas"
    origins.append(f"bands assumed to be those of Satlas: {sensor.bands}; normalised values are not clipped")
  elif bands == 3:
    assumed, whose = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}, "of ImageNet"
  else:
    assumed, whose = {"mean": [0.0] * bands, "std": [1.0] * bands}, ""
  normalisation = {}
  for name, value in assumed.items():
    given, stored = getattr(hints, name), from_files.get(name)
    if given is not None and len(given) != bands:
      raise BadInput(f"--{name} must have {bands} numbers, one per band; it has {len(given)}")
    if given is None:
      where = "from the file next to it" if stored and len(stored) == bands else whose or f"{value[0]:g}"
      origins.append(f"{name} {where} (if not: --{name})")
    normalisation[name] = [
      float(number) for number in (given or (stored if stored and len(stored) == bands else value))
    ]
  return normalisation


def _depths(tensors: Tensors, layout: Layout) -> list[int]:
  blocks = {
    (i, j)
    for i in range(_MOST_STAGES)
    for j in range(_MOST_BLOCKS)
    for leaf in ("norm1", "attn.qkv")
    if layout.spell(f"layers.{i}.blocks.{j}.{leaf}.weight")[0] in tensors.shapes
  }
  stages = [stage for stage, _ in blocks]
  depths = [stages.count(stage) for stage in sorted(set(stages))]
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
      f"{source}: its extra norms are not at regular intervals in a stage, but after {sorted(blocks)}"
      " (stage, block)"
    )
  return every
