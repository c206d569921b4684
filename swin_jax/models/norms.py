"""Norms of convolutional heads: over groups of channels, or with fixed statistics as in public weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from swin_jax.models import layers

GROUP = 16  # number of channels that share statistics in a group norm
EPSILON = 1e-5


def group_norm(dtype: jnp.dtype, name: str | None = None) -> nn.GroupNorm:
  """Returns a norm of each image over its map and groups of `GROUP` channels: two-pass variance, float32
  inside, result in `dtype`.

  The published models use batch norm with statistics over all devices. This norm has the same trained
  parameters but does not depend on other images: any batch on any mesh gives the same result, devices
  exchange nothing, evaluation computes the same function as training, and there is no state in addition to
  the parameters. A group of several channels has a variance even if pooling leaves a map of one token, which
  a norm of single channels would set to zero.
  """
  return nn.GroupNorm(
    num_groups=None,
    group_size=GROUP,
    epsilon=EPSILON,
    use_fast_variance=False,
    dtype=dtype,
    scale_init=layers.boxed(nn.initializers.ones, None),
    bias_init=layers.boxed(nn.initializers.zeros, None),
    name=name,
  )


class FrozenBatchNorm(nn.Module):
  """Batch norm with the running statistics of imported weights, which training does not change.

  Computes (x - mean) · scale / √(variance + eps) + bias in float32. Mean and variance are parameters without
  a gradient, so there is no state in addition to the parameters, and any batch on any mesh gives the same
  result.

  Attributes:
    dtype: dtype of the result.

  Shapes:
    x, out  [..., C]
  """

  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    ones, zeros = nn.initializers.ones, nn.initializers.zeros
    inits = {"scale": ones, "bias": zeros, "mean": zeros, "variance": ones}
    scale, bias, mean, variance = (
      self.param(name, layers.boxed(init, None), (x.shape[-1],)) for name, init in inits.items()
    )
    mean, variance = jax.lax.stop_gradient((mean, variance))
    scale = scale * jax.lax.rsqrt(variance + EPSILON)
    mean, scale, bias = (jnp.expand_dims(p, range(x.ndim - 1)) for p in (mean, scale, bias))
    return ((x.astype(jnp.float32) - mean) * scale + bias).astype(self.dtype)


NORMS = {"group": group_norm, "batch": FrozenBatchNorm}  # value of the config key → (dtype, name=) → norm
