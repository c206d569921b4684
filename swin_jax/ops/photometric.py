"""Photometric distortion of a batch of RGB images on the device: brightness, contrast, saturation and hue.

As in the segmentation recipes (Swin V1, section A2.3), each of the four is applied with probability 1/2,
contrast either before or after saturation and hue. Values stay between 0 and 255 and are rounded only at the
end.
"""

import jax
import jax.numpy as jnp

BRIGHTNESS = 32.0  # largest addend, for values of 0 to 255
RANGE = (0.5, 1.5)  # factors of contrast and saturation
HUE = 18.0 / 180.0  # largest shift, as a fraction of a full turn


def distort(images: jax.Array, rng: jax.Array) -> jax.Array:
  """Distorts each image of a batch independently.

  Args:
    images: uint8 [B, height, width, 3].
    rng: random key.
  """
  b = len(images)
  keys = jax.random.split(rng, 9)

  def draw(key, low, high):
    return jax.random.uniform(key, (b,), minval=low, maxval=high)[:, None, None, None]

  def happens(key):
    return jax.random.bernoulli(key, 0.5, (b,))[:, None, None, None]

  x = images.astype(jnp.float32)
  x = _clip(x + jnp.where(happens(keys[0]), draw(keys[1], -BRIGHTNESS, BRIGHTNESS), 0.0))
  contrast = jnp.where(happens(keys[2]), draw(keys[3], *RANGE), 1.0)
  first = happens(keys[4])
  x = _clip(x * jnp.where(first, contrast, 1.0))
  x = saturate_and_turn(
    x,
    jnp.where(happens(keys[5]), draw(keys[6], *RANGE), 1.0),
    jnp.where(happens(keys[7]), draw(keys[8], -HUE, HUE), 0.0),
  )
  x = _clip(x * jnp.where(first, 1.0, contrast))
  return jnp.round(x).astype(jnp.uint8)


def _clip(x: jax.Array) -> jax.Array:
  return jnp.clip(x, 0.0, 255.0)


def saturate_and_turn(x: jax.Array, factor: jax.Array, turn: jax.Array) -> jax.Array:
  """Multiplies the HSV saturation by `factor`, up to 1, and shifts the hue by `turn` full turns.

  In HSV, a channel is V - V·S·k, where k depends only on hue and channel (0 for the strongest, 1 for the
  weakest).
  """
  value, least = jnp.max(x, axis=-1, keepdims=True), jnp.min(x, axis=-1, keepdims=True)
  spread = value - least
  safe = jnp.maximum(spread, 1e-6)
  r, g, b = (x[..., i : i + 1] for i in range(3))
  hue = jnp.where(
    r == value, (g - b) / safe, jnp.where(g == value, 2.0 + (b - r) / safe, 4.0 + (r - g) / safe)
  )
  hue = jnp.where(spread > 0, hue / 6.0, 0.0) + turn
  chroma = value * jnp.minimum(spread / jnp.maximum(value, 1e-6) * factor, 1.0)
  position = (jnp.asarray([5.0, 3.0, 1.0])[None, None, None] + 6.0 * hue) % 6.0
  weakness = jnp.clip(jnp.minimum(position, 4.0 - position), 0.0, 1.0)
  return value - chroma * weakness
