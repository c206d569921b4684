"""One transformer block, assembled from parts; V1 and V2 are two combinations of these.

Letters: see `models/windows.py`.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from swin_jax.mesh import axes
from swin_jax.models import attention, layers, windows
from swin_jax.models.backbone import Losses
from swin_jax.models.swin.config import SwinConfig
from swin_jax.models.swin.geometry import regions, stage_geometry


class Parts(NamedTuple):
  """The parts of the blocks of one version.

  Attributes:
    norm_first: whether a branch norms its input (pre-norm) rather than its output (post-norm). Merging uses
      the same order.
    norm: (dtype, name=) → the norm of a branch.
    scores: how queries and keys are compared, see `attention.WindowAttention`.
    position_bias: where the position bias comes from, see `attention.WindowAttention`.
    channel_mlp: (mlp_ratio, dtype, name=) → a module x → (y, `Losses`).
  """

  norm_first: bool
  norm: Callable[..., nn.Module]
  scores: Callable
  position_bias: Callable
  channel_mlp: Callable[..., nn.Module]


VERSIONS = {
  1: Parts(
    norm_first=True,
    norm=layers.LayerNorm,
    scores=attention.dot_product,
    position_bias=attention.bias_table,
    channel_mlp=layers.Mlp,
  ),
  # The scales of post-norms start at zero, so that a new block is the identity (Swin V2, section 3.2).
  2: Parts(
    norm_first=False,
    norm=functools.partial(layers.LayerNorm, scale_init=nn.initializers.zeros),
    scores=attention.cosine,
    position_bias=attention.bounded_bias_mlp,
    channel_mlp=layers.Mlp,
  ),
}


class Block(nn.Module):
  """One transformer block: window attention and a channel MLP, each on a residual branch.

  Branches are dropped per image with probability `drop_rate` (stochastic depth).

  Attributes:
    config: config of the backbone.
    stage: number of the block's stage, from 0.
    shifted: whether the windows are shifted by half their size.
    extra_norm: whether the block ends with a LayerNorm on the main branch.

  Shapes:
    x, out    [B, *map, C]
    drop_rate scalar, or None for no dropping
    losses    scalars by name
  """

  config: SwinConfig
  stage: int
  shifted: bool
  extra_norm: bool = False

  @nn.compact
  def __call__(self, x: jax.Array, drop_rate: jax.Array | None, *, train: bool) -> tuple[jax.Array, Losses]:
    config, parts = self.config, VERSIONS[self.config.version]
    norms = [parts.norm(config.dtype, name=name) for name in ("norm1", "norm2")]
    mlp = parts.channel_mlp(config.mlp_ratio, config.dtype, name="mlp")
    losses = {}
    for norm, branch in zip(norms, (self._attend, mlp), strict=True):
      y, emitted = branch(norm(x) if parts.norm_first else x)
      y = y if parts.norm_first else norm(y)
      losses |= emitted
      if train and drop_rate is not None:
        y = layers.drop_path(y, drop_rate, self.make_rng("dropout"))
      x = layers.constrain(x + y, axes.BATCH, *(None,) * (x.ndim - 1))
    return layers.LayerNorm(config.dtype, name="extra_norm")(x) if self.extra_norm else x, losses

  def _attend(self, x: jax.Array) -> tuple[jax.Array, Losses]:
    config, parts = self.config, VERSIONS[self.config.version]
    stage = stage_geometry(config, self.stage, x.shape[1:-1])
    shift = stage.shift if self.shifted else (0,) * len(stage.shift)
    map_axes = tuple(range(1, x.ndim - 1))
    x = windows.pad(x, stage.padded)
    x = windows.partition(jnp.roll(x, tuple(-s for s in shift), map_axes) if any(shift) else x, stage.window)
    x = attention.WindowAttention(
      num_heads=config.num_heads[self.stage],
      scores=parts.scores,
      position_bias=parts.position_bias,
      window=stage.window,
      trained_window=config.trained_window(self.stage, stage.window),
      table_window=config.table_window(self.stage, stage.window),
      bias_rows=config.bias_rows,
      dtype=config.dtype,
      chunks=config.chunks(self.stage),
      kernel=config.attention_kernel,
      name="attn",
    )(x, regions(config, stage, self.shifted))
    x = windows.merge(x, stage.window, stage.padded)
    x = jnp.roll(x, shift, map_axes) if any(shift) else x
    return x[(slice(None), *map(slice, stage.map))], {}
