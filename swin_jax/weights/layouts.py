"""Layouts: the spelling of the official names in the official code, timm and Hugging Face.

Each layout maps an official name (`official.py`) to one name of its own, or to several names whose tensors
are the consecutive rows of the official one.
"""

from collections.abc import Iterable
import re
from typing import NamedTuple

from swin_jax.models.swin.official import BUFFERS
from swin_jax.terminal.errors import BadInput

_HF_WHOLE = {
  "patch_embed.proj": "embeddings.patch_embeddings.projection",
  "patch_embed.norm": "embeddings.norm",
  "norm": "layernorm",
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


class Layout(NamedTuple):
  """A spelling of the official names.

  Attributes:
    name: one of `choices.LAYOUTS`.
    encoder: prefix of the encoder's names.
    outer: prefix of head, decoder and, except for Hugging Face, mask token.
    renamed: (theirs, official) parts of names that this file spells differently.
  """

  name: str
  encoder: str = ""
  outer: str = ""
  renamed: tuple[tuple[str, str], ...] = ()

  def spell(self, name: str) -> tuple[str, ...]:
    """Returns the names in this layout for an official name."""
    for theirs, official in self.renamed:
      name = name.replace(official, theirs)
    if self.name == "hf":
      return self._spell_hf(name)
    if name.startswith(("head.", "decoder.")):
      return (self.outer + (name.replace("head.", "head.fc.") if self.name == "timm" else name),)
    if self.name == "timm" and (m := re.fullmatch(r"layers\.(\d+)(\.downsample\..*)", name)):
      name = f"layers.{int(m[1]) + 1}{m[2]}"  # in timm, merging is the first layer of the next stage
    return (self.encoder + name,)

  def _spell_hf(self, name: str) -> tuple[str, ...]:
    if name.startswith(("head.", "decoder.")):
      return (self.outer + name.replace("head.", "classifier."),)
    if name == "mask_token":
      return (self.encoder + "embeddings.mask_token",)
    if m := re.fullmatch(r"(layers\.\d+\.blocks\.\d+)\.(.*?)(\.weight|\.bias)?", name):
      return tuple(f"{self.encoder}encoder.{m[1]}.{part}{m[3] or ''}" for part in _HF_BLOCK[m[2]])
    if name.startswith("layers."):
      return (f"{self.encoder}encoder.{name}",)
    stem, _, kind = name.rpartition(".")
    return (f"{self.encoder}{_HF_WHOLE[stem]}.{kind}",)


def make(layout: str, version: int, masked: bool) -> Layout:
  """Returns the layout that its own library writes, for a masked-image model or a classifier."""
  if layout == "hf":
    return Layout(layout, "swinv2." if version == 2 else "swin.")
  return Layout(layout, "encoder." if masked and layout == "official" else "")


def detect(names: Iterable[str], source: str) -> Layout:
  """Detects the layout of a file from its names.

  Raises:
    BadInput: the file is not a Swin Transformer, or is a variant that is not supported.
  """
  names = [name for name in names if not is_buffer(name)]
  for part, what in (
    ("absolute_pos_embed", "absolute position embeddings"),
    ("position_embeddings", "absolute position embeddings"),
    ("meta_mlp", "the position bias of timm's swinv2_cr models"),
    ("moe_layer", "mixtures of experts"),
    ("spatial_mlp", "the spatial layers of Swin-MLP"),
  ):
    if example := next((name for name in names if part in name), None):
      raise BadInput(f"{source} has {what} ({example}), which Swin V1 and V2 do not have")
  embeddings = {"embeddings.patch_embeddings.projection.weight": "hf", "patch_embed.proj.weight": "official"}
  stems = [(name, stem) for stem in embeddings for name in names if name.endswith(stem)]
  if not stems:
    raise BadInput(
      f"{source} is not a Swin Transformer: it has no patch embedding; its first tensors are"
      f" {', '.join(sorted(names)[:3])}"
    )
  name, stem = stems[0]
  encoder, layout = name.removesuffix(stem), embeddings[stem]
  if not any(".blocks.0." in name for name in names):
    raise BadInput(
      f"{source} is not a Swin Transformer: it has no layers of blocks; its first tensors are"
      f" {', '.join(sorted(names)[:3])}"
    )
  merges = {int(m[1]) for name in names if (m := re.search(r"layers\.(\d{1,9})\.downsample\.", name))}
  if layout == "official" and (
    (merges and 0 not in merges) or any(".head.fc." in f".{name}" for name in names)
  ):
    layout = "timm"
  outer = re.sub(r"(encoder|swinv2|swin)\.$", "", encoder)
  renamed = [
    (theirs, ours)
    for theirs, ours in (("rpe_mlp", "cpb_mlp"), ("enorm", "norm3"))
    if any(theirs in name for name in names)
  ]
  return Layout(layout, encoder, outer, tuple(renamed))


def is_buffer(name: str) -> bool:
  """Returns whether a tensor is a constant that follows from the geometry."""
  return name.rpartition(".")[2] in BUFFERS
