"""The layers of all models, with logical axes on every parameter. Letters: see `windows.py`.

Parameters are float32; matrix products are computed in `dtype`, norms in float32.
"""

from collections.abc import Callable, Sequence
import math

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp

from swin_jax.mesh import axes, sharding
from swin_jax.models import windows

# The official code uses trunc_normal with std 0.02 cut at ±2, which is 100 σ. jax's truncated_normal would
# cut at 2 σ and shrink the std.
default_init = nn.initializers.normal(0.02)


def fan_in_uniform(fan_in: int) -> Callable[..., jax.Array]:
  """Returns an initializer U(±1/√fan_in), the default of torch for weights and biases of convolutions."""
  bound = fan_in**-0.5

  def init(rng, shape, dtype=jnp.float32):
    return jax.random.uniform(rng, shape, dtype, -bound, bound)

  return init


def boxed(init: Callable[..., jax.Array], *names: str | None) -> Callable[..., nn.LogicallyPartitioned]:
  """Attaches a logical name to each dimension of the parameter that `init` creates.

  A dimension named None is never split.
  """
  _check(names)
  return nn.with_logical_partitioning(init, names)


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """Constrains the sharding of an activation by the logical names of its dimensions.

  Raises:
    BadInput: the rules do not fit the array, see `sharding.spec`.
  """
  _check(names)
  return sharding.constrain(x, names)


def gather(x: jax.Array, *names: str | None) -> jax.Array:
  """Gathers the last dimension of an activation, which the preceding layer left split by its sharding rule.

  Both states are constrained. Otherwise the compiler gathers the layer's kernel instead, and every device
  computes everything.
  """
  return constrain(constrain(x, *names), *names[:-1], None)


def narrow(kernel: jax.Array, names: Sequence[str | None], dtype: jnp.dtype) -> jax.Array:
  """Casts a kernel to the compute dtype while it is still split across devices.

  Devices then exchange the kernel, and its gradient, in this dtype.
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
  """Returns a linear layer [..., I] → [..., features] with the logical names of its kernel [I, features]."""

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
  """Computes the exact GELU (erf, not tanh).

  The computation is float32 because XLA then needs only one pass over the widest activation; the result has
  the dtype of x.
  """
  wide = x.astype(jnp.float32)
  return (0.5 * wide * (1.0 + jax.lax.erf(wide * 2**-0.5))).astype(x.dtype)


def drop_path(x: jax.Array, rate: jax.Array, rng: jax.Array) -> jax.Array:
  """Applies stochastic depth to a residual branch.

  Zeroes the branch of a whole image with probability `rate`; scales the others by 1 / (1 - rate).

  Args:
    x: [B, ...] output of the branch.
    rate: scalar in [0, 1).
    rng: random key.
  """
  keep = 1.0 - rate
  kept = jax.random.bernoulli(rng, keep, (x.shape[0],) + (1,) * (x.ndim - 1))
  return x * (kept / keep).astype(x.dtype)


class LayerNorm(nn.Module):
  """LayerNorm over the last axis as in the official models: eps 1e-5, two-pass variance, float32 inside,
  result in `dtype`.

  It normalises first and then scales. flax's LayerNorm first multiplies the scale by 1/σ, and the comparison
  with the golden files is sensitive to this rounding.
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

  Like every channel MLP of a block, it returns a pair: the output, and losses by name (none in this case).

  Shapes:
    x, out [B, *map, C]
  """

  ratio: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    c = x.shape[-1]
    hidden = dense(int(c * self.ratio), (axes.EMBED, axes.MLP), dtype=self.dtype, name="fc1")(x)
    hidden = checkpoint_name(hidden, "mlp_hidden")  # before GELU, whose gradient needs it
    hidden = constrain(gelu(hidden), axes.BATCH, *(None,) * (x.ndim - 2), axes.MLP)
    out = dense(c, (axes.MLP, axes.EMBED), dtype=self.dtype, name="fc2")(hidden)
    return checkpoint_name(out, "mlp_output"), {}


class PatchEmbed(nn.Module):
  """Cuts an image into patches, embeds each linearly and applies a norm (Swin V1, section 3.1).

  An image whose size is not a multiple of the patch size is padded with zeros at the far ends.

  Attributes:
    patch_size: pixels, one entry per axis.
    embed_dim: C.
    dtype: dtype of the product and of the result.

  Shapes:
    images [B, *size, bands]
    out    [B, *map, C]
  """

  patch_size: tuple[int, ...]
  embed_dim: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, images: jax.Array) -> jax.Array:
    images = windows.pad(images, windows.padded_size(images.shape[1:-1], self.patch_size))
    x = windows.cells(images, self.patch_size)
    values = math.prod(self.patch_size) * images.shape[-1]
    x = x.reshape(*x.shape[: images.ndim - 1], values)
    init = fan_in_uniform(values)
    x = dense(self.embed_dim, (None, axes.EMBED), dtype=self.dtype, init=init, bias_init=init, name="proj")(x)
    return LayerNorm(self.dtype, name="norm")(x)


class PatchMerge(nn.Module):
  """Merges neighbouring tokens into one with twice the channels (Swin V1, section 3.1).

  The official code concatenates the merged tokens with the last axis slowest: for 2×2 tokens, the index of a
  channel block is 2·column + row. V1 applies the norm before the linear layer. V2 applies it after, so its
  linear layer reads the tokens in place. A map that `factor` does not divide is padded with zeros at the far
  ends.

  Attributes:
    factor: number of tokens that become one, one entry per axis.
    norm_first: whether the norm comes before the product.
    dtype: dtype of the product and of the result.

  Shapes:
    x   [B, *map, C]
    out [B, *⌈map / factor⌉, 2C]
  """

  factor: tuple[int, ...]
  norm_first: bool
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = windows.pad(x, windows.padded_size(x.shape[1:-1], self.factor))
    c, rank = x.shape[-1], len(self.factor)
    split = [n for side, k in zip(x.shape[1:-1], self.factor, strict=True) for n in (side // k, k)]
    x = x.reshape(x.shape[0], *split, c)
    # Einsum letters for the map axes, and for the axes inside a cell of merged tokens.
    tokens, inside = "thw"[-rank:], "srq"[-rank:]
    norm = LayerNorm(self.dtype, name="norm")
    reduction = _Reduction(2 * c, tokens, inside, self.factor, self.dtype, name="reduction")
    if self.norm_first:
      x = x.transpose(0, *range(1, 2 * rank, 2), *range(2 * rank, 1, -2), 2 * rank + 1)
      normed = norm(x.reshape(*x.shape[: rank + 1], -1)).reshape(x.shape)
      x = reduction(f"b{tokens}{inside[::-1]}c", normed)
    else:
      x = reduction("b" + "".join(map("".join, zip(tokens, inside, strict=True))) + "c", x)
    x = gather(x, axes.BATCH, *(None,) * rank, axes.MERGED)  # a norm needs all channels of a token
    return x if self.norm_first else norm(x)


class _Reduction(nn.Module):
  """The linear layer of `PatchMerge`: (einsum letters of the dimensions of x, x) → [B, *map, features].

  Attributes:
    features: output channels.
    tokens, inside: einsum letters for the map axes, and for the axes inside a cell of merged tokens.
    factor: see `PatchMerge`.
    dtype: dtype of the product.
  """

  features: int
  tokens: str
  inside: str
  factor: tuple[int, ...]
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, dimensions: str, x: jax.Array) -> jax.Array:
    c, names = x.shape[-1], (axes.EMBED, axes.MERGED)
    kernel = self.param("kernel", boxed(default_init, *names), (math.prod(self.factor) * c, self.features))
    # Gathered before its rows are split up; otherwise devices exchange it three times.
    kernel = constrain(narrow(kernel, names, self.dtype), None, axes.MERGED)
    kernel = kernel.reshape(*self.factor[::-1], c, self.features)
    product = f"{dimensions},{self.inside[::-1]}cd->b{self.tokens}d"
    return jnp.einsum(product, x.astype(self.dtype), kernel)


def _check(names):
  unknown = [name for name in names if name is not None and name not in axes.ALL]
  if unknown:
    raise ValueError(f"unknown logical axis: {unknown}; swin_jax/mesh/axes.py lists them")
