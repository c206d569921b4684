"""Geometry of shifted windows: pure functions, no parameters, nothing traced but reshapes.

One legend for the whole package: B images · H W feature map in tokens · C channels · M windows of an image ·
  h w one window in tokens · N = h·w tokens of a window K heads · D = C / K · L blocks of a stage
"""

import jax.numpy as jnp
import numpy as np

from swin_jax.terminal.errors import BadInput


def window_and_shift(
  map_size: tuple[int, int], window_size: tuple[int, int], shifted: bool
) -> tuple[tuple[int, int], tuple[int, int]]:
  """Returns the window a map really uses and how far it is shifted, each (height, width) in tokens.

  A map that is not larger than the window along an axis is one window there and is not shifted (the equal
  case too). The shift is half the *configured* window. Swin V2 official code, block construction; the rule is
  applied to each axis by itself, so that non-square maps and windows work.
  """
  window = tuple(min(w, m) for w, m in zip(window_size, map_size, strict=True))
  shift = tuple(w // 2 if shifted and m > w else 0 for w, m in zip(window_size, map_size, strict=True))
  return window, shift


def chunk_counts(chunks: int, windows: int, heads: int) -> tuple[int, int]:
  """Into how many parts of its windows and of its heads the attention of an image falls: windows first, then
  heads.

  Args:
    chunks: parts that are computed one after the other.
    windows: of an image.
    heads: that a device holds.

  Raises:
    BadInput: neither divides; the message names the numbers.
  """
  if chunks > 0 and windows % chunks == 0:
    return chunks, 1
  if chunks > 0 and chunks % windows == 0 and heads % (chunks // windows) == 0:
    return windows, chunks // windows
  raise BadInput(
    f"attention in {chunks} chunks: they divide neither the {windows} windows of an image nor, window by"
    f" window, its {heads} heads"
  )


def pair(size) -> tuple[int, int]:
  """A size as (height, width), from that or from one number for both."""
  return (size, size) if isinstance(size, int) else tuple(size)


def map_sizes(image_size: tuple[int, int], patch_size: int, stages: int) -> list[tuple[int, int]]:
  """(H, W) of every stage's feature map in tokens; what does not divide is rounded up."""
  return [tuple(-(-side // (patch_size * 2**i)) for side in image_size) for i in range(stages)]


def padded_size(map_size: tuple[int, int], multiple: tuple[int, int]) -> tuple[int, int]:
  """The smallest multiple of `multiple` that holds `map_size`, per axis."""
  return tuple(-(-m // k) * k for m, k in zip(map_size, multiple, strict=True))


def pad(x, size: tuple[int, int]):
  """Pads [B, H, W, C] with zeros at the bottom and the right to [B, *size, C]; an array of that size already
  comes back as it is.
  """
  extra = (size[0] - x.shape[1], size[1] - x.shape[2])
  if extra == (0, 0):
    return x
  return jnp.pad(x, ((0, 0), (0, extra[0]), (0, extra[1]), (0, 0)))


def partition(x, window: tuple[int, int]):
  """[B, H, W, C] → [B, M, N, C]: windows in row-major order, tokens of a window in row-major order. H and W
  divide by the window.
  """
  b, height, width, c = x.shape
  h, w = window
  x = x.reshape(b, height // h, h, width // w, w, c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, -1, h * w, c)


def merge(x, window: tuple[int, int], map_size: tuple[int, int]):
  """[B, M, N, C] → [B, H, W, C], the inverse of `partition`."""
  b, _, _, c = x.shape
  h, w = window
  height, width = map_size
  x = x.reshape(b, height // h, width // w, h, w, c)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(b, height, width, c)


def regions(
  map_size: tuple[int, int], padded: tuple[int, int], window: tuple[int, int], shift: tuple[int, int]
) -> np.ndarray | None:
  """Which tokens of a window belong together after the map was padded and rolled by -shift.

  After the roll, a window at the border holds tokens from opposite edges of the image; they get different
  labels. Padding gets the label -1.

  Returns:
    int32 [M, N], or None if every window is one region (no shift, no padding).
  """
  if shift == (0, 0) and padded == map_size:
    return None
  labels, real = [], []
  for axis in range(2):
    position = np.arange(padded[axis])
    if shift[axis]:
      label = (position >= padded[axis] - window[axis]).astype(np.int32) + (
        position >= padded[axis] - shift[axis]
      )
    else:
      label = np.zeros(padded[axis], np.int32)
    labels.append(label)
    real.append((position + shift[axis]) % padded[axis] < map_size[axis])
  label = 3 * labels[0][:, None] + labels[1][None, :]
  label = np.where(real[0][:, None] & real[1][None, :], label, -1).astype(np.int32)
  return partition(label[None, :, :, None], window)[0, :, :, 0]


def relative_offsets(window: tuple[int, int]) -> np.ndarray:
  """Every offset (rows, columns) from one token of a window to another: int32 [(2h-1)·(2w-1), 2],
  row-major.
  """
  h, w = window
  rows, columns = np.meshgrid(np.arange(1 - h, h), np.arange(1 - w, w), indexing="ij")
  return np.stack([rows, columns], -1).reshape(-1, 2).astype(np.int32)


def relative_index(window: tuple[int, int]) -> np.ndarray:
  """Row of `relative_offsets` for (query, key): int32 [N, N]; the offset is query minus key."""
  h, w = window
  rows, columns = (axis.reshape(-1) for axis in np.meshgrid(np.arange(h), np.arange(w), indexing="ij"))
  d_rows = rows[:, None] - rows[None, :] + h - 1
  d_columns = columns[:, None] - columns[None, :] + w - 1
  return (d_rows * (2 * w - 1) + d_columns).astype(np.int32)


def log_spaced_offsets(window: tuple[int, int], trained_window: tuple[int, int]) -> np.ndarray:
  """`relative_offsets` in the log-spaced coordinates that the bias MLP reads (Swin V2, section 3.3): float32
  [(2h-1)·(2w-1), 2].

  The official code measures an offset in units of the trained window, stretches it to ±8 and takes
  sign(x)·log2(1+|x|)/log2(8); the paper's formula has neither the 8 nor the log2. Weights are only compatible
  with the code. A window of one token has no offset but zero: its unit is 1, where the official code divides
  0 by 0. Rounded at each step as there, so that the table is the same bit for bit.
  """
  unit = np.maximum(np.asarray(trained_window, np.float32) - 1, 1)
  x = relative_offsets(window).astype(np.float32) / unit * np.float32(8)
  # numpy's of float32 is not exact
  log2 = np.log2((np.abs(x) + np.float32(1)).astype(np.float64)).astype(np.float32)
  return np.sign(x) * log2 / np.float32(3)
