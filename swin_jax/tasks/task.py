"""What the training loop asks of a task."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from swin_jax.models.backbone import Losses

# Metric name → (sum, count), added up over batches and hosts, divided once; [classes] each where every class
# has its own.
Sums = dict[str, tuple[jax.Array, jax.Array]]


class Task(NamedTuple):
  """A model with its objective, settings bound. Batches are dicts of device arrays as `data.pipeline` makes
  them.

  Attributes:
    model: the linen module; `model.encoder` is the backbone.
    init: (rng, batch) → boxed parameters.
    loss: (params, batch, rng) → scalar mean loss of a training batch, `Sums` to log, and the losses of the
      backbone, see `backbone.Features`, which the step adds.
    eval_sums: (params, batch) → `Sums` over the examples of an evaluation batch, by their "weight".
    pictures: (params, batch, bands) → uint8 [B, views, height, width, 1 or 3] to look at, or None where there
      is nothing to see. The bands are one, or three as red, green, blue; () for the first three, or the first
      where there are fewer.
    best: the evaluation metric that ranks checkpoints, and whether more is better.
    flops: (image_size, bands) → of one image's forward pass.
    pictures_show: what is to be seen in them, which names their files.
    legend: (picture, class names) → the picture with what its colours mean under it, where they mean
      anything.
  """

  model: Any
  init: Callable[[jax.Array, dict], Any]
  loss: Callable[[Any, dict, jax.Array], tuple[jax.Array, Sums, Losses]]
  eval_sums: Callable[[Any, dict], Sums]
  pictures: Callable[[Any, dict, tuple[int, ...]], jax.Array] | None
  best: tuple[str, bool]
  flops: Callable[[tuple[int, int], int], int]
  pictures_show: str = ""
  legend: Callable[[np.ndarray, Sequence[str]], np.ndarray] = lambda picture, class_names: picture
