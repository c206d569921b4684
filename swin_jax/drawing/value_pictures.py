"""The number of each pixel, and what it is taken for, as colours; `legend.with_scales` says what they
mean.
"""

import jax
import jax.numpy as jnp

from swin_jax.drawing import legend


def value_views(pixels: jax.Array, predicted: jax.Array, truth: jax.Array) -> jax.Array:
  """Image, truth, prediction and errors, to look at side by side.

  Where there is no number the image shows, darkened.

  Args:
    pixels: float32 [B, height, width, 3] of 0..1.
    predicted, truth: float32 [B, height, width], in deviations around the mean; NaN where there is none.

  Returns:
    uint8 [B, 4, height, width, 3].
  """
  known = ~jnp.isnan(truth)

  def coloured(values, reach, colours, there):
    colours = jnp.asarray(colours, jnp.float32) / 255.0
    place = (values / reach + 1.0) / 2.0 * (len(colours) - 1)  # what lies beyond takes the colour of the end
    shown = jnp.stack([jnp.interp(place, jnp.arange(len(colours)), colours[:, i]) for i in range(3)], axis=-1)
    return jnp.where(there[..., None], shown, 0.4 * pixels)

  views = [
    pixels,
    coloured(jnp.where(known, truth, 0.0), legend.VALUE_REACH, legend.HEAT, known),
    coloured(jnp.nan_to_num(predicted), legend.VALUE_REACH, legend.HEAT, ~jnp.isnan(predicted)),
    coloured(jnp.where(known, predicted - truth, 0.0), legend.ERROR_REACH, legend.TOO_LOW_TOO_HIGH, known),
  ]
  return jnp.round(jnp.clip(jnp.stack(views, axis=1), 0.0, 1.0) * 255.0).astype(jnp.uint8)
