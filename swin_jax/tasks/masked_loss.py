"""The loss of masked image modelling: target, and error over the masked pixels (SimMIM, section 3)."""

import jax
import jax.numpy as jnp


def masked_l1(
  reconstruction: jax.Array,
  target: jax.Array,
  mask: jax.Array,
  patch_size: tuple[int, ...],
  valid: jax.Array | None = None,
) -> jax.Array:
  """Returns the mean absolute error over masked pixels and all bands.

  As in the official code, the denominator is Σmask + 1e-5. A band of a pixel without data has weight 0, and a
  pixel counts in the denominator as the fraction of its bands that hold data.

  Args:
    reconstruction, target: [..., height, width, bands] float32.
    mask: bool [..., H, W], one entry per patch, true = masked.
    patch_size: in pixels, one entry per axis.
    valid: bool, of the target's shape, true where it holds data; None for everywhere.

  Returns:
    scalar float32.
  """
  weight = pixel_mask(mask, patch_size, target.shape[-1 - len(patch_size) : -1]).astype(jnp.float32)
  count = weight
  if valid is not None:
    weight = weight * valid
    count = jnp.mean(weight, axis=-1)
  return jnp.sum(jnp.abs(target - reconstruction) * weight) / (jnp.sum(count) + 1e-5) / target.shape[-1]


def pixel_mask(mask: jax.Array, patch_size: tuple[int, ...], image_size: tuple[int, ...]) -> jax.Array:
  """Returns a mask per pixel, [..., *image_size, 1], from a mask per patch, [..., *map]."""
  for axis, patch in enumerate(patch_size, mask.ndim - len(patch_size)):
    mask = jnp.repeat(mask, patch, axis=axis)
  return mask[(..., *map(slice, image_size), None)]


def normalise_target(images: jax.Array, window: int, valid: jax.Array | None = None) -> jax.Array:
  """Returns each band of each pixel, normalised by the mean and standard deviation of the window × window
  pixels around it.

  Arguments and shapes are those of `local_statistics`.
  """
  mean, std = local_statistics(images, window, valid)
  return (images - mean) / std


def in_pixels(
  reconstruction: jax.Array, images: jax.Array, window: int, valid: jax.Array | None = None
) -> jax.Array:
  """Returns the reconstruction as normalised images, with `normalise_target` undone.

  With a normalised target the model predicts each pixel only relative to its neighbourhood. The mean and the
  standard deviation to undo that are taken from the original image.

  Args:
    reconstruction, images: [B, height, width, bands] float32; the images are normalised and not masked.
    window: as for `normalise_target`; 0 for raw pixels.
    valid: as for `local_statistics`.
  """
  if not window:
    return reconstruction
  mean, std = local_statistics(images, window, valid)
  return reconstruction * std + mean


def local_statistics(
  images: jax.Array, window: int, valid: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
  """Returns mean and standard deviation of the neighbourhood of each pixel, per band.

  At the border, only the pixels inside the image count. As in the official code (target normalisation of the
  V2 recipe), the variance is unbiased and the deviation is √(v + 1e-6), in float32. Each frame of a clip has
  its own statistics.

  Args:
    images: [B, height, width, bands] or, for clips, [B, frames, height, width, bands] float32.
    window: side of the neighbourhood in pixels, odd.
    valid: bool, of the images' shape, true where a value counts; the images must be 0 elsewhere. None for
      all.

  Returns:
    Mean and standard deviation, float32 of the images' shape.
  """

  def box_sum(x):  # separable: 2 · window additions per pixel instead of window²
    for axis in (x.ndim - 3, x.ndim - 2):
      shape = [1] * x.ndim
      shape[axis] = window
      x = jax.lax.reduce_window(x, 0.0, jax.lax.add, tuple(shape), (1,) * x.ndim, "SAME")
    return x

  if valid is None:
    count = box_sum(jnp.ones((1, *images.shape[1:-1], 1), jnp.float32))
  else:
    count = jnp.maximum(box_sum(valid.astype(jnp.float32)), 1)
  mean = box_sum(images) / count
  variance = box_sum(images * images) / count - mean * mean
  return mean, jnp.sqrt(jnp.maximum(variance * count / jnp.maximum(count - 1, 1), 0.0) + 1e-6)
