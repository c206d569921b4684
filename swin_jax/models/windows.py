"""Geometry of shifted windows: pure functions without parameters; traced code only rearranges arrays.

Maps have any number of axes; a size is a tuple with one entry per axis. Images have two, (height, width);
clips have three, (time, height, width).

One legend for the whole package: B images · map axes (T) H W in tokens · C channels · M windows of an image ·
  N tokens of a window · K heads · D = C / K · L blocks of a stage
"""

from collections.abc import Sequence
import math

import jax.numpy as jnp
import numpy as np

from swin_jax.terminal.errors import BadInput

Size = tuple[int, ...]


def window_and_shift(
  map_size: Size, window_size: Size, shifted: bool, *, clamp: bool = True, axes: str = "each"
) -> tuple[Size, Size]:
  """Returns the window that a map actually uses and its shift, in tokens.

  The shift is half the *configured* window. Programs treat a map that is no larger than its window (the equal
  case included) in three ways, which agree on square maps and windows that are clamped:

  * `axes` = "each": along such an axis, the map is one window and is not shifted; the other axes keep window
    and shift. So do the official video code and timm, and our own models, because maps and windows of any
    proportions then work.
  * `axes` = "all": if one axis is such, the window is a square of the map's shortest side and no axis is
    shifted. So do the official image code (V1, V2 and SimMIM), transformers' V1 and OpenMMLab's classifiers.
  * without `clamp`: a window keeps its size on any map and is always shifted, as in the official code of
    dense models.
  """
  if not clamp:
    return tuple(window_size), tuple(w // 2 if shifted else 0 for w in window_size)
  if axes == "all" and any(m <= w for w, m in zip(window_size, map_size, strict=True)):
    return tuple(min(w, *map_size) for w in window_size), (0,) * len(window_size)
  window = tuple(min(w, m) for w, m in zip(window_size, map_size, strict=True))
  shift = tuple(w // 2 if shifted and m > w else 0 for w, m in zip(window_size, map_size, strict=True))
  return window, shift


def chunk_counts(chunks: int, windows: int, heads: int) -> tuple[int, int]:
  """Returns the number of parts of an image's windows and of its heads: windows are split first, then heads.

  Args:
    chunks: total number of parts, which are computed one after the other.
    windows: windows of an image.
    heads: heads that a device holds.

  Raises:
    BadInput: `chunks` divides neither the windows nor, window by window, the heads.
  """
  if chunks > 0 and windows % chunks == 0:
    return chunks, 1
  if chunks > 0 and chunks % windows == 0 and heads % (chunks // windows) == 0:
    return windows, chunks // windows
  raise BadInput(
    f"attention in {chunks} chunks: they divide neither the {windows} windows of an image nor, window by"
    f" window, its {heads} heads"
  )


def pair(size: int | Sequence[int]) -> Size:
  """Returns a size as (height, width), given that pair or one number for both."""
  return sides(size, 2)


def sides(size: int | Sequence[int], axes: int) -> Size:
  """Returns a size with one entry per axis, given these entries or one number for all axes."""
  return (size,) * axes if isinstance(size, int) else tuple(size)


def padded_size(map_size: Size, multiple: Size) -> Size:
  """Returns the smallest multiple of `multiple` that is not smaller than `map_size`, per axis."""
  return tuple(-(-m // k) * k for m, k in zip(map_size, multiple, strict=True))


def pad(x, size: Size):
  """Pads [B, *map, C] with zeros at the far ends to [B, *size, C]; an array of that size stays as it is."""
  extra = [(0, padded - side) for padded, side in zip(size, x.shape[1:-1], strict=True)]
  return jnp.pad(x, ((0, 0), *extra, (0, 0))) if any(e != (0, 0) for e in extra) else x


def cells(x, cell: Size):
  """Splits a map into cells: [B, *map, C] → [B, *map / cell, *cell, C]; `cell` must divide the map."""
  rank = len(cell)
  split = [n for side, k in zip(x.shape[1:-1], cell, strict=True) for n in (side // k, k)]
  x = x.reshape(x.shape[0], *split, x.shape[-1])
  return x.transpose(0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1)


def partition(x, window: Size):
  """Splits a map into windows: [B, *map, C] → [B, M, N, C].

  Windows, and the tokens of a window, are in row-major order. The window must divide the map.
  """
  return cells(x, window).reshape(x.shape[0], -1, math.prod(window), x.shape[-1])


def merge(x, window: Size, map_size: Size):
  """Joins windows into a map: [B, M, N, C] → [B, *map, C]; the inverse of `partition`."""
  rank = len(window)
  x = x.reshape(x.shape[0], *(m // w for m, w in zip(map_size, window, strict=True)), *window, x.shape[-1])
  order = [axis for i in range(1, rank + 1) for axis in (i, i + rank)]
  return x.transpose(0, *order, 2 * rank + 1).reshape(x.shape[0], *map_size, x.shape[-1])


def regions(map_size: Size, padded: Size, window: Size, shift: Size) -> np.ndarray | None:
  """Returns a label per token; tokens of a window attend to each other if their labels are equal. The map
  is padded, then rolled by -shift.

  After the roll, a window at the border holds tokens from opposite edges of the image, which get different
  labels. Padding gets the label -1.

  Returns:
    int32 [M, N], or None if every window is a single region (no shift and no padding).
  """
  if not any(shift) and padded == map_size:
    return None
  label, real = np.zeros(padded, np.int32), np.ones(padded, bool)
  positions = np.meshgrid(*map(np.arange, padded), indexing="ij", sparse=True)
  for position, m, p, w, s in zip(positions, map_size, padded, window, shift, strict=True):
    part = (position >= p - w).astype(np.int32) + (position >= p - s) if s else 0
    label = 3 * label + part
    real &= (position + s) % p < m
  label = np.where(real, label, -1).astype(np.int32)
  return partition(label[None, ..., None], window)[0, :, :, 0]


def relative_offsets(window: Size) -> np.ndarray:
  """Returns every offset from one token of a window to another: int32 [∏(2·side-1), axes], row-major."""
  offsets = np.meshgrid(*(np.arange(1 - side, side) for side in window), indexing="ij")
  return np.stack(offsets, -1).reshape(-1, len(window)).astype(np.int32)


def relative_index(window: Size, table_window: Size | None = None, rows: str = "offsets") -> np.ndarray:
  """Returns the row of `relative_offsets(table_window)` for (query, key); the offset is query minus key.

  Args:
    window: the window that is used.
    table_window: the window that the table covers, not smaller along any axis; None for `window`.
    rows: "offsets" for the true offsets; "first" for the offsets between the first N tokens of the table's
      window, which the official video models use when a window was shrunk to its map.

  Returns:
    int32 [N, N].
  """
  table_window = table_window or window
  tokens = np.unravel_index(np.arange(math.prod(window)), table_window if rows == "first" else window)
  index = 0
  for side, position in zip(table_window, tokens, strict=True):
    index = index * (2 * side - 1) + position[:, None] - position[None, :] + side - 1
  return index.astype(np.int32)


def log_spaced_offsets(window: Size, trained_window: Size) -> np.ndarray:
  """Returns `relative_offsets` in the log-spaced coordinates that the bias MLP reads (Swin V2, section 3.3):
  float32 [∏(2·side-1), axes].

  The official code measures an offset in units of the trained window, stretches it to ±8 and computes
  sign(x)·log2(1+|x|)/log2(8); the paper's formula has neither the 8 nor the log2. Weights are compatible only
  with the code. The only offset in a window of one token is zero; we use 1 as its unit, where the official
  code divides 0 by 0. Each step is rounded as in the official code, so that the tables agree bit for bit.
  """
  unit = np.maximum(np.asarray(trained_window, np.float32) - 1, 1)
  x = relative_offsets(window).astype(np.float32) / unit * np.float32(8)
  # numpy's log2 of float32 is not exact
  log2 = np.log2((np.abs(x) + np.float32(1)).astype(np.float64)).astype(np.float32)
  return np.sign(x) * log2 / np.float32(3)
