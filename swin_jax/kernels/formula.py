"""What every implementation of window attention computes alike."""

import math

import jax
import jax.numpy as jnp

MAX_LOGIT_SCALE = math.log(100.0)  # Swin V2, section 3.2: the temperature stays above 0.01
REGION_MASK = -100.0  # official: finite, added to the logits of tokens that are no neighbours in the image
PADDING_MASK = -1e9  # padding is invented, so no logit, however extreme, may let it in


def query_scale(logit_scale: jax.Array) -> jax.Array:
  """What normalised queries are multiplied by: the inverse temperature of each head, at most 100."""
  # Above the bound the gradient is exactly zero; jnp.minimum would split ties.
  return jnp.exp(jnp.where(logit_scale > MAX_LOGIT_SCALE, MAX_LOGIT_SCALE, logit_scale))


def inverse_norm(x: jax.Array) -> jax.Array:
  """1 / max(‖x‖, 1e-12) over the last axis, which stays as one; no NaN at x = 0, nor in its gradient."""
  return jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-24))


def normalised(x: jax.Array, cosine: bool) -> tuple[jax.Array, jax.Array | None]:
  """x / ‖x‖ and 1 / ‖x‖ in float32; x and None where nothing is normalised."""
  x = x.astype(jnp.float32)
  if not cosine:
    return x, None
  inverse = inverse_norm(x)
  return x * inverse, inverse


def through_norm(grad: jax.Array, unit: jax.Array, inverse: jax.Array | None) -> jax.Array:
  """The gradient of x, from that of x / ‖x‖."""
  return grad if inverse is None else inverse * (grad - unit * jnp.sum(unit * grad, axis=-1, keepdims=True))


def region_mask(query: jax.Array, key: jax.Array) -> jax.Array:
  """What is added to the logits, float32, by the labels of query and key, which are broadcast: see
  `windows.regions`.
  """
  mask = jnp.where(query == key, 0.0, REGION_MASK)
  return jnp.where((query < 0) != (key < 0), PADDING_MASK, mask)
