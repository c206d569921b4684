"""Window attention as TPU kernels, one forward and one backward: logits never leave the chip.

Letters: see `models/windows.py`. The grid runs over groups of heads and, inside, over the P = B·M windows.
Data that belongs to the group alone, which is the bias and in the backward pass its gradient, stays in
on-chip memory during the loop over the windows. The queries of a window are processed in tiles, so that the
logits take no more memory than one tile needs.

The backward pass recomputes the logits; only the inputs are saved from the forward pass.
"""

import functools
from typing import NamedTuple

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
import jax.numpy as jnp
import numpy as np

from swin_jax.kernels import formula

LANES = 128  # lanes of a vector register
ROWS = 16  # rows of two-byte numbers in a vector register; tiles of queries begin at multiples
TILE_BYTES = 5 * 2**18  # size of the float32 logits that are processed at once
BIAS_BYTES = 6 * 2**20  # bias of a group of heads; the chip holds two copies, and two of the gradient
MEMORY_BYTES = 96 * 2**20  # on-chip memory that a kernel may use
MAX_HEADS = 8  # heads of a group, if so few are possible: the loop over heads is unrolled
MIN_TOKENS = 256  # tokens of a program, which takes several windows if they are small


class Plan(NamedTuple):
  """How the work is divided.

  Attributes:
    heads: heads of a group.
    windows: windows of a program; divides M.
    tile: queries that are processed at once; divides N.
    heads_first: whether the heads come before the windows in memory, which costs one pass over qkv. Needed
      for large windows, whose bias leaves no room for enough heads to fill whole registers.
  """

  heads: int
  windows: int
  tile: int
  heads_first: bool


def make_plan(num_windows: int, tokens: int, heads: int, head_dim: int) -> Plan:
  """Returns the plan for M windows of an image with N tokens each, and K heads of D channels."""
  row = 4 * -(-tokens // LANES) * LANES
  tiles = [n for n in range(ROWS, tokens, ROWS) if tokens % n == 0 and n * row <= TILE_BYTES]
  tile = tokens if tokens * row <= TILE_BYTES or not tiles else tiles[-1]
  # group sizes that fill whole registers
  whole = [n for n in range(1, heads) if heads % n == 0 and n * head_dim % LANES == 0] + [heads]
  fitting = [n for n in whole if n * tokens * row <= BIAS_BYTES]
  group = max((n for n in fitting if n <= MAX_HEADS), default=min(fitting, default=1))
  windows = min(
    (n for n in range(1, num_windows + 1) if num_windows % n == 0 and n * tokens >= MIN_TOKENS),
    default=num_windows,
  )
  return Plan(group, windows, tile, heads_first=not fitting)


def window_attention(
  qkv: jax.Array,
  bias: jax.Array,
  scale: jax.Array,
  regions: np.ndarray | None,
  *,
  cosine: bool,
  interpret: bool = False,
) -> jax.Array:
  """Computes attention among the tokens of each window.

  Args:
    qkv: [B, M, N, K, 3, D] in the compute dtype.
    bias: [K, N, N] float32.
    scale: [K] float32, the factor of the queries.
    regions: int [M, N] or None, see `kernels.window_attention`.
    cosine: whether queries and keys are normalised first.
    interpret: whether Pallas interprets the kernels on a CPU, for tests.

  Returns:
    [B, M, N, K, D] in the dtype of qkv.
  """
  b, m, n, k, _, d = qkv.shape
  call = functools.partial(_call, make_plan(m, n, k, d), m, regions, cosine, interpret)

  @jax.custom_vjp
  def attend(qkv, bias, scale):
    return call(_forward, (qkv,), bias, scale)[0]

  def backward(inputs, out_grad):
    qkv, bias, scale = inputs
    return call(_backward, (qkv, out_grad), bias, scale)

  attend.defvjp(lambda *inputs: (attend(*inputs), inputs), backward)
  out = attend(qkv.reshape(b * m, n, k, 3 * d), bias, scale)
  return out.reshape(b, m, n, k, d)


def _call(plan, num_windows, regions, cosine, interpret, kernel, tensors, bias, scale):
  """Runs a kernel on a grid of groups of heads and windows.

  Args:
    kernel: `_forward` or `_backward`.
    tensors: arrays [P, N, K, channels of a head].
    bias, scale: as in `window_attention`.

  Returns:
    [out] for `_forward`; the gradients of qkv, bias and scale for `_backward`.
  """
  p, n, k, wide = tensors[0].shape
  d, dtype, groups = wide // 3, tensors[0].dtype, k // plan.heads
  backward = kernel is _backward

  def arrange(x):
    return x.transpose(2, 0, 1, 3) if plan.heads_first else x.reshape(p, n, -1)

  def spec(channels):
    if plan.heads_first:
      return pl.BlockSpec((None, plan.windows, n, channels), lambda g, i: (g, i, 0, 0))
    return pl.BlockSpec((plan.windows, n, plan.heads * channels), lambda g, i: (i, 0, g))

  def shape(channels):
    return jax.ShapeDtypeStruct((k, p, n, channels) if plan.heads_first else (p, n, k * channels), dtype)

  def restore(x, channels):
    return x.transpose(1, 2, 0, 3) if plan.heads_first else x.reshape(p, n, k, channels)

  of_group = pl.BlockSpec((plan.heads, n, n), lambda g, i: (g, 0, 0))
  in_specs = [pl.BlockSpec(memory_space=pltpu.SMEM), of_group, *(spec(x.shape[-1]) for x in tensors)]
  inputs = [scale, bias, *map(arrange, tensors)]
  if regions is not None:
    labels, cycle = jnp.asarray(regions, jnp.int32), num_windows // plan.windows
    inputs += [labels[:, :, None], labels[:, None, :]]
    in_specs += [
      pl.BlockSpec((plan.windows, n, 1), lambda g, i: (i % cycle, 0, 0)),
      pl.BlockSpec((plan.windows, 1, n), lambda g, i: (i % cycle, 0, 0)),
    ]
  if backward:
    out_specs = [spec(wide), of_group, pl.BlockSpec((1, 1, LANES), lambda g, i: (g, 0, 0))]
    out_shape = [
      shape(wide),
      jax.ShapeDtypeStruct((k, n, n), jnp.float32),
      jax.ShapeDtypeStruct((groups, 1, LANES), jnp.float32),
    ]
  else:
    out_specs, out_shape = [spec(d)], [shape(d)]
  products = 5 if backward else 2
  moved = sum(x.size * x.dtype.itemsize for x in (*tensors, bias)) + sum(
    x.size * x.dtype.itemsize for x in out_shape
  )
  results = pl.pallas_call(
    functools.partial(kernel, plan=plan, cosine=cosine, masked=regions is not None),
    grid=(groups, p // plan.windows),
    in_specs=in_specs,
    out_specs=out_specs,
    out_shape=out_shape,
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "arbitrary" if backward else "parallel"), vmem_limit_bytes=MEMORY_BYTES
    ),
    cost_estimate=pl.CostEstimate(
      flops=products * 2 * p * k * n * n * d, transcendentals=p * k * n * n, bytes_accessed=moved
    ),
    interpret=interpret,
    name="window_attention_backward" if backward else "window_attention",
  )(*inputs)
  if not backward:
    return [restore(results[0], d)]
  return restore(results[0], wide), results[1], results[2][:, 0, : plan.heads].reshape(k)


def _forward(scale_ref, bias_ref, qkv_ref, *refs, plan, cosine, masked):
  *labels, out_ref = refs
  d, first = qkv_ref.shape[-1] // plan.heads // 3, pl.program_id(0) * plan.heads

  def window(w, carry):
    for j in range(plan.heads):
      scale = scale_ref[first + j]
      q, k, v = (qkv_ref[w, :, (3 * j + i) * d : (3 * j + i + 1) * d] for i in range(3))
      key = _as_key(formula.normalised(k, cosine)[0], v.dtype, cosine)
      for rows in _tiles(plan, q.shape[0]):
        query = _as_query(formula.normalised(q[rows], cosine)[0] * scale, v.dtype, cosine)
        weights = _softmax(_dot(query, key, 1, 1) + bias_ref[j, rows, :], _mask(labels, w, rows, masked))
        out_ref[w, rows, j * d : (j + 1) * d] = _dot(weights.astype(v.dtype), v, 1, 0).astype(out_ref.dtype)
    return carry

  jax.lax.fori_loop(0, plan.windows, window, 0)


def _backward(scale_ref, bias_ref, qkv_ref, out_grad_ref, *refs, plan, cosine, masked):
  *labels, grad_ref, bias_grad_ref, scale_grad_ref = refs
  d, first = qkv_ref.shape[-1] // plan.heads // 3, pl.program_id(0) * plan.heads

  @pl.when(pl.program_id(1) == 0)
  def _():
    bias_grad_ref[...] = jnp.zeros_like(bias_grad_ref)
    scale_grad_ref[...] = jnp.zeros_like(scale_grad_ref)

  def window(w, carry):
    for j in range(plan.heads):
      scale = scale_ref[first + j]
      lanes = [slice((3 * j + i) * d, (3 * j + i + 1) * d) for i in range(3)]
      q, k, v = (qkv_ref[w, :, part] for part in lanes)
      out_grad = out_grad_ref[w, :, j * d : (j + 1) * d]
      unit_key, key_length = formula.normalised(k, cosine)
      key = _as_key(unit_key, k.dtype, cosine)
      key_grad, value_grad, scale_grad = jnp.zeros(k.shape, jnp.float32), jnp.zeros(k.shape, jnp.float32), 0.0
      for rows in _tiles(plan, q.shape[0]):
        unit, length = formula.normalised(q[rows], cosine)
        g = out_grad[rows]
        cosines = _dot(_as_query(unit * scale, k.dtype, cosine), key, 1, 1)  # times the scale
        weights = _softmax(cosines + bias_ref[j, rows, :], _mask(labels, w, rows, masked))
        value_grad += _dot(weights.astype(k.dtype), g, 0, 0)
        weights_grad = _dot(g, v, 1, 1)
        logits_grad = weights * (weights_grad - jnp.sum(weights * weights_grad, axis=-1, keepdims=True))
        bias_grad_ref[j, rows, :] += logits_grad
        narrow = logits_grad.astype(k.dtype)
        query_grad = _dot(narrow, unit_key.astype(k.dtype), 1, 0)
        key_grad += _dot(narrow, (unit * scale).astype(k.dtype), 0, 0)
        scale_grad += jnp.sum(logits_grad * cosines)
        grad_ref[w, rows, lanes[0]] = formula.through_norm(query_grad * scale, unit, length).astype(
          grad_ref.dtype
        )
      grad_ref[w, :, lanes[1]] = formula.through_norm(key_grad, unit_key, key_length).astype(grad_ref.dtype)
      grad_ref[w, :, lanes[2]] = value_grad.astype(grad_ref.dtype)
      lane = jax.lax.broadcasted_iota(jnp.int32, (1, LANES), 1)
      scale_grad_ref[0] += jnp.where(lane == j, scale_grad / scale, 0.0)
    return carry

  jax.lax.fori_loop(0, plan.windows, window, 0)


def _tiles(plan, tokens):
  return [slice(i, i + plan.tile) for i in range(0, tokens, plan.tile)]


def _as_query(x, dtype, cosine):
  """Converts float32 [n, D] to the factor that is multiplied with a result of `_as_key`.

  At an inverse temperature of 100, rounding a cosine to two bytes changes the first digit of its weight. Each
  number is therefore split into two two-byte numbers, and a product into three, which are concatenated along
  D: they fit into the matrix unit, which is 128 deep, while D is 32.
  """
  high = x.astype(dtype)
  return jnp.concatenate([high, _rest(x, high), high], axis=-1) if cosine and dtype != jnp.float32 else high


def _as_key(x, dtype, cosine):
  high = x.astype(dtype)
  return jnp.concatenate([high, high, _rest(x, high)], axis=-1) if cosine and dtype != jnp.float32 else high


def _rest(x, high):
  return (x - high.astype(jnp.float32)).astype(high.dtype)


def _mask(labels, w, rows, masked):
  return formula.region_mask(labels[0][w, rows, :], labels[1][w]) if masked else 0.0


def _softmax(logits, mask):
  logits = logits + mask
  exponentials = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
  return exponentials / jnp.sum(exponentials, axis=-1, keepdims=True)


def _dot(a, b, i, j):
  """Returns the product of two matrices, contracted over axis i of a and axis j of b, in float32."""
  precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
  return jax.lax.dot_general(
    a, b, (((i,), (j,)), ((), ())), preferred_element_type=jnp.float32, precision=precision
  )
