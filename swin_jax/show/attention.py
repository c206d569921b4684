"""The attention of one block, mapped back onto the image. Letters: see `models/windows.py`."""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from PIL import Image

from swin_jax.drawing import panels as drawing
from swin_jax.kernels.window_attention import attention_weights
from swin_jax.models import attention as layers
from swin_jax.models import windows
from swin_jax.models.swin.config import group_size
from swin_jax.models.swin.geometry import geometry
from swin_jax.saved.pretrained import Model
from swin_jax.show.grad_cam import grad_cam, image_classes
from swin_jax.terminal.errors import BadInput

QUERIES = ((0.5, 0.5), (0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75))


@dataclasses.dataclass(frozen=True)
class Attention:
  """The attention of one block on one image.

  Attributes:
    weights: float32 [M, K, N, N], the attention of each query (third axis) of a window to each key (last
      axis); sums over keys are 1.
    tokens: int [M, N], the map index, row·W + column, of the token at each position of the windows; -1 is
      padding.
    regions: int [M, N]; a token attends to the tokens of its window with the same label, see
      `windows.regions`.
    map_size: (H, W) in tokens.
    stride: image pixels per token along each axis.
  """

  weights: np.ndarray
  tokens: np.ndarray
  regions: np.ndarray
  map_size: tuple[int, int]
  stride: int

  def of(self, row: int, column: int) -> np.ndarray:
    """Returns the attention of the token at (row, column): float32 [K, H, W], sums of 1.

    It is zero outside the token's window.
    """
    window, query = self._find(row, column)
    return self._on_map(self.weights[window, :, query], self.tokens[window])

  def reach(self, row: int, column: int) -> np.ndarray:
    """Returns where the token at (row, column) can attend: bool [H, W]."""
    window, query = self._find(row, column)
    return self._on_map(self.regions[window] == self.regions[window, query], self.tokens[window])

  def received(self) -> np.ndarray:
    """Returns the attention each token receives: float32 [K, H, W], the sum over queries; 1 if uniform."""
    totals = self.weights.sum(2).transpose(1, 0, 2)  # padding attends to padding only
    return self._on_map(totals.reshape(len(totals), -1), self.tokens.reshape(-1))

  def _find(self, row, column):
    if not (0 <= row < self.map_size[0] and 0 <= column < self.map_size[1]):
      raise BadInput(
        f"there is no token ({row}, {column}) on a map of {self.map_size[0]} × {self.map_size[1]}"
      )
    return (int(index[0]) for index in np.where(self.tokens == row * self.map_size[1] + column))

  def _on_map(self, values, tokens):
    """Scatters values [..., n] of tokens [n] onto a map [..., H, W].

    Padding is dropped; tokens that are not listed become zero.
    """
    out = np.zeros((*values.shape[:-1], self.map_size[0] * self.map_size[1]), values.dtype)
    out[..., tokens[tokens >= 0]] = values[..., tokens >= 0]
    return out.reshape(*values.shape[:-1], *self.map_size)


def capture(
  model: Model, params: Any, image: np.ndarray, stage: int | None = None, block: int | None = None
) -> Attention:
  """Captures the attention of one block.

  Args:
    model, params: from `swin_jax.load`; a masked-image model gets an unmasked image.
    image: float32 [height, width, bands], 0..1, as from `images.read`.
    stage: None for the second to last, whose map is finer than the last's.
    block: of the stage; None for its last, which has shifted windows if the depth is even and the map is
      larger than a window.

  Raises:
    BadInput: there is no such stage or block.
  """
  encoder = model.module.encoder
  stage = max(len(encoder.levels) - 2, 0) if stage is None else stage
  model.check_stage(stage)
  depth = encoder.config.depths[stage]
  if block is not None and not 0 <= block < depth:
    raise BadInput(f"there is no block {block} in stage {stage}; it has blocks 0 to {depth - 1}")
  block = depth - 1 if block is None else block
  size, padded, window, shift, _ = geometry(encoder.config, image.shape[:2])[stage]
  shift = shift if block % 2 else (0, 0)
  tokens = np.full(padded, -1)
  tokens[: size[0], : size[1]] = np.arange(size[0] * size[1]).reshape(size)
  tokens = windows.partition(np.roll(tokens, (-shift[0], -shift[1]), (0, 1))[None, :, :, None], window)[
    0, :, :, 0
  ]
  regions = windows.regions(size, padded, window, shift)
  regions = np.zeros_like(tokens) if regions is None else regions
  weights = _weights(model, params, model.normalise(image)[None], regions, stage, block, window)
  return Attention(np.asarray(weights)[0], tokens, regions, size, encoder.levels[stage].stride[0])


@functools.partial(jax.jit, static_argnums=(0, 4, 5, 6))
def _weights(model, params, images, regions, stage, block, window):
  def run(module, images):
    return module.encoder(images)

  encoder = model.module.encoder
  _, captured = model.module.apply({"params": params}, images, method=run, mutable=[layers.SEEN[0]])
  group = group_size(encoder.config.depths[stage], encoder.config.extra_norm_every)
  blocks = captured[layers.SEEN[0]]["encoder"][f"stage{stage}"]["blocks"]
  leaves = blocks[f"block{block % group}"]["attn"][layers.SEEN[1]][0]
  # the scan stacks its iterations on the first axis
  qkv, table, logit_scale = jax.tree.map(lambda leaf: leaf[block // group], leaves)
  bias = table.T[:, windows.relative_index(window)]
  return attention_weights(qkv[..., 0, :], qkv[..., 1, :], bias, logit_scale, regions)


def picture(
  model: Model,
  params: Any,
  image: np.ndarray,
  *,
  stage: int | None = None,
  block: int | None = None,
  head: int | None = None,
  at: Sequence[tuple[float, float]] = QUERIES,
  label: int | None = None,
  cam_stage: int | None = None,
  bands: Sequence[int] = (),
) -> Image.Image:
  """Draws the attention from tokens of one block, the attention each receives, and for a classifier Grad-CAM.

  Args:
    model, params, image, stage, block: as in `capture`.
    head: of the block; None for the mean of all.
    at: (row, column) of pixels whose tokens are the queries: integers are pixels of the image, floats are
      fractions of it.
    label, cam_stage: as in `grad_cam`; Grad-CAM is omitted if the model has no classes and no label is given.
    bands: as in `drawing.to_rgb`.

  Raises:
    BadInput: there is no such stage, block, head, pixel, band or class.
  """
  captured = capture(model, params, image, stage, block)
  heads = captured.weights.shape[1]
  if head is not None and not 0 <= head < heads:
    raise BadInput(f"there is no head {head} in this block; it has heads 0 to {heads - 1}")
  chosen = slice(None) if head is None else slice(head, head + 1)
  original = drawing.to_rgb(image, image, bands)
  zoom = original.shape[0] // image.shape[0]
  side = captured.stride * zoom  # side of a token on a panel
  received = captured.received()[chosen].mean(0)
  # otherwise a few tokens that receive most attention leave the others dark
  received = np.minimum(received, np.percentile(received, 99))
  panels = [
    ("image", original),
    ("attention received", drawing.heat(original, drawing.spread(received, side, original.shape[:2]))),
  ]
  if label is not None or image_classes(model):
    values, stride, label, probability = grad_cam(model, params, image, label, cam_stage)
    values = drawing.spread(values, stride * zoom, original.shape[:2], smooth=True)
    panels.append(
      (f"Grad-CAM: {model.class_name(label)} ({probability:.0%})", drawing.heat(original, values))
    )
  for point in at:
    pixel = _pixel(point, image.shape[:2])
    row, column = (p // captured.stride for p in pixel)
    looks, reach = captured.of(row, column)[chosen].mean(0), captured.reach(row, column)
    box = (row * side, column * side, (row + 1) * side, (column + 1) * side)
    panel = drawing.heat(
      original, *(drawing.spread(values, side, original.shape[:2]) for values in (looks, reach))
    )
    panels.append((f"from row {pixel[0]}, column {pixel[1]}", drawing.frame(panel, box)))
  return drawing.sheet(panels, 4)


def _pixel(point: tuple[float, float], size: tuple[int, int]) -> tuple[int, int]:
  pixel = tuple(
    p if isinstance(p, int) else min(int(p * side), side - 1) for p, side in zip(point, size, strict=True)
  )
  if any(p < 0 or p >= side for p, side in zip(pixel, size, strict=True)) or any(
    isinstance(p, float) and p > 1 for p in point
  ):
    raise BadInput(
      f"{point[0]},{point[1]} is not in the image of {size[0]} × {size[1]} px; 0.5,0.5 would be its middle"
    )
  return pixel
