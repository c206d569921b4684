"""Masked image modelling: predict the pixels of the masked patches (SimMIM, section 3)."""

import jax
import jax.numpy as jnp


def masked_l1(reconstruction: jax.Array, target: jax.Array, mask: jax.Array, patch_size: int) -> jax.Array:
  """Mean absolute error over masked pixels and all bands, with the official denominator Σmask + 1e-5.

  Args:
    reconstruction, target: [B, height, width, bands] float32.
    mask: bool [B, H, W], true = masked, one entry per patch of patch_size × patch_size pixels.
    patch_size: in pixels.

  Returns:
    scalar float32.
  """
  total, pixels = _masked_sums(reconstruction, target, mask, patch_size)
  return total / (pixels + 1e-5) / target.shape[-1]


def _masked_sums(reconstruction, target, mask, patch_size):
  height, width = target.shape[1:3]
  pixels = jnp.repeat(jnp.repeat(mask, patch_size, axis=1), patch_size, axis=2)[:, :height, :width, None].astype(jnp.float32)
  return jnp.sum(jnp.abs(target - reconstruction) * pixels), jnp.sum(pixels)


def normalise_target(images: jax.Array, window: int) -> jax.Array:
  """Normalises each band of each pixel by mean and deviation of the window × window pixels around it; borders use what is there.

  Official code (target normalisation of the V2 recipe): unbiased variance, √(v + 1e-6).

  Args:
    images: [B, height, width, bands] float32.
    window: odd, in pixels.

  Returns:
    [B, height, width, bands] float32.
  """
  def box_sum(x):
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, window, window, 1), (1, 1, 1, 1), "SAME")

  count = box_sum(jnp.ones((1, *images.shape[1:3], 1), jnp.float32))
  mean = box_sum(images) / count
  variance = box_sum(images * images) / count - mean * mean
  variance = jnp.maximum(variance * count / jnp.maximum(count - 1, 1), 0.0)
  return (images - mean) * jax.lax.rsqrt(variance + 1e-6)
