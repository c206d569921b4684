"""What pixels are, and what they are taken for, laid over their image."""

import jax
import jax.numpy as jnp

from swin_jax.data.read.labels import NONE
from swin_jax.drawing import legend


def label_views(pixels: jax.Array, predicted: jax.Array, truth: jax.Array, num_classes: int) -> jax.Array:
  """Image, truth, prediction and errors, to look at side by side.

  Truth and prediction are laid over the image; where there is none the image stays as it is. Errors are white
  over a dark image.

  Args:
    pixels: float32 [B, height, width, 3] of 0..1.
    predicted, truth: int [B, height, width]; NONE is no class.
    num_classes: as many colours as there are.

  Returns:
    uint8 [B, 4, height, width, 3].
  """
  colours = jnp.asarray(legend.palette(num_classes), jnp.float32) / 255.0

  def overlay(classes, there):
    return jnp.where(
      there[..., None], 0.4 * pixels + 0.6 * colours[jnp.clip(classes, 0, num_classes - 1)], pixels
    )

  known = truth != NONE
  wrong = (known & (predicted != truth))[..., None]
  views = [
    pixels,
    overlay(truth, known),
    overlay(predicted, predicted != NONE),
    jnp.where(wrong, 1.0, 0.4 * pixels),
  ]
  return jnp.round(jnp.clip(jnp.stack(views, axis=1), 0.0, 1.0) * 255.0).astype(jnp.uint8)
