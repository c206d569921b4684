"""What the kernels of `gpu.py` do with tiles: walk over them, load, multiply and mask them. Letters: see
`models/windows.py`.

A tile is a `pl.ds` of tokens, queries or keys, or the float32 matrix of one by another. Arrays are as one
program sees them, those of one head: qkv [P, N, 3·D], bias [N, N].
"""

from collections.abc import Callable
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp

from swin_jax.kernels import formula


def count(tokens: int, tile: int) -> int:
  """Tiles of a window."""
  return -(-tokens // tile)


def own(tile: int) -> pl.Slice:
  """The tile whose results the program makes, where the grid counts tiles of tokens."""
  return pl.ds(pl.program_id(1) * tile, tile)


def parts(qkv_ref: Any) -> list[pl.Slice]:
  """The channels of queries, keys and values."""
  d = qkv_ref.shape[-1] // 3
  return [pl.ds(i * d, d) for i in range(3)]


def over_windows(qkv_ref: Any, window: Callable, carry: Any = None) -> Any:
  """Goes through the program's part of the P windows: window(w, carry) → carry."""
  windows = qkv_ref.shape[0]
  share = pl.cdiv(windows, pl.num_programs(2))
  begin = pl.program_id(2) * share
  return jax.lax.fori_loop(begin, jnp.minimum(begin + share, windows), window, carry)


def over_window(own: pl.Slice, tokens: int, tile: Callable, carry: Any) -> Any:
  """Goes through the tiles of the other side: tile(columns, carry) → carry."""
  size = own.size
  if tokens <= size:
    return tile(own, carry)
  return jax.lax.fori_loop(0, count(tokens, size), lambda i, carry: tile(pl.ds(i * size, size), carry), carry)


def load(ref: Any, *index: Any) -> jax.Array:
  """ref[index], with zeros where tiles reach beyond its end; further dimensions whole."""
  inside = _inside(ref, index)
  return plgpu.load(ref.at[index]) if inside is None else plgpu.load(ref.at[index], mask=inside, other=0)


def store(x: jax.Array, ref: Any, *index: Any) -> None:
  """ref[index] = x, but for what is beyond its end."""
  plgpu.store(ref.at[index], x.astype(ref.dtype), mask=_inside(ref, index))


def _inside(ref, index):
  """Which elements of ref[index] there are; None where it is all."""
  index += tuple(pl.ds(0, size) for size in ref.shape[len(index) :])
  slices = [(part, size) for part, size in zip(index, ref.shape, strict=True) if isinstance(part, pl.Slice)]
  inside = None
  for axis, (part, size) in enumerate(slices):
    if size % part.size:  # slices begin at multiples of their size
      here = jax.lax.broadcasted_iota(jnp.int32, [part.size for part, _ in slices], axis) + part.start < size
      inside = here if inside is None else inside & here
  return inside


def bias_of(rows: pl.Slice, bias_ref: Any) -> Callable[[pl.Slice], jax.Array]:
  """columns → their bias, which is loaded once where there is but one tile."""
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
  """The logits with the mask of the regions, and -inf where there is no key.

  Args:
    logits: of rows and columns.
    labels: the reference to the labels [M, N], if there are any.
    w: the window.
    tokens: N.
    key_axis: of the logits, whether columns or rows are keys.
  """
  for ref in labels:
    m = jax.lax.rem(w, ref.shape[0])
    logits += formula.region_mask(load(ref, m, rows)[:, None], load(ref, m, columns)[None, :])
  if tokens % rows.size:
    key = jax.lax.broadcasted_iota(jnp.int32, logits.shape, key_axis) + (rows, columns)[key_axis].start
    logits = jnp.where(key < tokens, logits, -jnp.inf)
  return logits


def factors(x: jax.Array, dtype: jnp.dtype, cosine: bool) -> tuple[jax.Array, ...]:
  """float32 → x in the compute dtype, and of cosines what that leaves of it.

  An inverse temperature of 100 shows the rounding of a cosine to two bytes in the first digit of its weight.
  """
  high = x.astype(dtype)
  return (high, (x - high.astype(jnp.float32)).astype(dtype)) if cosine and dtype != jnp.float32 else (high,)


def products(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> jax.Array:
  """Of each row of a with each of b, both as `factors` has them."""
  whole = dot(a[0], b[0], 1, 1)
  return whole if len(a) == 1 else whole + dot(a[0], b[1], 1, 1) + dot(a[1], b[0], 1, 1)


def dot(a: jax.Array, b: jax.Array, i: int, j: int) -> jax.Array:
  """The product of two matrices, contracted over axis i of a and j of b, in float32."""
  # Matrix units have no float32; six products of parts of two bytes are as exact.
  precision = jax.lax.DotAlgorithmPreset.BF16_BF16_F32_X6 if a.dtype == jnp.float32 else None
  return jax.lax.dot_general(
    a, b, (((i,), (j,)), ((), ())), preferred_element_type=jnp.float32, precision=precision
  )
