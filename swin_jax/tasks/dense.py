"""Dense inference: whole images or a sliding window, with multi-scale and flip test-time augmentation."""

from collections.abc import Callable, Sequence
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.models.upernet import resize
from swin_jax.models.windows import pair

# images [B, height, width, bands] → scores [B, ⌈height / s⌉, ⌈width / s⌉, classes]
Forward = Callable[[jax.Array], jax.Array]


class TestTimeViews(NamedTuple):
  """Views of an image whose predictions are averaged in evaluation.

  Attributes:
    window: (height, width) in pixels of a sliding window with a stride of two thirds of its size; () for the
      whole image at once.
    scales: factors by which the image is resized; the predictions are averaged over them.
    mirrored: whether to add the left-right flip of the image at each scale.
  """

  window: tuple[int, int] = ()
  scales: Sequence[float] = (1.0,)
  mirrored: bool = False


def predict(
  forward: Forward,
  images: jax.Array,
  views: TestTimeViews,
  answer: Callable[[jax.Array], jax.Array] = jax.nn.softmax,
) -> jax.Array:
  """Returns the predictions averaged over the views.

  Args:
    forward: maps images to scores.
    images: [B, height, width, bands], normalised.
    views: see `TestTimeViews`.
    answer: maps the scores of one view to the predictions to average; by default class logits to
      probabilities.

  Returns:
    float32 [B, height, width, classes].
  """
  size = images.shape[1:3]
  look = (
    functools.partial(slide, forward, window=views.window)
    if views.window
    else functools.partial(whole, forward)
  )
  total, count = 0.0, 0
  for scale in views.scales:
    scaled = images if scale == 1 else resize(images, tuple(max(1, round(side * scale)) for side in size))
    for mirror in (False, True) if views.mirrored else (False,):
      logits = look(scaled[:, :, ::-1] if mirror else scaled)
      logits = logits[:, :, ::-1] if mirror else logits
      total += answer(resize(logits, size))
      count += 1
  return total / count


def whole(forward: Forward, images: jax.Array) -> jax.Array:
  """Returns the scores [B, height, width, classes] of whole images."""
  return resize(forward(images), images.shape[1:3])


def slide(forward: Forward, images: jax.Array, *, window: tuple[int, int]) -> jax.Array:
  """Returns the scores [B, height, width, classes] from a sliding window, averaged where windows overlap.

  The stride is two thirds of the window (rounded down), and the last window ends at the border of the image.
  A window larger than the image is clipped to its size.

  Args:
    forward: see `Forward`.
    images: [B, height, width, bands].
    window: (height, width) in pixels.
  """
  size = images.shape[1:3]
  window = tuple(min(side, most) for side, most in zip(pair(window), size, strict=True))
  places = corners(size, window)
  if len(places) == 1:
    return whole(forward, images)
  classes = jax.eval_shape(forward, images[:, : window[0], : window[1]]).shape[-1]

  def add(total, corner):
    cut = jax.lax.dynamic_slice(images, (0, *corner, 0), (len(images), *window, images.shape[-1]))
    scores = whole(forward, cut).astype(jnp.float32)
    before = jax.lax.dynamic_slice(total, (0, *corner, 0), scores.shape)
    return jax.lax.dynamic_update_slice(total, before + scores, (0, *corner, 0)), None

  total, _ = jax.lax.scan(add, jnp.zeros((len(images), *size, classes), jnp.float32), jnp.asarray(places))
  times = np.zeros(size, np.float32)
  for top, left in places:
    times[top : top + window[0], left : left + window[1]] += 1
  return total / times[None, :, :, None]


def corners(size: tuple[int, int], window: tuple[int, int]) -> list[tuple[int, int]]:
  """Returns the (top, left) corner of every position of a sliding window; see `slide`.

  Args:
    size: (height, width) of the image in pixels, at least those of the window.
    window: (height, width) of the window in pixels.
  """
  rows, columns = (starts(*each) for each in zip(size, window, strict=True))
  return [(top, left) for top in rows for left in columns]


def starts(size: int, window: int) -> list[int]:
  """Returns the first pixel of every position of a sliding window along one axis; see `slide`."""
  step = max(1, window * 2 // 3)
  return [min(i * step, size - window) for i in range(-(-max(size - window, 0) // step) + 1)]
