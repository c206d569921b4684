"""Attention of one block on the map of its stage. Letters: see `models/windows.py`."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from swin_jax.kernels.window_attention import attention_weights
from swin_jax.models import attention, windows
from swin_jax.models.swin.config import group_size
from swin_jax.models.swin.geometry import regions, stage_geometry
from swin_jax.terminal.errors import BadInput


@dataclasses.dataclass(frozen=True)
class Attention:
  """The attention of one block on one image.

  Attributes:
    weights: float32 [M, K, N, N], the attention of each query (third axis) of a window to each key (last
      axis); sums over keys are 1.
    tokens: int [M, N], the map index, row·W + column, of the token at each position of the windows; -1 is
      padding.
    regions: int [M, N]; a token attends to the tokens of its window with the same label, see
      `geometry.regions`.
    map_size: (H, W) in tokens.
    stride: image pixels per token along each axis.
  """

  weights: np.ndarray
  tokens: np.ndarray
  regions: np.ndarray
  map_size: tuple[int, int]
  stride: int

  def of(self, row: int, column: int) -> np.ndarray:
    """Returns the attention of the token at (row, column): float32 [K, H, W].

    It is zero outside the token's window. The sum over the map is 1 minus the attention to padding, which is
    zero unless `padding` is "attended".
    """
    window, query = self._find(row, column)
    return self._on_map(self.weights[window, :, query], self.tokens[window])

  def reach(self, row: int, column: int) -> np.ndarray:
    """Returns where the token at (row, column) can attend: bool [H, W]."""
    window, query = self._find(row, column)
    return self._on_map(self.regions[window] == self.regions[window, query], self.tokens[window])

  def received(self) -> np.ndarray:
    """Returns the attention each token receives: float32 [K, H, W], the sum over the queries of the image.

    Uniform attention gives 1, or less in windows with attended padding.
    """
    queries = self.tokens >= 0  # the block discards the outputs of padding tokens
    totals = (self.weights * queries[:, None, :, None]).sum(2).transpose(1, 0, 2)
    return self._on_map(totals.reshape(len(totals), -1), self.tokens.reshape(-1))

  def _find(self, row, column):
    if not (0 <= row < self.map_size[0] and 0 <= column < self.map_size[1]):
      raise BadInput(f"no token ({row}, {column}) on a map of {self.map_size[0]} × {self.map_size[1]}")
    return (int(index[0]) for index in np.where(self.tokens == row * self.map_size[1] + column))

  def _on_map(self, values, tokens):
    """Scatters values [..., n] of tokens [n] onto a map [..., H, W].

    Padding is dropped; tokens that are not listed become zero.
    """
    out = np.zeros((*values.shape[:-1], self.map_size[0] * self.map_size[1]), values.dtype)
    out[..., tokens[tokens >= 0]] = values[..., tokens >= 0]
    return out.reshape(*values.shape[:-1], *self.map_size)


def capture(model: nn.Module, params: Any, images: jax.Array, stage: int, block: int | None) -> Attention:
  """Captures the attention of one block on one image.

  Args:
    model, params: a model with a Swin encoder, and its parameters; a masked-image model gets an unmasked
      image.
    images: [1, height, width, bands], normalised.
    stage: of the encoder.
    block: of the stage; None for its last, which has shifted windows if the depth is even and the map is
      larger than a window.

  Raises:
    BadInput: there is no such block.
  """
  config, level = model.encoder.config, model.encoder.levels[stage]
  depth = config.depths[stage]
  if block is not None and not 0 <= block < depth:
    raise BadInput(f"stage {stage} has no block {block}; it has blocks 0 to {depth - 1}")
  block = depth - 1 if block is None else block
  geometry = stage_geometry(config, stage, level.map_size(images.shape[1:3]))
  size, padded, window = geometry.map, geometry.padded, geometry.window
  shift = geometry.shift if block % 2 else (0, 0)
  tokens = np.full(padded, -1)
  tokens[: size[0], : size[1]] = np.arange(size[0] * size[1]).reshape(size)
  tokens = windows.partition(np.roll(tokens, (-shift[0], -shift[1]), (0, 1))[None, :, :, None], window)[
    0, :, :, 0
  ]
  labels = regions(config, geometry, block % 2 == 1)
  labels = np.zeros_like(tokens) if labels is None else labels
  weights = _weights(model, params, images, labels, stage, block, window)
  return Attention(np.asarray(weights)[0], tokens, labels, size, level.stride[0])


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 6))
def _weights(model, params, images, labels, stage, block, window):
  def run(module, images):
    return module.encoder(images)

  config = model.encoder.config
  _, captured = model.apply({"params": params}, images, method=run, mutable=[attention.INTERMEDIATES[0]])
  group = group_size(config.depths[stage], config.extra_norm_every)
  blocks = captured[attention.INTERMEDIATES[0]]["encoder"][f"stage{stage}"]["blocks"]
  leaves = blocks[f"block{block % group}"]["attn"][attention.INTERMEDIATES[1]][0]
  # the scan stacks its iterations on the first axis
  qkv, table, logit_scale = jax.tree.map(lambda leaf: leaf[block // group], leaves)
  bias = table.T[:, windows.relative_index(window)]
  return attention_weights(qkv[..., 0, :], qkv[..., 1, :], bias, logit_scale, labels)
