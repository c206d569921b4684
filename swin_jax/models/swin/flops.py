"""Floating-point operations of a Swin Transformer, two per multiply-add.

As in the official code, the count includes matrix products, attention and norms, but not the bias MLP, the
softmax and the cosine normalisation.
"""

import math

from swin_jax.models import remat
from swin_jax.models.swin.block import VERSIONS
from swin_jax.models.swin.config import Size, SwinConfig
from swin_jax.models.swin.geometry import geometry


def flops(config: SwinConfig, size: Size, bands: int) -> int:
  """Returns the number of operations of one image's forward pass; `size` is in pixels."""
  stages = geometry(config, size)
  macs = stages[0].tokens * config.embed_dim * (math.prod(config.patch_size) * bands + 1)
  for i, stage in enumerate(stages):
    c = config.channels(i)
    if i > 0:  # merging into this stage, and its norm before or after the product
      merged = math.prod(config.merge_size) * config.channels(i - 1)
      macs += stage.tokens * (merged * c + (merged if VERSIONS[config.version].norm_first else c))
    macs += 2 * config.depths[i] * c * stage.tokens  # norms
  return sum(products(config, size).values()) + 2 * (macs + stages[-1].tokens * c)


def products(config: SwinConfig, size: Size) -> dict[str, int]:
  """Returns the number of operations of one image inside all blocks, by the tensor that they compute.

  The tensors are those of `remat.SAVEABLE`, and the logits.
  """
  total = dict.fromkeys((*remat.SAVEABLE, "logits"), 0)
  for i, stage in enumerate(geometry(config, size)):
    c, depth = config.channels(i), config.depths[i]
    padded, window = math.prod(stage.padded), math.prod(stage.window)
    mlp = int(2 * depth * stage.tokens * config.mlp_ratio * c * c)
    block = {
      "qkv": 6 * depth * padded * c * c,
      "logits": 2 * depth * padded * window * c,
      "attention": 2 * depth * padded * window * c,
      "attention_output": 2 * depth * padded * c * c,
      "mlp_hidden": mlp,
      "mlp_output": mlp,
    }
    total = {name: total[name] + block[name] for name in total}
  return total
