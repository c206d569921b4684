"""Pictures of true and predicted classes, overlaid on their image."""

import jax
import jax.numpy as jnp

from swin_jax.data.read.labels import NONE
from swin_jax.drawing import legend
from swin_jax.drawing.pixels import compared


def label_panels(
  pixels: jax.Array,
  predicted: jax.Array,
  truth: jax.Array,
  num_classes: int,
  inside: jax.Array | None = None,
) -> jax.Array:
  """Returns image, truth, prediction and errors as panels, to be shown side by side.

  Truth and prediction are overlaid on the image; pixels without a class show the image alone. Errors have the
  colour `legend.ERROR` on a dark image in grey.

  Args:
    pixels: float32 [B, height, width, 3] in 0..1.
    predicted, truth: int [B, height, width] classes; NONE where there is none.
    num_classes: number of colours.
    inside: see `pixels.compared`.

  Returns:
    uint8 [B, 4, height, width, 3].
  """
  colours = jnp.asarray(legend.palette(num_classes), jnp.float32) / 255.0

  def overlay(classes, valid):
    return jnp.where(
      valid[..., None], 0.4 * pixels + 0.6 * colours[jnp.clip(classes, 0, num_classes - 1)], pixels
    )

  known = truth != NONE
  grey = jnp.mean(pixels, axis=-1, keepdims=True)
  wrong = (known & (predicted != truth))[..., None]
  panels = [
    pixels,
    overlay(truth, known),
    overlay(predicted, predicted != NONE),
    jnp.where(wrong, jnp.asarray(legend.ERROR, jnp.float32) / 255.0, 0.4 * grey),
  ]
  return compared(panels, inside)
