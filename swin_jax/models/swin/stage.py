"""The blocks of one stage as a scan over repeated groups. Letters: see `models/windows.py`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.mesh import axes
from swin_jax.models import attention, remat
from swin_jax.models.backbone import Losses
from swin_jax.models.swin.block import Block
from swin_jax.models.swin.config import SwinConfig, group_size


class Stage(nn.Module):
  """The blocks of one stage: a scan over groups of blocks, see `config.group_size`.

  The parameters of the groups are stacked along a leading LAYERS dimension, whether or not the scan is
  unrolled. Losses of the same name are summed over the blocks.

  Attributes:
    config: config of the backbone.
    stage: number of this stage, from 0.

  Shapes:
    x, out     [B, *map, C]
    drop_rates float32 [L], or None for no dropping
    losses     scalars by name
  """

  config: SwinConfig
  stage: int

  @nn.compact
  def __call__(self, x: jax.Array, drop_rates: np.ndarray | None, *, train: bool) -> tuple[jax.Array, Losses]:
    config, depth = self.config, self.config.depths[self.stage]
    group = group_size(depth, config.extra_norm_every)
    length = depth // group
    unroll = config.unroll or length == 1
    blocks = _BlockGroup(config, self.stage, group, unroll, name="blocks")

    def body(blocks, x, rates):
      return blocks(x, rates, train=train)

    scan = nn.scan(
      body,
      variable_axes={"params": 0, attention.INTERMEDIATES[0]: 0},
      split_rngs={"params": True, "dropout": True},
      length=length,
      unroll=length if unroll else 1,
      metadata_params={nn.PARTITION_NAME: axes.LAYERS},
    )
    x, losses = scan(blocks, x, None if drop_rates is None else drop_rates.reshape(length, group))
    return x, jax.tree.map(jnp.sum, losses)


class _BlockGroup(nn.Module):
  """The blocks of one scan step; `block{j}` is block j of every group."""

  config: SwinConfig
  stage: int
  size: int
  unrolled: bool

  @nn.compact
  def __call__(self, x: jax.Array, drop_rates: jax.Array | None, *, train: bool) -> tuple[jax.Array, Losses]:
    def run(block, x, rate):
      return block(x, rate, train=train)

    if policy := remat.policy(self.config.remat):
      # Inside a loop, common-subexpression elimination cannot undo the recomputation; outside a loop it
      # would.
      run = nn.remat(run, policy=policy, prevent_cse=self.unrolled)
    losses = {}
    for j in range(self.size):
      block = Block(self.config, self.stage, j % 2 == 1, self.config.has_extra_norm(j), name=f"block{j}")
      x, emitted = run(block, x, None if drop_rates is None else drop_rates[j])
      losses = add(losses, emitted)
    return x, losses


def add(losses: Losses, others: Losses) -> Losses:
  """Returns the sum of two sets of losses, by name."""
  return losses | {name: losses[name] + value if name in losses else value for name, value in others.items()}
