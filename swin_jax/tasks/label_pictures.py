"""What pixels are, and what they are taken for, laid over their image."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from swin_jax import legend
from swin_jax.data import mixing
from swin_jax.data import pixels as seen
from swin_jax.data.labels import NONE


def as_rgb(images: jax.Array, mean: Sequence[float], std: Sequence[float], bands: Sequence[int] = ()) -> jax.Array:
  """Pixels of a batch to draw on, float32 [B, height, width, 3] of 0..1; see `pixels.visible`.

  Args:
    images: uint8 or float32 [B, height, width, bands], as a batch holds them.
    mean, std: of the images, per band.
    bands: see `pixels.shown`.
  """
  pixels = seen.shown(seen.visible(mixing.normalise(images, mean, std), seen.valid(images), mean, std), bands)
  return pixels if pixels.shape[-1] == 3 else jnp.repeat(pixels, 3, axis=-1)


def label_views(pixels: jax.Array, predicted: jax.Array, truth: jax.Array, num_classes: int) -> jax.Array:
  """Image, truth, prediction and errors, to look at side by side.

  Truth and prediction are laid over the image; where there is no truth the image stays as it is. Errors are white over a dark image.

  Args:
    pixels: float32 [B, height, width, 3] of 0..1.
    predicted, truth: int [B, height, width]; NONE in the truth is no class.
    num_classes: as many colours as there are.

  Returns:
    uint8 [B, 4, height, width, 3].
  """
  colours = jnp.asarray(legend.palette(num_classes), jnp.float32) / 255.0

  def overlay(classes, there):
    return jnp.where(there[..., None], 0.4 * pixels + 0.6 * colours[jnp.clip(classes, 0, num_classes - 1)], pixels)

  known = truth != NONE
  wrong = (known & (predicted != truth))[..., None]
  views = [pixels, overlay(truth, known), overlay(predicted, jnp.ones_like(known)), jnp.where(wrong, 1.0, 0.4 * pixels)]
  return jnp.round(jnp.clip(jnp.stack(views, axis=1), 0.0, 1.0) * 255.0).astype(jnp.uint8)
