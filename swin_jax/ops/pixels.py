"""Where images on the device hold data."""

import jax
import jax.numpy as jnp


def valid(images: jax.Array) -> jax.Array | None:
  """Where images as a batch holds them have data, bool of their shape; None for uint8, which has it
  everywhere.
  """
  return None if images.dtype == jnp.uint8 else ~jnp.isnan(images)


def holds_data(images: jax.Array) -> jax.Array:
  """Which pixels of images as a batch holds them have data in any band, bool [..., height, width]."""
  there = valid(images)
  return jnp.ones(images.shape[:-1], bool) if there is None else jnp.any(there, axis=-1)
