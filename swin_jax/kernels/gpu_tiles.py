"""Operations on tiles for the kernels in `gpu.py`: loops over tiles, loads, stores, products and masks.

Letters: see `models/windows.py`.

A tile is either a `pl.ds` of tokens (queries or keys), or the float32 matrix of one `pl.ds` by another. A
program sees the arrays of one head: qkv [P, N, 3·D], bias [N, N].
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp

from swin_jax.kernels import formula


def count(tokens: int, tile: int) -> int:
  """Returns the number of tiles of a window."""
  return -(-tokens // tile)


def own(tile: int) -> pl.Slice:
  """Returns the tile that this program computes; axis 1 of the grid must count tiles of tokens."""
  return pl.ds(pl.program_id(1) * tile, tile)


def parts(qkv_ref: Any) -> list[pl.Slice]:
  """Returns the channel slices of queries, keys and values."""
  d = qkv_ref.shape[-1] // 3
  return [pl.ds(i * d, d) for i in range(3)]


def over_windows(qkv_ref: Any, window: Callable, carry: Any = None) -> Any:
  """Loops over this program's part of the P windows, by calling window(w, carry) → carry."""
  windows = qkv_ref.shape[0]
  share = pl.cdiv(windows, pl.num_programs(2))
  begin = pl.program_id(2) * share
  return jax.lax.fori_loop(begin, jnp.minimum(begin + share, windows), window, carry)


def over_window(own: pl.Slice, tokens: int, tile: Callable, carry: Any) -> Any:
  """Loops over all tiles of a window, by calling tile(columns, carry) → carry."""
  size = own.size
  if tokens <= size:
    return tile(own, carry)
  return jax.lax.fori_loop(0, count(tokens, size), lambda i, carry: tile(pl.ds(i * size, size), carry), carry)


def load(ref: Any, *index: Any) -> jax.Array:
  """Loads ref[index], with zeros where a tile extends past the end; trailing dimensions are loaded whole."""
  inside = _inside(ref, index)
  return plgpu.load(ref.at[index]) if inside is None else plgpu.load(ref.at[index], mask=inside, other=0)


def store(x: jax.Array, ref: Any, *index: Any) -> None:
  """Stores x in ref[index], except where a tile extends past the end."""
  plgpu.store(ref.at[index], x.astype(ref.dtype), mask=_inside(ref, index))


def _inside(ref, index):
  """Returns the mask of the elements of ref[index] that exist; None if all do."""
  index += tuple(pl.ds(0, size) for size in ref.shape[len(index) :])
  slices = [(part, size) for part, size in zip(index, ref.shape, strict=True) if isinstance(part, pl.Slice)]
  inside = None
  for axis, (part, size) in enumerate(slices):
    if size % part.size:  # slices begin at multiples of their size
      here = jax.lax.broadcasted_iota(jnp.int32, [part.size for part, _ in slices], axis) + part.start < size
      inside = here if inside is None else inside & here
  return inside


def bias_of(rows: pl.Slice, bias_ref: Any) -> Callable[[pl.Slice], jax.Array]:
  """Returns a function from columns to their bias, which loads a window of a single tile only once."""
  if bias_ref.shape[0] <= rows.size:
    bias = load(bias_ref, rows, rows)
    return lambda columns: bias
  return lambda columns: load(bias_ref, rows, columns)


def masked(
  logits: jax.Array,
  labels: list[Any],
  w: jax.Array,
  rows: pl.Slice,
  columns: pl.Slice,
  tokens: int,
  *,
  key_axis: int = 1,
) -> jax.Array:
  """Adds the region mask to the logits, and sets them to -inf beyond the last key.

  Args:
    logits: float32 [rows, columns].
    labels: list of one reference to the region labels [M, N]; empty if there are no regions.
    w: index of the window.
    rows, columns: tiles of the two axes of the logits.
    tokens: N.
    key_axis: axis of the keys in the logits: 1 for columns, 0 for rows.
  """
  for ref in labels:
    m = jax.lax.rem(w, ref.shape[0])
    logits += formula.region_mask(load(ref, m, rows)[:, None], load(ref, m, columns)[None, :])
  if tokens % rows.size:
    key = jax.lax.broadcasted_iota(jnp.int32, logits.shape, key_axis) + (rows, columns)[key_axis].start
    logits = jnp.where(key < tokens, logits, -jnp.inf)
  return logits


def factors(x: jax.Array, dtype: jnp.dtype, cosine: bool) -> tuple[jax.Array, ...]:
  """Converts float32 to the compute dtype; for cosines also returns the rounding error in that dtype.

  At an inverse temperature of 100, rounding a cosine to two bytes changes the first digit of its weight.
  """
  high = x.astype(dtype)
  return (high, (x - high.astype(jnp.float32)).astype(dtype)) if cosine and dtype != jnp.float32 else (high,)


def products(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> jax.Array:
  """Returns the products of each row of a with each row of b; both are results of `factors`."""
  whole = dot(a[0], b[0], 1, 1)
  return whole if len(a) == 1 else whole + dot(a[0], b[1], 1, 1) + dot(a[1], b[0], 1, 1)


def dot(a: jax.Array, b: jax.Array, i: int, j: int) -> jax.Array:
  """Returns the product of two matrices, contracted over axis i of a and axis j of b, in float32."""
  # Matrix units do not support float32; six products of two-byte parts are as exact.
  precision = jax.lax.DotAlgorithmPreset.BF16_BF16_F32_X6 if a.dtype == jnp.float32 else None
  return jax.lax.dot_general(
    a, b, (((i,), (j,)), ((), ())), preferred_element_type=jnp.float32, precision=precision
  )
