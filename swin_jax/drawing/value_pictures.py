"""Pictures of true and predicted values as colours; `legend.with_scales` adds their scales."""

import jax
import jax.numpy as jnp

from swin_jax.drawing import legend
from swin_jax.drawing.pixels import compared


def value_panels(
  pixels: jax.Array, predicted: jax.Array, truth: jax.Array, inside: jax.Array | None = None
) -> jax.Array:
  """Returns image, truth, prediction and errors as panels, to be shown side by side.

  Pixels without a value show the darkened image.

  Args:
    pixels: float32 [B, height, width, 3] in 0..1.
    predicted, truth: float32 [B, height, width], in standard deviations from the mean; NaN where there is no
      value.
    inside: see `pixels.compared`.

  Returns:
    uint8 [B, 4, height, width, 3].
  """
  known = ~jnp.isnan(truth)

  def coloured(values, reach, colours, valid):
    colours = jnp.asarray(colours, jnp.float32) / 255.0
    place = (values / reach + 1.0) / 2.0 * (len(colours) - 1)  # values beyond take the colour of the end
    shown = jnp.stack([jnp.interp(place, jnp.arange(len(colours)), colours[:, i]) for i in range(3)], axis=-1)
    return jnp.where(valid[..., None], shown, 0.4 * pixels)

  panels = [
    pixels,
    coloured(jnp.where(known, truth, 0.0), legend.VALUE_REACH, legend.HEAT, known),
    coloured(jnp.nan_to_num(predicted), legend.VALUE_REACH, legend.HEAT, ~jnp.isnan(predicted)),
    coloured(jnp.where(known, predicted - truth, 0.0), legend.ERROR_REACH, legend.TOO_LOW_TOO_HIGH, known),
  ]
  return compared(panels, inside)
