"""The interface of a backbone to heads, tasks, optimizer and planner. Letters: see `windows.py`."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

Losses = dict[str, jax.Array]  # name → scalar that training adds to its loss, for example a load-balance loss


class Level(NamedTuple):
  """The shape of one stage's output map.

  Attributes:
    stride: pixels per token, one entry per axis of the map.
    channels: channels of a token.
  """

  stride: tuple[int, ...]
  channels: int

  def map_size(self, size: Sequence[int]) -> tuple[int, ...]:
    """Returns the size of the map in tokens for images of `size` pixels, rounded up."""
    return tuple(-(-side // stride) for side, stride in zip(size, self.stride, strict=True))


class Features(NamedTuple):
  """The output of a backbone.

  Attributes:
    last: [B, *map, C], the normed output of the last stage.
    levels: [B, *map, C] for every stage, its output before any norm.
    losses: losses of its blocks.
  """

  last: jax.Array
  levels: tuple[jax.Array, ...]
  losses: Losses


class Backbone(Protocol):
  """The trunk of a model: a linen module from images to `Features`.

  Attributes:
    levels: one level per stage, the finest first. A mask has the resolution of the first.
    dtype: dtype of its matrix products and of its features.
    num_layers: layer number of everything after the last block: the last norm and the heads.
  """

  levels: tuple[Level, ...]
  dtype: Any
  num_layers: int

  def __call__(
    self,
    images: jax.Array,
    *,
    mask: jax.Array | None = None,
    mask_token: jax.Array | None = None,
    train: bool = False,
  ) -> Features:
    """Runs the backbone.

    Args:
      images: [B, *size, bands], normalised, of any size.
      mask: bool [B, *map] of the first level; true where `mask_token` replaces a token.
      mask_token: [channels of the first level].
      train: whether residual branches are dropped; this needs the rng "dropout".
    """

  def flops(self, size: Sequence[int], bands: int) -> int:
    """Returns the number of floating-point operations of one image's forward pass, two per multiply-add."""

  def layer_of(self, path: str) -> int | np.ndarray:
    """Returns the number of the layer that a parameter belongs to, for layer-wise learning rates.

    Args:
      path: path of the parameter inside the backbone, with slashes.

    Returns:
      A number from 0 for the patch embedding to `num_layers`; int [groups] for a leaf that stacks several
      layers.
    """
