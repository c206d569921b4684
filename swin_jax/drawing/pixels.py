"""Conversion of normalised images with any range of values to visible pixels."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

TITLES = ("image", "truth", "prediction", "errors")  # of the panels that compare maps


def inside(extent: jax.Array | None, pixels: jax.Array) -> jax.Array:
  """Returns which pixels of a canvas belong to its image, bool [B, height, width].

  Args:
    extent: int32 [B, 2], height and width of each image, in the upper left; None for all of the canvas.
    pixels: [B, height, width, bands].
  """
  _, height, width, _ = pixels.shape
  if extent is None:
    return jnp.ones(pixels.shape[:3], bool)
  rows = jnp.arange(height)[None, :] < extent[:, :1]
  columns = jnp.arange(width)[None, :] < extent[:, 1:]
  return rows[:, :, None] & columns[:, None, :]


def compared(panels: Sequence[jax.Array], inside: jax.Array | None) -> jax.Array:
  """Returns panels [B, height, width, 3] in 0..1 as uint8 [B, panels, height, width, 3], white where `inside`
  is false.
  """
  stacked = jnp.clip(jnp.stack(panels, axis=1), 0.0, 1.0)
  stacked = stacked if inside is None else jnp.where(inside[:, None, :, :, None], stacked, 1.0)
  return jnp.round(stacked * 255.0).astype(jnp.uint8)


def visible(
  normalised: jax.Array, valid: jax.Array | None, mean: Sequence[float], std: Sequence[float]
) -> jax.Array:
  """Returns normalised images as pixels in 0..1.

  Images that were uint8 get their original values. For other images, two standard deviations to either side
  of the mean become 0..1, and pixels without data are black.

  Args:
    normalised: float32 [..., height, width, bands].
    valid: bool, broadcastable to `normalised`, true where there is data; None for images that were uint8.
    mean, std: mean and standard deviation of the images, per band.
  """
  if valid is None:
    lead = (None,) * (normalised.ndim - 1)
    return jnp.clip(normalised * jnp.asarray(std)[lead] + jnp.asarray(mean)[lead], 0.0, 1.0)
  return jnp.where(valid, jnp.clip(normalised / 4.0 + 0.5, 0.0, 1.0), 0.0)


def shown(images: jax.Array, bands: Sequence[int]) -> jax.Array:
  """Selects the bands of [..., bands] to show; with `bands` = (), the first three, or the first if fewer."""
  bands = tuple(bands) or ((0, 1, 2) if images.shape[-1] >= 3 else (0,))
  return jnp.take(images, jnp.asarray(bands), axis=-1)


def as_rgb(
  normalised: jax.Array,
  valid: jax.Array | None,
  mean: Sequence[float],
  std: Sequence[float],
  bands: Sequence[int] = (),
) -> jax.Array:
  """Returns the pixels of a batch to draw on, float32 [B, height, width, 3] in 0..1.

  Args:
    normalised, mean, std: see `visible`.
    valid: bool [B, height, width], true where there is data; None for images that were uint8.
    bands: see `shown`.
  """
  valid = valid if valid is None else valid[..., None]
  pixels = shown(visible(normalised, valid, mean, std), bands)
  return pixels if pixels.shape[-1] == 3 else jnp.repeat(pixels, 3, axis=-1)
