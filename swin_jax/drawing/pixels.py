"""Normalised images as a person sees them, whatever their numbers are."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def visible(
  normalised: jax.Array, valid: jax.Array | None, mean: Sequence[float], std: Sequence[float]
) -> jax.Array:
  """Normalised images as pixels of 0..1.

  Those of uint8 as they were; those of numbers of any range by two deviations around the mean, and black
  where there is no data.

  Args:
    normalised: float32 [..., height, width, bands].
    valid: bool, of a shape that can be broadcast to that, where they hold data; None for uint8.
    mean, std: of the images, per band.
  """
  if valid is None:
    lead = (None,) * (normalised.ndim - 1)
    return jnp.clip(normalised * jnp.asarray(std)[lead] + jnp.asarray(mean)[lead], 0.0, 1.0)
  return jnp.where(valid, jnp.clip(normalised / 4.0 + 0.5, 0.0, 1.0), 0.0)


def shown(images: jax.Array, bands: Sequence[int]) -> jax.Array:
  """The bands of [..., bands] that a person sees: those asked for, else the first three, or the first where
  there are fewer.
  """
  bands = tuple(bands) or ((0, 1, 2) if images.shape[-1] >= 3 else (0,))
  return jnp.take(images, jnp.asarray(bands), axis=-1)


def as_rgb(
  normalised: jax.Array,
  valid: jax.Array | None,
  mean: Sequence[float],
  std: Sequence[float],
  bands: Sequence[int] = (),
) -> jax.Array:
  """Pixels of a batch to draw on, float32 [B, height, width, 3] of 0..1.

  Args: as `visible`, but `valid` is [B, height, width]; bands: see `shown`.
  """
  valid = valid if valid is None else valid[..., None]
  pixels = shown(visible(normalised, valid, mean, std), bands)
  return pixels if pixels.shape[-1] == 3 else jnp.repeat(pixels, 3, axis=-1)
