"""Layouts: the spelling of the official names in the files of other programs, and the order of their numbers.

Each layout maps an official name (`official.py`) to one name of its own, to several names whose tensors are
the consecutive rows of the official one, or to a part of the rows of one tensor.
"""

import re
from typing import Any, NamedTuple

import numpy as np

from swin_jax.models.swin import official
from swin_jax.weights import upernet

_HF_WHOLE = {
  "patch_embed.proj": "embeddings.patch_embeddings.projection",
  "patch_embed.norm": "embeddings.norm",
}
_HF_BLOCK = {
  "norm1": ("layernorm_before",),
  "norm2": ("layernorm_after",),
  "mlp.fc1": ("intermediate.dense",),
  "mlp.fc2": ("output.dense",),
  "attn.proj": ("attention.output.dense",),
  "attn.qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
  "attn.q_bias": ("attention.self.query.bias",),
  "attn.v_bias": ("attention.self.value.bias",),
  "attn.logit_scale": ("attention.self.logit_scale",),
  "attn.cpb_mlp.0": ("attention.self.continuous_position_bias_mlp.0",),
  "attn.cpb_mlp.2": ("attention.self.continuous_position_bias_mlp.2",),
  "attn.relative_position_bias_table": ("attention.self.relative_position_bias_table",),
  "attn.relative_position_index": ("attention.self.relative_position_index",),
  "attn.relative_coords_table": ("attention.self.relative_coords_table",),
  "attn_mask": ("attn_mask",),
}
_TORCHVISION_WHOLE = {"patch_embed.proj": "features.0.0", "patch_embed.norm": "features.0.2"}
_PARTS = {  # layout → (part of the official names, theirs), replaced in this order
  "torchvision": (
    ("mlp.fc1", "mlp.0"),
    ("mlp.fc2", "mlp.3"),
    ("attn.q_bias", "attn.qkv.bias"),
    ("attn.v_bias", "attn.qkv.bias"),
  ),
  "openmmlab": (
    ("patch_embed.proj", "patch_embed.projection"),
    ("layers.", "stages."),
    (".attn.", ".attn.w_msa."),
    (".attn_mask", ".attn.attn_mask"),
    ("mlp.fc1", "ffn.layers.0.0"),
    ("mlp.fc2", "ffn.layers.1"),
  ),
}
_HEADS = {"hf": "classifier", "timm": "head.fc", "openmmlab": "head.fc"}


class Layout(NamedTuple):
  """A spelling of the official names.

  Attributes:
    name: one of `choices.LAYOUTS`.
    encoder: prefix of the encoder's names.
    outer: prefix of head, decoder and, except for Hugging Face, mask token.
    renamed: (theirs, usual) parts of names that this file spells differently from others of the layout.
    last_norm: the whole name of the last norm; "" if the file has none.
    head: the classifier's last layer, without the outer prefix.
    merge_first: whether merging is the first layer of the next stage, and not the last of the one before.
    dense: whether the file holds a backbone of a dense model, which norms the maps of stages.
    norms: the whole names of the norms of the maps of the stages before the last; "" for one without a norm.
    unused: names of layers that no model uses.
  """

  name: str
  encoder: str = ""
  outer: str = ""
  renamed: tuple[tuple[str, str], ...] = ()
  last_norm: str = "norm"
  head: str = "head"
  merge_first: bool = False
  dense: bool = False
  norms: tuple[str, ...] = ()
  unused: tuple[str, ...] = ()

  def spell(self, name: str) -> tuple[str, ...]:
    """Returns the names in this layout for an official name."""
    if name.startswith("head."):
      return (self.outer + self.head + name.removeprefix("head"),)
    if name.startswith("decoder."):
      return (self.outer + name,)
    if name.startswith(upernet.PREFIXES):
      return (self.outer + upernet.spell(name, self.name),)
    if m := re.fullmatch(r"norm(\d+)(\..*)", name):
      return ((self.norms[int(m[1])] or f"{self.encoder}norm{m[1]}") + m[2],)
    if name.startswith("norm."):
      return (self.last_norm + name.removeprefix("norm"),)
    parts = self._spell_encoder(name)
    for theirs, ours in self.renamed:
      parts = tuple(part.replace(ours, theirs) for part in parts)
    return tuple(self.encoder + part for part in parts)

  def _spell_encoder(self, name: str) -> tuple[str, ...]:
    stem, _, leaf = name.rpartition(".")
    if self.name == "hf":
      return _spell_hf(name)
    if self.name == "torchvision":
      if stem in _TORCHVISION_WHOLE:
        return (f"{_TORCHVISION_WHOLE[stem]}.{leaf}",)
      name = re.sub(r"^layers\.(\d+)\.blocks", lambda m: f"features.{2 * int(m[1]) + 1}", name)
      name = re.sub(r"^layers\.(\d+)\.downsample", lambda m: f"features.{2 * int(m[1]) + 2}", name)
    elif self.merge_first and (m := re.fullmatch(r"layers\.(\d+)(\.downsample\..*)", name)):
      name = f"layers.{int(m[1]) + 1}{m[2]}"
    for ours, theirs in _PARTS.get(self.name, ()):
      name = name.replace(ours, theirs)
    return (name,)

  def part(self, name: str) -> tuple[int, int]:
    """Returns (k, n): an official tensor is part k of the n equal parts of the rows of its tensor here.

    torchvision's V2 has one bias of queries, keys and values, and ignores the numbers for keys.
    """
    if self.name == "torchvision" and name.endswith(("attn.q_bias", "attn.v_bias")):
      return (0 if name.endswith("q_bias") else 2), 3
    return 0, 1

  def form(self, name: str, model: dict[str, Any]) -> official.Form:
    """Returns the conversions between this layout's tensor of an official name and our parameter."""
    if name.startswith(upernet.PREFIXES):
      return upernet.form(name)
    form = official.form(name, model)
    merging = ".downsample.reduction." in name or (".downsample.norm." in name and model["version"] == 1)
    if self.name == "openmmlab" and merging:
      return official.Form(lambda x: form.read(_by_token(x)), lambda x: _by_channel(form.write(x)))
    return form


def _spell_hf(name: str) -> tuple[str, ...]:
  if name == "mask_token":
    return ("embeddings.mask_token",)
  if m := re.fullmatch(r"(layers\.\d+\.blocks\.\d+)\.(.*?)(\.weight|\.bias)?", name):
    return tuple(f"encoder.{m[1]}.{part}{m[3] or ''}" for part in _HF_BLOCK[m[2]])
  if name.startswith("layers."):
    return (f"encoder.{name}",)
  stem, _, leaf = name.rpartition(".")
  return (f"{_HF_WHOLE[stem]}.{leaf}",)


def _by_token(x: np.ndarray) -> np.ndarray:
  """Reorders merged channels from OpenMMLab's (channel, row, column) to (column, row, channel)."""
  return np.moveaxis(x.reshape(*x.shape[:-1], -1, 2, 2), -3, -1).swapaxes(-3, -2).reshape(x.shape)


def _by_channel(x: np.ndarray) -> np.ndarray:
  """Reorders merged channels from the official order to OpenMMLab's; the inverse of `_by_token`."""
  return np.moveaxis(x.reshape(*x.shape[:-1], 2, 2, -1).swapaxes(-3, -2), -1, -3).reshape(x.shape)


def names(path: str, model: dict[str, Any]) -> list[str] | str:
  """Returns the official names of a parameter of any model, as `official.names` does for the backbone."""
  return upernet.name(path) or official.names(path, model)


def make(layout: str, version: int, stages: int, *, masked: bool = False, dense: bool = False) -> Layout:
  """Returns the layout that its own library writes for a classifier, a masked-image or a dense model."""
  encoder = {"hf": "swinv2." if version == 2 else "swin.", "openmmlab": "backbone."}.get(layout, "")
  norm = {"hf": "layernorm", "openmmlab": f"norm{stages - 1}"}.get(layout, "norm")
  norms = []
  if masked and layout == "official":
    encoder = "encoder."
  elif dense:
    encoder = "backbone."
    names = (f"hidden_states_norms.stage{i + 1}" if layout == "hf" else f"norm{i}" for i in range(stages))
    *norms, norm = names
  merge_first = layout == "timm" or (layout == "openmmlab" and version == 2)
  head = _HEADS.get(layout, "head")
  return Layout(
    layout,
    encoder,
    last_norm=encoder + norm,
    head=head,
    merge_first=merge_first,
    dense=dense,
    norms=tuple(encoder + norm for norm in norms),
  )


def is_buffer(name: str) -> bool:
  """Returns whether a tensor is a constant: one that follows from the geometry, or a counter of training."""
  return name.rpartition(".")[2] in (*official.BUFFERS, upernet.COUNTER)
