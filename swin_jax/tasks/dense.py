"""Answers for every pixel: of whole images or by a window that slides over them, at several scales, mirrored too; and how they look."""

from collections.abc import Callable, Sequence
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.data import mixing
from swin_jax.data.labels import NONE
from swin_jax.models.upernet import resize
from swin_jax.models.windows import pair
from swin_jax.show import drawing

Forward = Callable[[jax.Array], jax.Array]  # images [B, height, width, bands] → scores [B, ⌈height / s⌉, ⌈width / s⌉, classes]


class Views(NamedTuple):
  """How an image is looked at in evaluation.

  Attributes:
    window: (height, width) in pixels that the model sees at once, sliding by two thirds of it; () for the whole image.
    scales: of the image; the answers are averaged.
    mirrored: whether each is also seen mirrored.
  """

  window: tuple[int, int] = ()
  scales: Sequence[float] = (1.0,)
  mirrored: bool = False


def predict(forward: Forward, images: jax.Array, views: Views) -> jax.Array:
  """Probabilities of the classes, averaged over the views.

  Args:
    forward: logits of images.
    images: [B, height, width, bands], normalised.
    views: see `Views`.

  Returns:
    float32 [B, height, width, classes].
  """
  size = images.shape[1:3]
  look = functools.partial(slide, forward, window=views.window) if views.window else functools.partial(whole, forward)
  total, count = 0.0, 0
  for scale in views.scales:
    scaled = images if scale == 1 else resize(images, tuple(max(1, round(side * scale)) for side in size))
    for mirror in (False, True) if views.mirrored else (False,):
      logits = look(scaled[:, :, ::-1] if mirror else scaled)
      logits = logits[:, :, ::-1] if mirror else logits
      total += jax.nn.softmax(resize(logits, size), axis=-1)
      count += 1
  return total / count


def whole(forward: Forward, images: jax.Array) -> jax.Array:
  """Scores [B, height, width, classes] of images seen at once."""
  return resize(forward(images), images.shape[1:3])


def slide(forward: Forward, images: jax.Array, *, window: tuple[int, int]) -> jax.Array:
  """Scores [B, height, width, classes] by a window; where several of its places overlap, their mean.

  It moves by two thirds of its size (rounded down), and its last place ends where the image does. One that is larger than the image is
  cut down to it.

  Args:
    forward: see `Forward`.
    images: [B, height, width, bands].
    window: (height, width) in pixels.
  """
  size = images.shape[1:3]
  window = tuple(min(side, most) for side, most in zip(pair(window), size))
  starts = [_starts(*each) for each in zip(size, window)]
  corners = jnp.asarray([(top, left) for top in starts[0] for left in starts[1]])
  if len(corners) == 1:
    return whole(forward, images)
  classes = jax.eval_shape(forward, images[:, : window[0], : window[1]]).shape[-1]

  def add(total, corner):
    cut = jax.lax.dynamic_slice(images, (0, *corner, 0), (len(images), *window, images.shape[-1]))
    scores = whole(forward, cut).astype(jnp.float32)
    before = jax.lax.dynamic_slice(total, (0, *corner, 0), scores.shape)
    return jax.lax.dynamic_update_slice(total, before + scores, (0, *corner, 0)), None

  total, _ = jax.lax.scan(add, jnp.zeros((len(images), *size, classes), jnp.float32), corners)
  times = [sum((np.arange(side) >= start) & (np.arange(side) < start + part) for start in each)
           for side, part, each in zip(size, window, starts)]  # fmt: skip
  return total / jnp.asarray(np.outer(*times), jnp.float32)[None, :, :, None]


def _starts(size: int, window: int) -> list[int]:
  step = max(1, window * 2 // 3)
  return [min(i * step, size - window) for i in range(-(-max(size - window, 0) // step) + 1)]


def as_rgb(images: jax.Array, mean: Sequence[float], std: Sequence[float], bands: Sequence[int] = ()) -> jax.Array:
  """Pixels of a batch to draw on, float32 [B, height, width, 3] of 0..1.

  Of numbers of any range: two deviations around the mean, and black where there is no data.

  Args:
    images: uint8 or float32 [B, height, width, bands], as a batch holds them.
    mean, std: of the images, per band.
    bands: see `mixing.shown`.
  """
  if (valid := mixing.valid(images)) is None:
    pixels = images.astype(jnp.float32) / 255.0
  else:
    pixels = jnp.where(valid, jnp.clip(mixing.normalise(images, mean, std) / 4.0 + 0.5, 0.0, 1.0), 0.0)
  pixels = mixing.shown(pixels, bands)
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
  colours = jnp.asarray(drawing.palette(num_classes), jnp.float32) / 255.0

  def overlay(classes, there):
    return jnp.where(there[..., None], 0.4 * pixels + 0.6 * colours[jnp.clip(classes, 0, num_classes - 1)], pixels)

  known = truth != NONE
  wrong = (known & (predicted != truth))[..., None]
  views = [pixels, overlay(truth, known), overlay(predicted, jnp.ones_like(known)), jnp.where(wrong, 1.0, 0.4 * pixels)]
  return jnp.round(jnp.clip(jnp.stack(views, axis=1), 0.0, 1.0) * 255.0).astype(jnp.uint8)
