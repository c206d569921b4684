"""The official code's state dicts under the names, and in the order, of other programs; derived independently
of our importer.
"""

import re

import numpy as np


def torchvision(state):
  """Returns a state dict of torchvision's SwinTransformer, whose layers are numbered through."""
  named = {}
  for name, value in state.items():
    if name.endswith("attn_mask"):
      continue
    name = name.replace("patch_embed.proj", "features.0.0").replace("patch_embed.norm", "features.0.2")
    if m := re.match(r"layers\.(\d+)\.(blocks\.|downsample\.)(.*)", name):
      name = f"features.{2 * int(m[1]) + (1 if m[2] == 'blocks.' else 2)}.{m[3]}"
    name = name.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")
    named[name] = value.reshape(-1) if name.endswith("relative_position_index") else value
  for name in [name for name in named if name.endswith("q_bias")]:  # V2: queries, keys (zero), values
    queries, values = named.pop(name), named.pop(name.replace("q_bias", "v_bias"))
    named[name.replace("q_bias", "qkv.bias")] = np.concatenate([queries, np.zeros_like(values), values])
  return named


def openmmlab(state, version):
  """Returns a state dict of mmpretrain: V2's merging belongs to the stage after it."""
  stages, named = 1 + max(int(m[1]) for name in state if (m := re.match(r"layers\.(\d+)", name))), {}
  for name, value in state.items():
    if ".downsample." in name and value.shape[-1] == 4 * state[_norm_before(name)].shape[0]:
      value = unfolded(value)
    if version == 2:
      name = re.sub(r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name)
    name = name.replace(".attn.", ".attn.w_msa.").replace(".attn_mask", ".attn.attn_mask")
    name = name.replace("mlp.fc1", "ffn.layers.0.0").replace("mlp.fc2", "ffn.layers.1")
    name = re.sub("^layers", "stages", name).replace("patch_embed.proj", "patch_embed.projection")
    name = re.sub("^norm", f"norm{stages - 1}", name)
    named[f"head.fc.{name[5:]}" if name.startswith("head.") else f"backbone.{name}"] = value
  return named


def _norm_before(name):
  """Returns the name of a tensor of C numbers in the stage before a merging."""
  return f"layers.{name.split('.')[1]}.blocks.0.norm1.weight"


def unfolded(x):
  """Returns merged channels in the order (channel, row, column) instead of (column, row, channel)."""
  channels, reordered = x.shape[-1] // 4, np.empty_like(x)
  for channel in range(channels):
    for row in range(2):
      for column in range(2):
        here = (2 * column + row) * channels + channel
        reordered[..., 4 * channel + 2 * row + column] = x[..., here]
  return reordered


def features_only(state, new):
  """Returns a state dict of timm's features_only; `new` for merging that belongs to the stage after it."""
  named = {}
  for name, value in state.items():
    if new:
      name = re.sub(r"layers\.(\d+)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name)
    if not name.startswith(("norm.", "head.")):
      named[re.sub(r"^layers\.", "layers_", name)] = value
  return named
