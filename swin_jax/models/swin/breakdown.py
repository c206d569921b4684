"""The parts of a Swin Transformer's train step, for the planner."""

from collections.abc import Sequence

import flax.linen as nn
import jax

from swin_jax.models import remat
from swin_jax.models.backbone import Breakdown, StageBlocks
from swin_jax.models.swin import flops
from swin_jax.models.swin.block import Block
from swin_jax.models.swin.config import SwinConfig
from swin_jax.models.swin.geometry import geometry
from swin_jax.models.swin.swin import Swin

# Remat policy → the policies that keep less, the mildest first; ("block",) for all others.
_STRICTER = {"none": ("dots", "block"), "block": ()}


def breakdown(backbone: Swin, size: Sequence[int], bands: int) -> Breakdown:
  """Returns the parts for images of `size` pixels; see `backbone.Breakdown`."""
  config = backbone.config
  stages = geometry(config, tuple(size))
  # Each of two branches all-reduces its output and, in the backward pass, the gradient of its input. The
  # recomputed forward pass repeats the branches whose output is not saved.
  again = 2 - len({"attention_output", "mlp_output"} & set(remat.saved(config.remat)))
  reruns = config.remat not in ("none", "dots")
  return Breakdown(
    blocks=tuple(_stage_blocks(config, i, stage.map) for i, stage in enumerate(stages)),
    remat=config.remat,
    stricter=_STRICTER.get(config.remat, ("block",)),
    keeps_all=config.remat == "none",
    reruns=reruns,
    recomputed=_recomputed(config, tuple(size), bands),
    sums=4 + (again if reruns else 0),
  )


def _recomputed(config: SwinConfig, size: tuple[int, ...], bands: int) -> int:
  """Returns the operations of the forward pass except those whose result the policy saves."""
  products = flops.products(config, size)
  if config.remat == "none":
    return 0
  if config.remat == "dots":  # saves the products with weights, but not the two products of attention
    return products["logits"] + products["attention"]
  return flops.flops(config, size, bands) - sum(products[name] for name in remat.saved(config.remat))


def _stage_blocks(config: SwinConfig, stage: int, map_size: tuple[int, ...]) -> StageBlocks:
  block = Block(config, stage, shifted=config.depths[stage] > 1)
  return StageBlocks(
    count=config.depths[stage],
    input=jax.ShapeDtypeStruct((*map_size, config.channels(stage)), config.dtype),
    init=lambda x: nn.meta.unbox(block.init(jax.random.key(0), x, None, train=False)),
    apply=lambda params, x: block.apply(params, x, None, train=True)[0],
  )
