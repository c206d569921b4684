"""Small blocks and stages: the modules of `models/swin`, with one stage of few channels."""

import jax.numpy as jnp

from swin_jax.models.swin import SwinConfig
from swin_jax.models.swin.block import Block
from swin_jax.models.swin.stage import Stage


def config(version=2, window=(4, 4), trained=None, *, depth=2, heads=2, chunks=1, **changes):
  """Returns the config of a backbone with one stage."""
  return SwinConfig(
    version=version,
    embed_dim=16,
    depths=(depth,),
    num_heads=(heads,),
    window_sizes=(window,),
    trained_window_sizes=(trained,) if trained else (),
    attention_chunks=(chunks,),
    **{"mlp_ratio": 2.0, "unroll": False, "dtype": jnp.dtype("float32")} | changes,
  )


def block(*numbers, shifted=False, extra_norm=False, **changes):
  """Returns one block of that backbone."""
  return Block(config(*numbers, **changes), 0, shifted, extra_norm)


def stage(*numbers, **changes):
  """Returns that backbone's stage."""
  return Stage(config(*numbers, **changes), 0)
