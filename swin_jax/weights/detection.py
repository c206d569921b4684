"""Detects the layout of a file from its names, or what other architecture the file holds."""

from collections.abc import Collection
import re

from swin_jax.saved.tensors import Tensors
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import printable
from swin_jax.weights import config_file, upernet
from swin_jax.weights.layouts import Layout, is_buffer

# Parts of names that only variants of Swin have which are not supported.
_VARIANTS = (
  ("absolute_pos_embed", "absolute position embeddings"),
  ("position_embeddings", "absolute position embeddings"),
  ("meta_mlp", "the position bias of timm's swinv2_cr models"),
  ("moe_layer", "mixtures of experts"),
  ("spatial_mlp", "the spatial layers of Swin-MLP"),
)
# Names that show another architecture, the most specific first.
_OTHERS = (
  (r"^encoder/", "a model of swin_jax itself: use it with its own config.json, without importing it"),
  (r"swinViT\.", "a Swin UNETR of MONAI, which is for volumes"),
  (r"residual_group|^swin2sr\.|(^|\.)RSTB", "a SwinIR or Swin2SR, which restores images"),
  (r"layers\.\d+\.residual|(^|\.)swin_unet", "a Swin-Unet"),
  (r"text_model\.|visual\.conv1|visual\.trunk", "a CLIP model"),
  (r"segformer\.|patch_embed1\.|patch_embeddings\.0\.proj", "a SegFormer or Pyramid Vision Transformer"),
  (r"(^|\.)(cls_token|class_token)$|(^|\.)vit\.encoder", "a Vision Transformer (ViT, DeiT, BEiT, DINO)"),
  (r"blocks\.\d+\.(conv_dw|dwconv)\.|downsample_layers\.\d|\.\d+\.layer_scale$|^convnext", "a ConvNeXt"),
  (r"attn_grid|grid_attention|partition_attn", "a MaxViT"),
  (r"denseblock\d", "a DenseNet"),
  (r"(^|\.)layer[1-4]\.\d+\.conv\d\.weight|^resnet\.|(^|\.)conv1\.weight$", "a ResNet or another CNN"),
  (r"\.(conv_pw|conv_pwl|conv_dw)\.|features\.\d+\.\d+\.(block|conv)\.", "an EfficientNet or MobileNet"),
  (r"features\.\d+\.(weight|bias)$", "a VGG or another CNN"),
  (r"^model\.\d+\.(conv|cv\d|m|bn)\.", "a YOLO detector"),
  (r"word_embeddings|embed_tokens|(^|\.)wte\.", "a language model"),
)
_EMBEDDINGS = {  # layout → its patch embedding
  "hf": "embeddings.patch_embeddings.projection.weight",
  "official": "patch_embed.proj.weight",
  "openmmlab": "patch_embed.projection.weight",
  "torchvision": "features.0.0.weight",
}
_BLOCKS = {"openmmlab": "stages.0.blocks.0.attn.w_msa.", "torchvision": "features.1.0.attn."}
_FIRST_BLOCK = {  # layout → its names of the first block of a stage
  "hf": r"encoder\.layers\.\d+\.blocks\.0\.",
  "official": r"layers[._]\d+\.blocks\.0\.",
  "openmmlab": r"stages\.\d+\.blocks\.0\.",
  "torchvision": r"features\.1\.0\.",
}
_OLD_PARTS = (("rpe_mlp", "cpb_mlp"), ("enorm", "norm3"), ("layers_", "layers."))  # (theirs, usual)


def detect(tensors: Tensors) -> Layout:
  """Detects the layout of a file.

  Raises:
    BadInput: the file is not a Swin Transformer, holds several, or is a variant that is not supported.
  """
  names = [name for name in tensors.shapes if not is_buffer(name)]
  embeddings = [
    (layout, name.removesuffix(stem))
    for layout, stem in _EMBEDDINGS.items()
    for name in names
    if f".{name}".endswith(f".{stem}") and _has_blocks(layout, name.removesuffix(stem), names)
  ]
  if len(embeddings) > 1:
    prefixes = sorted(prefix for _, prefix in embeddings)
    raise BadInput(
      f"{tensors.source} holds {len(prefixes)} encoders, under {' and '.join(map(repr, prefixes))}: leave out"
      f" all but one, as in --ignore='^{re.escape(prefixes[-1])}'"
    )
  if not embeddings:
    raise BadInput(_what_else(tensors, names, "no patch embedding"))
  layout, prefix = embeddings[0]
  own = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
  for part, what in _VARIANTS:
    if example := next((name for name in own if part in name), None):
      raise BadInput(f"{tensors.source} has {what} ({prefix}{example}), which Swin V1 and V2 do not have")
  if not any(re.match(_FIRST_BLOCK[layout], name) for name in own):
    raise BadInput(_what_else(tensors, names, "no layers of blocks"))
  return _with_details(layout, prefix, own, set(names))


def _has_blocks(layout: str, prefix: str, names: Collection[str]) -> bool:
  """Returns whether the blocks are those of this layout, where other networks have its patch embedding."""
  return layout not in _BLOCKS or any(name.startswith(prefix + _BLOCKS[layout]) for name in names)


def _with_details(layout: str, prefix: str, own: Collection[str], names: Collection[str]) -> Layout:
  """Returns the layout with what differs between the files of one library.

  Args:
    layout: name of the layout.
    prefix: prefix of the encoder.
    own: names under that prefix, without it.
    names: all names.
  """
  merges = {
    int(m[1]) for name in own if (m := re.match(r"(?:layers[._]|stages\.)(\d{1,9})\.downsample\.", name))
  }
  merge_first = layout in ("official", "openmmlab") and bool(merges) and 0 not in merges
  if layout == "official" and (merge_first or any(f".{name}".endswith(".head.fc.weight") for name in names)):
    layout = "timm"
  stripped = re.sub(r"(encoder|swinv2|swin|backbone)\.$", "", prefix)
  heads = ("classifier",) if layout == "hf" else ("head.fc", "head")
  outer, head = next(
    ((outer, head) for outer in (stripped, prefix) for head in heads if f"{outer}{head}.weight" in names),
    (stripped, heads[-1]),
  )
  if fuse := next((name for name in names if f".{name}".endswith(f".{upernet.FUSE}")), ""):
    outer = fuse.removesuffix(upernet.FUSE)
  if f"{prefix}decoder.0.weight" in names and f"{outer}decoder.0.weight" not in names:
    outer = prefix
  last = max(
    (int(m[1]) for name in own if (m := re.match(r"(?:encoder\.)?(?:layers[._]|stages\.)(\d{1,9})\.", name))),
    default=0,
  )
  norm = prefix + ("layernorm" if layout == "hf" else "norm")
  norms = {
    int(m[3]) - bool(m[2]): m[1]
    for name in names
    if (m := re.fullmatch(r"((?:.*\.)?hidden_states_norms\.(stage)?(\d{1,9}))\.weight", name))
    or (m := re.fullmatch(rf"({re.escape(prefix)}norm()(\d))\.weight", name))
  }
  unused = ()
  if norms:
    unused = tuple(f"{prefix}{part}layernorm" for part in ("", "swin.") if layout == "hf")
    norm = norms.get(last, "")
  elif f"{norm}.weight" not in names and f"{outer}{head}.weight" not in names:
    norm = ""
  dense = len(norms) > (layout != "hf")  # a classifier of OpenMMLab has a numbered norm too
  renamed = tuple(pair for pair in _OLD_PARTS if any(pair[0] in name for name in own))
  others = tuple(norms.get(stage, "") for stage in range(last)) if dense else ()
  return Layout(layout, prefix, outer, renamed, norm, head, merge_first, dense, others, unused)


def _what_else(tensors: Tensors, names: Collection[str], lack: str) -> str:
  """Returns the refusal of a file of another architecture, with what its names or its config say it is."""
  for pattern, what in _OTHERS:
    if example := next((name for name in sorted(names) if re.search(pattern, name)), None):
      return f"{tensors.source} is not a Swin Transformer of another program but {what} (it has {example})"
  config = config_file.read(tensors.folder / "config.json")
  kind = config.get("model_type") or config.get("architecture")
  says = f"; the config.json next to it says {printable(kind)}" if kind else ""
  first = ", ".join(sorted(names)[:3])
  return f"{tensors.source} is not a Swin Transformer: it has {lack}; its first tensors are {first}{says}"
