"""Conversion between our parameters and the tensors of the official code: names, shapes, buffers.

Letters: see `models/windows.py`. The official names are the common format: every other layout is a respelling
of them (`weights/layouts.py`). The prefix `encoder.` of SimMIM's names is omitted here.
"""

from collections.abc import Callable
import re
from typing import Any, NamedTuple

import numpy as np

from swin_jax.kernels.formula import REGION_MASK
from swin_jax.models import windows
from swin_jax.models.swin.config import group_size, make_config
from swin_jax.models.swin.geometry import geometry, regions

# Constant tensors that files may hold: three are functions of the windows; timm's `k_bias` is zero.
BUFFERS = ("relative_position_index", "relative_coords_table", "attn_mask", "k_bias")

_WHOLE = {  # parameters that occur once
  "mask_token": "mask_token",
  "encoder/patch_embed/proj/kernel": "patch_embed.proj.weight",
  "encoder/patch_embed/proj/bias": "patch_embed.proj.bias",
  "encoder/patch_embed/norm/scale": "patch_embed.norm.weight",
  "encoder/patch_embed/norm/bias": "patch_embed.norm.bias",
  "encoder/norm/scale": "norm.weight",
  "encoder/norm/bias": "norm.bias",
  "head/kernel": "head.weight",
  "head/bias": "head.bias",
  "decoder/kernel": "decoder.0.weight",
  "decoder/bias": "decoder.0.bias",
}
_BLOCK = {  # inside a block
  "norm1/scale": "norm1.weight",
  "norm1/bias": "norm1.bias",
  "norm2/scale": "norm2.weight",
  "norm2/bias": "norm2.bias",
  # The released code has no extra norm; this is its name in SatVision's code.
  "extra_norm/scale": "norm3.weight",
  "extra_norm/bias": "norm3.bias",
  "attn/qkv/kernel": "attn.qkv.weight",
  "attn/qkv/bias": "attn.qkv.bias",
  "attn/q_bias": "attn.q_bias",
  "attn/v_bias": "attn.v_bias",
  "attn/logit_scale": "attn.logit_scale",
  "attn/cpb_fc1/kernel": "attn.cpb_mlp.0.weight",
  "attn/cpb_fc1/bias": "attn.cpb_mlp.0.bias",
  "attn/cpb_fc2/kernel": "attn.cpb_mlp.2.weight",
  "attn/bias_table": "attn.relative_position_bias_table",
  "attn/proj/kernel": "attn.proj.weight",
  "attn/proj/bias": "attn.proj.bias",
  "mlp/fc1/kernel": "mlp.fc1.weight",
  "mlp/fc1/bias": "mlp.fc1.bias",
  "mlp/fc2/kernel": "mlp.fc2.weight",
  "mlp/fc2/bias": "mlp.fc2.bias",
}
_MERGE = {"reduction/kernel": "reduction.weight", "norm/scale": "norm.weight", "norm/bias": "norm.bias"}


class Form(NamedTuple):
  """The layout of one official tensor: `read` converts it to ours, `write` converts ours to it."""

  read: Callable[[np.ndarray], np.ndarray]
  write: Callable[[np.ndarray], np.ndarray]


def names(path: str, model: dict[str, Any]) -> list[str] | str:
  """Returns the official name of a parameter, or a list of names if ours stacks blocks of a stage.

  Args:
    path: path of our parameter, with slashes.
    model: the group `model` of its config.
  """
  if path in _WHOLE:
    return _WHOLE[path]
  if m := re.fullmatch(r"encoder/stage(\d+)/blocks/block(\d+)/(.*)", path):
    i, j, leaf = int(m[1]), int(m[2]), _BLOCK[m[3]]
    depth = model["depths"][i]
    return [
      f"layers.{i}.blocks.{start + j}.{leaf}"
      for start in range(0, depth, group_size(depth, model["extra_norm_every"]))
    ]
  m = re.fullmatch(r"encoder/merge(\d+)/(.*)", path)
  return f"layers.{m[1]}.downsample.{_MERGE[m[2]]}"


def form(name: str, model: dict[str, Any]) -> Form:
  """Returns the conversions for the official tensor of this name."""
  if name == "patch_embed.proj.weight":  # [C, bands, *patch] ↔ [∏patch·bands, C]
    patch = windows.sides(model["patch_size"], 2)
    rank = len(patch)
    return Form(
      lambda x: x.transpose(*range(2, 2 + rank), 1, 0).reshape(-1, x.shape[0]),
      lambda x: x.reshape(*patch, -1, x.shape[-1]).transpose(rank + 1, rank, *range(rank)),
    )
  if name == "decoder.0.weight":
    return Form(lambda x: x[:, :, 0, 0].T, lambda x: x.T[:, :, None, None])
  if name == "mask_token":
    return Form(lambda x: x.reshape(-1), lambda x: x[None, None])
  if name.endswith("logit_scale"):
    return Form(lambda x: x.reshape(-1), lambda x: x[:, None, None])
  # rows (q|k|v, head, channel) ↔ columns (head, q|k|v, channel)
  if name.endswith(("attn.qkv.weight", "attn.qkv.bias")):
    k = model["num_heads"][int(name.split(".")[1])]
    return Form(lambda x: _swap(x, 3, k).T, lambda x: _swap(x.T, k, 3))
  if name.endswith(".weight") and "norm" not in name:
    return Form(lambda x: x.T, lambda x: x.T)
  return Form(lambda x: x, lambda x: x)


def _swap(x: np.ndarray, outer: int, inner: int) -> np.ndarray:
  """Reorders rows from (outer, inner, rest) to (inner, outer, rest)."""
  return x.reshape(outer, inner, -1, *x.shape[1:]).swapaxes(0, 1).reshape(x.shape)


def buffers(config: dict[str, Any]) -> dict[str, Callable[[], np.ndarray]]:
  """Returns functions that compute the constant tensors of an official state dict, by name."""
  swin, tensors = make_config(**config["model"]), {}
  for i, stage in enumerate(geometry(swin, config["data"]["image_size"])):
    constants = {
      "attn.relative_position_index": lambda window=stage.window: windows.relative_index(window).astype(
        np.int64
      )
    }
    if swin.version == 2:
      trained = swin.trained_window(i, stage.window)
      constants["attn.relative_coords_table"] = lambda window=stage.window, trained=trained: coords_table(
        window, trained
      )
    for j in range(swin.depths[i]):
      tensors |= {f"layers.{i}.blocks.{j}.{name}": make for name, make in constants.items()}
      if j % 2 and any(stage.shift):
        tensors[f"layers.{i}.blocks.{j}.attn_mask"] = lambda stage=stage: _attention_mask(
          regions(swin, stage, True)
        )
  return tensors


def coords_table(window: tuple[int, ...], trained: tuple[int, ...]) -> np.ndarray:
  """Returns the table of log-spaced offsets: float32 [1, 2h-1, 2w-1, 2]."""
  sides = (2 * side - 1 for side in window)
  return windows.log_spaced_offsets(window, trained).reshape(1, *sides, len(window))


def _attention_mask(labels: np.ndarray) -> np.ndarray:
  """Returns float32 [M, N, N]: 0 between tokens of the same region, -100 between others."""
  return np.where(labels[:, :, None] == labels[:, None, :], 0.0, REGION_MASK).astype(np.float32)
