"""The layers every model is built from, with logical axes on every parameter. Letters: see `windows.py`.

Parameters are float32; matrix products run in `dtype`; norms in float32.
"""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from swin_jax.mesh import axes, sharding
from swin_jax.models import windows

# Official code: trunc_normal of std 0.02 cut at ±2, that is at 100 σ. jax's truncated_normal would cut at 2 σ
# and shrink the std.
default_init = nn.initializers.normal(0.02)


def fan_in_uniform(fan_in: int) -> Callable[..., jax.Array]:
  """U(±1/√fan_in), the default of torch for convolutions, weights and biases alike."""
  bound = fan_in**-0.5

  def init(rng, shape, dtype=jnp.float32):
    return jax.random.uniform(rng, shape, dtype, -bound, bound)

  return init


def boxed(init: Callable[..., jax.Array], *names: str | None) -> Callable[..., nn.LogicallyPartitioned]:
  """Attaches a logical name to each dimension of the parameter that `init` makes; None is a dimension that is
  never split.
  """
  _check(names)
  return nn.with_logical_partitioning(init, names)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """Constrains the sharding of an activation by the logical names of its dimensions.

  Raises:
    BadInput: the rules cannot place it, see `sharding.spec`.
  """
  _check(names)
  return sharding.constrain(x, names)


def gather(x: jax.Array, *names: str | None) -> jax.Array:
  """Makes the last dimension of an activation whole that a layer has left divided by the rule of its name.

  Both are said, or the compiler gathers the layer's kernel instead and every device computes everything.
  """
  return constrain(constrain(x, *names), *names[:-1], None)


def narrow(kernel: jax.Array, names: Sequence[str | None], dtype: jnp.dtype) -> jax.Array:
  """A kernel in the compute dtype while it is still divided, so that this is what travels between devices;
  its gradient alike.
  """
  return sharding.constrain(kernel.astype(dtype), names, loosely=True)


def dense(
  features: int,
  names: tuple[str | None, str | None],
  *,
  use_bias: bool = True,
  dtype: jnp.dtype = jnp.float32,
  init: Callable[..., jax.Array] = default_init,
  bias_init: Callable[..., jax.Array] = nn.initializers.zeros,
  name: str | None = None,
) -> nn.Dense:
  """A linear layer [..., I] → [..., features] whose kernel [I, features] has the logical names `names`."""

  def cast(x, kernel, bias, *, dtype):
    return x.astype(dtype), narrow(kernel, names, dtype), None if bias is None else bias.astype(dtype)

  return nn.Dense(
    features,
    use_bias=use_bias,
    dtype=dtype,
    promote_dtype=cast,
    kernel_init=boxed(init, *names),
    bias_init=boxed(bias_init, names[1] if names[1] != axes.EMBED else None),
    name=name,
  )


def gelu(x: jax.Array) -> jax.Array:
  """Exact GELU (erf, not tanh), in float32 because XLA then needs one pass over the widest activation, in the
  dtype of x.
  """
  wide = x.astype(jnp.float32)
  return (0.5 * wide * (1.0 + jax.lax.erf(wide * 2**-0.5))).astype(x.dtype)


def drop_path(x: jax.Array, rate: jax.Array, rng: jax.Array) -> jax.Array:
  """Stochastic depth: zeroes a whole image's branch with probability `rate` and scales the others by 1 / (1 -
  rate).

  Args:
    x: [B, ...] the output of a residual branch.
    rate: scalar in [0, 1).
    rng: a key.
  """
  keep = 1.0 - rate
  kept = jax.random.bernoulli(rng, keep, (x.shape[0],) + (1,) * (x.ndim - 1))
  return x * (kept / keep).astype(x.dtype)


class LayerNorm(nn.Module):
  """LayerNorm over the last axis as the official models have it: eps 1e-5, two-pass variance, float32 inside,
  result in `dtype`.

  First normalise, then scale: flax's own multiplies 1/σ into the scale first, and that rounding shows in the
  golden files.
  """

  dtype: jnp.dtype
  scale_init: Callable[..., jax.Array] = nn.initializers.ones

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale = self.param("scale", boxed(self.scale_init, None), (x.shape[-1],))
    bias = self.param("bias", boxed(nn.initializers.zeros, None), (x.shape[-1],))
    x = x.astype(jnp.float32)
    x = x - jnp.mean(x, axis=-1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + 1e-5)
    scale, bias = (jnp.expand_dims(p, range(x.ndim - 1)) for p in (scale, bias))
    return (x * scale + bias).astype(self.dtype)


class Mlp(nn.Module):
  """Linear, exact GELU, linear; the hidden layer is `ratio` times as wide.

  Shapes:
    x, out [B, H, W, C]
  """

  ratio: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    c = x.shape[-1]
    hidden = dense(int(c * self.ratio), (axes.EMBED, axes.MLP), dtype=self.dtype, name="fc1")(x)
    hidden = checkpoint_name(hidden, "mlp_hidden")  # before GELU, whose gradient needs it
    hidden = constrain(gelu(hidden), axes.BATCH, None, None, axes.MLP)
    return checkpoint_name(
      dense(c, (axes.MLP, axes.EMBED), dtype=self.dtype, name="fc2")(hidden), "mlp_output"
    )


class PatchEmbed(nn.Module):
  """Cuts an image into square patches and embeds each, then norms (Swin V1, section 3.1).

  An image that is no multiple of the patch is padded with zeros at the bottom and the right.

  Shapes:
    images [B, H·p, W·p, bands]
    out    [B, H, W, C]
  """

  patch_size: int
  embed_dim: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    p = self.patch_size
    images = windows.pad(images, windows.padded_size(images.shape[1:3], (p, p)))
    b, height, width, bands = images.shape
    x = images.reshape(b, height // p, p, width // p, p, bands).transpose(0, 1, 3, 2, 4, 5)
    x = x.reshape(b, height // p, width // p, p * p * bands)
    init = fan_in_uniform(p * p * bands)
    x = dense(self.embed_dim, (None, axes.EMBED), dtype=self.dtype, init=init, bias_init=init, name="proj")(x)
    return LayerNorm(self.dtype, name="norm")(x)


class PatchMerge(nn.Module):
  """Merges 2×2 tokens into one of twice the channels (Swin V1, section 3.1).

  The official code concatenates column-major: channel block 2·column + row. V2 norms after the linear layer,
  which then takes the four
  from where they are, V1 before it. A map with an odd side is padded with zeros.

  Shapes:
    x   [B, H, W, C]
    out [B, ⌈H/2⌉, ⌈W/2⌉, 2C]
  """

  pre_norm: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = windows.pad(x, windows.padded_size(x.shape[1:3], (2, 2)))
    b, height, width, c = x.shape
    x = x.reshape(b, height // 2, 2, width // 2, 2, c)
    norm = LayerNorm(self.dtype, name="norm")
    reduction = _Reduction(2 * c, self.dtype, name="reduction")
    if self.pre_norm:
      x = x.transpose(0, 1, 3, 4, 2, 5)
      x = reduction("bhwqrc", norm(x.reshape(*x.shape[:3], 4 * c)).reshape(x.shape))
    else:
      x = reduction("bhrwqc", x)
    x = gather(x, axes.BATCH, None, None, axes.MERGED)  # a norm needs all channels of a token
    return x if self.pre_norm else norm(x)


class _Reduction(nn.Module):
  """A linear layer of 2×2 tokens: letters of the dimensions of x, x → [b, h, w, features]; q and r are column
  and row of the four.
  """

  features: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, dimensions: str, x: jax.Array) -> jax.Array:
    c, names = x.shape[-1], (axes.EMBED, axes.MERGED)
    kernel = self.param("kernel", boxed(default_init, *names), (4 * c, self.features))
    # whole before its rows are taken apart, or it travels thrice
    kernel = constrain(narrow(kernel, names, self.dtype), None, axes.MERGED)
    kernel = kernel.reshape(2, 2, c, self.features)
    return jnp.einsum(f"{dimensions},qrcd->bhwd", x.astype(self.dtype), kernel)


def _check(names):
  unknown = [name for name in names if name is not None and name not in axes.ALL]
  if unknown:
    raise ValueError(f"no such logical axis: {unknown}; swin_jax/mesh/axes.py lists them")
