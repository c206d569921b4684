"""The official checkpoints' names and layouts, for the golden tests."""

import re

import numpy as np


def official_names(path: str, depths, group_sizes) -> list[str] | str:
  """Our parameter path → the official name, or one name per block where our array stacks the blocks of a stage."""
  path = path.removeprefix("encoder/")
  fixed = {
      "mask_token": "mask_token",
      "norm/scale": "norm.weight",
      "norm/bias": "norm.bias",
      "head/kernel": "head.weight",
      "head/bias": "head.bias",
      "decoder/kernel": "decoder.0.weight",
      "decoder/bias": "decoder.0.bias",
  }
  if path in fixed:
    return fixed[path]
  leaf = {
      "attn/logit_scale": "attn.logit_scale",
      "attn/q_bias": "attn.q_bias",
      "attn/v_bias": "attn.v_bias",
      "attn/cpb_fc1/kernel": "attn.cpb_mlp.0.weight",
      "attn/cpb_fc1/bias": "attn.cpb_mlp.0.bias",
      "attn/cpb_fc2/kernel": "attn.cpb_mlp.2.weight",
      "attn/bias_table": "attn.relative_position_bias_table",
  }
  if m := re.fullmatch(r"stage(\d+)/blocks/block(\d+)/(.*)", path):
    i, j, rest = int(m[1]), int(m[2]), m[3]
    rest = leaf.get(rest) or _generic(rest)
    return [f"layers.{i}.blocks.{n * group_sizes[i] + j}.{rest}" for n in range(depths[i] // group_sizes[i])]
  if m := re.fullmatch(r"merge(\d+)/(.*)", path):
    return f"layers.{m[1]}.downsample.{_generic(m[2])}"
  return _generic(path)


def convert(name: str, value: np.ndarray, num_heads: int | None) -> np.ndarray:
  """One official tensor in our layout."""
  if name.endswith("patch_embed.proj.weight"):  # [C, bands, p, p] → [p·p·bands, C]
    return value.transpose(2, 3, 1, 0).reshape(-1, value.shape[0])
  if name.endswith("decoder.0.weight"):
    return value[:, :, 0, 0].T
  if name.endswith(("qkv.weight", "qkv.bias")):  # which·C + head·D + d → head, which, d
    c = value.shape[0] // 3
    value = value.reshape(3, num_heads, c // num_heads, *value.shape[1:]).swapaxes(0, 1).reshape(value.shape)
  if name.endswith(("logit_scale", "mask_token")):
    return value.reshape(-1)
  if name.endswith(".weight") and value.ndim == 2:
    return value.T
  return value


def load(weights: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]], depths, num_heads, group_sizes) -> dict[str, np.ndarray]:
  """Official weights → our flat tree; every parameter is filled and every tensor but the buffers is used."""
  weights = {k.removeprefix("encoder."): v for k, v in weights.items()}
  used, flat = set(), {}
  for path, shape in shapes.items():
    names = official_names(path, depths, group_sizes)
    stage = re.search(r"stage(\d+)", path)
    heads = num_heads[int(stage[1])] if stage else None
    if isinstance(names, list):
      value = np.stack([convert(n, weights[n], heads) for n in names])
      used.update(names)
    else:
      value = convert(names, weights[names], heads)
      used.add(names)
    assert value.shape == shape, (path, value.shape, shape)
    flat[path] = value
  buffers = {k for k in weights if k.endswith(("relative_position_index", "relative_coords_table", "attn_mask"))}
  assert set(weights) == used | buffers, set(weights) ^ (used | buffers)
  return flat


def _generic(path: str) -> str:
  return path.replace("/kernel", ".weight").replace("/scale", ".weight").replace("/", ".")
