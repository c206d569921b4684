"""Interpolation of V1's bias tables to another window, by one of the two official rules."""

from collections.abc import Callable
from typing import Any

import numpy as np

from swin_jax.terminal.errors import BadInput


def adapt_array(
  path: str, shape: tuple[int, ...], other: tuple[int, ...], rules: Any
) -> tuple[str, Callable[[np.ndarray], np.ndarray]] | None:
  """Returns how to adapt tables [groups, offsets, K] to another window; see `BackboneKind.adapt_array`."""
  del shape
  if not path.endswith("bias_table"):
    return None
  resize = {"geometric": resize_bias_table, "bicubic": resize_bias_table_bicubic}[rules.bias_tables]
  return rules.bias_tables, lambda tables: np.stack([resize(table, other[1]) for table in tables])


def resize_bias_table(table: np.ndarray, entries: int) -> np.ndarray:
  """Interpolates a V1 bias table to another square window by the geometric rule.

  This is the rule of the official fine-tuning after SimMIM. The distance between neighbouring source offsets
  grows by a factor q with each step from the centre, which preserves the values near the centre. A bicubic
  spline interpolates between them.

  Args:
    table: float [(2·old - 1)², heads].
    entries: (2·new - 1)².

  Returns:
    float64 [entries, heads].

  Raises:
    BadInput: a window is not square, or has fewer than four tokens per side.
  """
  from scipy import interpolate  # only V1 needs it

  old, new = _sides(table, entries)
  if min(old, new) < 7:
    raise BadInput(
      "a V1 bias table can be transferred by the geometric rule only between windows of at least four tokens "
      "per side"
    )
  low, high = 1.01, 1.5
  while high - low > 1e-6:
    q = (low + high) / 2
    if (1 - q ** (old // 2)) / (1 - q) > new // 2:
      high = q
    else:
      low = q
  steps = np.cumsum(q ** np.arange(old // 2))
  source = np.concatenate([-steps[::-1], [0.0], steps])
  target = np.arange(-(new // 2), new // 2 + 0.1)
  heads = [
    interpolate.RectBivariateSpline(source, source, table[:, k].reshape(old, old))(target, target).reshape(-1)
    for k in range(table.shape[1])
  ]
  return np.stack(heads, axis=-1)


def resize_bias_table_bicubic(table: np.ndarray, entries: int) -> np.ndarray:
  """Interpolates a V1 bias table to another square window by the rule of the official fine-tuning from
  ImageNet-22K to 1K.

  This is torch's bicubic interpolation: a = -0.75, half-pixel centres, replicated borders, no antialiasing.

  Args, Returns and Raises: as `resize_bias_table`, but windows may have any number of tokens per side.
  """
  old, new = _sides(table, entries)
  position = (np.arange(new) + 0.5) * old / new - 0.5
  first = np.floor(position).astype(int) - 1
  weights = np.zeros((new, old))
  for tap in range(4):
    x = np.abs(position - first - tap)
    near, far = (1.25 * x - 2.25) * x * x + 1, ((-0.75 * x + 3.75) * x - 6) * x + 3
    np.add.at(weights, (np.arange(new), np.clip(first + tap, 0, old - 1)), np.where(x <= 1, near, far))
  return np.einsum("io,jp,opk->ijk", weights, weights, table.reshape(old, old, -1)).reshape(entries, -1)


def _sides(table: np.ndarray, entries: int) -> tuple[int, int]:
  old, new = (round(n**0.5) for n in (table.shape[0], entries))
  if old * old != table.shape[0] or new * new != entries:
    raise BadInput("a V1 bias table can be transferred only between square windows")
  return old, new
