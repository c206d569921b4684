"""UPerNet in the files of other programs: names, order of axes, and settings of its head.

The common names are those of the official segmentation code, in which mmsegmentation's agree; transformers
spells some parts differently. They are independent of the names of the backbone (`layouts.py`).
"""

from collections.abc import Callable, Collection
import re
from typing import Any

from swin_jax.models.swin.official import Form
from swin_jax.models.upernet import AUXILIARY_WEIGHT, POOLS
from swin_jax.tasks import segmentation

PREFIXES = ("decode_head.", "auxiliary_head.")
COUNTER = "num_batches_tracked"  # constant of a batch norm that only training reads
FUSE = "decode_head.fpn_bottleneck.conv.weight"  # a tensor that only UPerNet has
_AUXILIARY = "auxiliary_head.convs.0.conv.weight"
_LONGEST = 4  # long side of an image in units of its short side: the official code's 2048 × 512

_LAYERS = {f"pool{cells}": f"decode_head.psp_modules.{i}.1" for i, cells in enumerate(POOLS)} | {
  "bottleneck": "decode_head.bottleneck",
  "fuse": "decode_head.fpn_bottleneck",
  "auxiliary": "auxiliary_head.convs.0",
  "classifier": "decode_head.conv_seg",
  "auxiliary_classifier": "auxiliary_head.conv_seg",
}
_LEVELS = {"lateral": "decode_head.lateral_convs.", "fpn": "decode_head.fpn_convs."}  # with a number
_LEAVES = {
  "norm/scale": "bn.weight",
  "norm/bias": "bn.bias",
  "norm/mean": "bn.running_mean",
  "norm/variance": "bn.running_var",
}
_AT_HUGGING_FACE = ((".bn.", ".batch_norm."), (".conv_seg.", ".classifier."))


def name(path: str) -> str:
  """Returns the common name of a parameter of the head; "" for parameters of the backbone."""
  if m := re.fullmatch(r"norm(\d+)/(scale|bias)", path):  # of the map of a stage
    return f"norm{m[1]}.{'weight' if m[2] == 'scale' else 'bias'}"
  layer, _, leaf = path.partition("/")
  if m := re.fullmatch(r"(lateral|fpn)(\d+)", layer):
    stem = _LEVELS[m[1]] + m[2]
  elif layer in _LAYERS:
    stem = _LAYERS[layer]
  else:
    return ""
  plain = {"kernel": "weight" if stem.endswith("conv_seg") else "conv.weight", "bias": "bias"}
  return f"{stem}.{_LEAVES.get(leaf) or plain[leaf]}"


def spell(common: str, layout: str) -> str:
  """Returns the name in a layout for a common name that begins with one of `PREFIXES`."""
  for theirs, at_hugging_face in _AT_HUGGING_FACE if layout == "hf" else ():
    common = common.replace(theirs, at_hugging_face)
  return common


def form(common: str) -> Form:
  """Returns the conversions for a tensor whose common name begins with one of `PREFIXES`."""
  if common.endswith("conv.weight"):
    return Form(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
  if common.endswith("conv_seg.weight"):
    return Form(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])
  return Form(lambda x: x, lambda x: x)


def counter(common: str) -> str:
  """Returns the name of the counter of the batch norm with this running mean; "" for other tensors."""
  return f"{common.removesuffix('running_mean')}{COUNTER}" if common.endswith(".running_mean") else ""


def lack(has: Callable[[str], bool], norms: Collection[str]) -> str:
  """Returns what a head lacks that every UPerNet has here, as the end of a sentence; "" if nothing.

  Args:
    has: common name → whether the file has this tensor.
    norms: names of the norms of the maps of stages.
  """
  if not norms:
    return "does not norm the maps that its UPerNet reads, as UPerNet does here"
  return "" if has(_AUXILIARY) else "has a UPerNet without the auxiliary classifier that UPerNet has here"


def describe(shape: Callable[[str, int], tuple[int, ...]], image_size: list[int]) -> dict[str, Any]:
  """Returns the groups of a description that belong to a head and to how it sees images.

  Args:
    shape: (common name, least number of axes) → shape of a tensor; raises BadInput if there is none.
    image_size: (height, width) in pixels of the crops of training.
  """
  side = min(image_size)
  return {
    segmentation.KIND.group: {
      "num_classes": shape("decode_head.conv_seg.weight", 2)[0],
      "channels": shape(FUSE, 4)[0],
      "auxiliary_channels": shape(_AUXILIARY, 4)[0],
      "norm": "batch",
    },
    # whole images with the short side of the crops, as in the published evaluations
    "dense": {
      "sides": [_LONGEST * side, side],
      "eval_canvas": [_LONGEST * side] * 2,
      "window": [],
    },
    "augment": {"interpolation": "bilinear"},
  }


def hf_config(
  backbone: dict[str, Any], description: dict[str, Any], labels: dict[str, Any]
) -> dict[str, Any]:
  """Returns the config.json of transformers' UPerNet.

  Args:
    backbone: the config of a model without a head.
    description: of the model.
    labels: the keys that name the classes.
  """
  head, stages = description[segmentation.KIND.group], len(backbone["depths"])
  names = [f"stage{i + 1}" for i in range(stages)]
  own = {key: value for key, value in backbone.items() if key != "architectures"}
  return {
    "architectures": ["UperNetForSemanticSegmentation"],
    "model_type": "upernet",
    "backbone_config": own | {"out_features": names, "stage_names": ["stem", *names]},
    "hidden_size": head["channels"],
    "pool_scales": list(POOLS),
    "use_auxiliary_head": True,
    "auxiliary_loss_weight": AUXILIARY_WEIGHT,
    "auxiliary_in_channels": backbone["embed_dim"] * 2 ** (stages - 2),
    "auxiliary_channels": head["auxiliary_channels"],
    "auxiliary_num_convs": 1,
    "auxiliary_concat_input": False,
    "loss_ignore_index": 255,
    **labels,
  }
