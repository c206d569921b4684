"""Formulas that all implementations of window attention share."""

import math

import jax
import jax.numpy as jnp

MAX_LOGIT_SCALE = math.log(100.0)  # Swin V2, section 3.2: the temperature is at least 0.01
REGION_MASK = -100.0  # official value; finite, for pairs of tokens that are not neighbours in the image
PADDING_MASK = -1e9  # padding is not data: not even an extreme logit may give it weight


def query_scale(logit_scale: jax.Array) -> jax.Array:
  """Returns the factor of the normalised queries: the inverse temperature of each head, at most 100."""
  # The gradient is exactly zero above the bound; jnp.minimum would halve it at ties.
  return jnp.exp(jnp.where(logit_scale > MAX_LOGIT_SCALE, MAX_LOGIT_SCALE, logit_scale))


def inverse_norm(x: jax.Array) -> jax.Array:
  """Returns 1 / max(‖x‖, 1e-12) over the last axis, which is kept with size 1.

  Neither the value nor the gradient is NaN at x = 0.
  """
  return jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-24))


def normalised(x: jax.Array, cosine: bool) -> tuple[jax.Array, jax.Array | None]:
  """Returns x / ‖x‖ and 1 / ‖x‖ in float32; without `cosine`, x in float32 and None."""
  x = x.astype(jnp.float32)
  if not cosine:
    return x, None
  inverse = inverse_norm(x)
  return x * inverse, inverse


def through_norm(grad: jax.Array, unit: jax.Array, inverse: jax.Array | None) -> jax.Array:
  """Returns the gradient with respect to x, given the gradient with respect to x / ‖x‖."""
  return grad if inverse is None else inverse * (grad - unit * jnp.sum(unit * grad, axis=-1, keepdims=True))


def region_mask(query: jax.Array, key: jax.Array) -> jax.Array:
  """Returns the float32 mask to add to the logits.

  Args:
    query, key: region labels from `windows.regions`, in shapes that broadcast against each other.
  """
  mask = jnp.where(query == key, 0.0, REGION_MASK)
  return jnp.where((query < 0) != (key < 0), PADDING_MASK, mask)
