"""Resamples an image under an affine map, as Pillow does."""

import jax
import jax.numpy as jnp
import numpy as np

# Fills the areas that a warp exposes at the borders: the ImageNet mean for any data, and its luminance.
_FILL = {3: (124, 116, 104), 1: (117,)}


def warp(image: jax.Array, matrix: tuple[jax.Array, ...]) -> jax.Array:
  """Warps an image with cubic interpolation through 4 × 4 pixels.

  Args:
    image: uint8 [height, width, bands].
    matrix: (a, b, c, d, e, f): the output pixel (x, y) comes from (a·x + b·y + c, d·x + e·y + f), in pixels
      from the corner of the image.
  """
  height, width, bands = image.shape
  a, b, c, d, e, f = matrix
  x, y = jnp.arange(width)[None] + 0.5, jnp.arange(height)[:, None] + 0.5
  x, y = a * x + b * y + c, d * x + e * y + f
  inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
  left, top = jnp.floor(x - 0.5), jnp.floor(y - 0.5)
  dx, dy = (x - 0.5 - left)[..., None], (y - 0.5 - top)[..., None]
  # The bands of a pixel are packed into one number, so that one gather fetches all of them.
  packed = jnp.sum(
    image.astype(jnp.uint32) << (8 * np.arange(bands, dtype=np.uint32))[None, None], axis=-1
  ).reshape(-1)
  columns = [jnp.clip(left.astype(jnp.int32) + i, 0, width - 1) for i in range(-1, 3)]

  def row(j):
    start = jnp.clip(top.astype(jnp.int32) + j, 0, height - 1) * width
    pixels = [packed.at[start + column].get(mode="promise_in_bounds")[..., None] for column in columns]
    return _cubic(
      *(
        (pixel >> (8 * np.arange(bands, dtype=np.uint32))[None, None] & 255).astype(jnp.float32)
        for pixel in pixels
      ),
      dx,
    )

  warped = jnp.clip(_cubic(*map(row, range(-1, 3)), dy), 0, 255).astype(jnp.uint8)  # Pillow truncates, too
  return jnp.where(inside[..., None], warped, np.array(_FILL[bands], np.uint8)[None, None])


def _cubic(v0: jax.Array, v1: jax.Array, v2: jax.Array, v3: jax.Array, d: jax.Array) -> jax.Array:
  """Interpolates between v1 (d = 0) and v2 (d = 1), with Pillow's a = -1 for warps (resizing has -0.5)."""
  return v1 + d * (v2 - v0 + d * (2 * (v0 - v1) + v2 - v3 + d * (v1 - v0 + v3 - v2)))
