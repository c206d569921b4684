"""Window attention as kernels for NVIDIA GPUs, forward and backward: logits never leave the chip.

Letters: see `models/windows.py`. The kernels use Pallas' Triton backend although it is deprecated: of Pallas'
two GPU backends, only Triton takes windows of any N by masked loads and is fully interpreted on a CPU.

Each program of the grid handles one head and one tile of queries or keys. It loops over its share of the
P = B·M windows with the bias of its tile at hand, and within a window over the tiles of the other side. The
backward pass recomputes the logits; only the inputs are saved from the forward pass. If a window is a single
tile, one kernel computes all gradients. Otherwise there are three: the first computes the gradient of the
queries together with the sums of the softmax; from these sums, the others compute the gradients of keys and
values, and the gradient of the bias, which stays in registers during the loop over the windows.
"""

import functools

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu
import jax.numpy as jnp
import numpy as np

from swin_jax.kernels import formula
from swin_jax.kernels import gpu_tiles as tiles
from swin_jax.terminal.errors import BadInput

PROGRAMS = 512  # to aim for: a few for each of the 132 multiprocessors of an H200
SHARE = 8  # minimum windows of a program that writes a partial gradient of the bias
LARGEST = 64  # tokens in a tile: four warps can multiply these at once and have registers for them
SMALLEST = 16  # tokens in a tile: the minimum of the matrix units


def tile_size(tokens: int) -> int:
  """Returns the number of queries or keys that are processed at once."""
  if tokens <= LARGEST:
    return max(SMALLEST, 1 << (tokens - 1).bit_length())  # Triton supports only powers of two
  # Larger tiles cost less per logit unless padding adds more than an eighth to the tokens.
  return LARGEST if tiles.count(tokens, LARGEST) * LARGEST <= tokens * 9 / 8 else LARGEST // 2


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

  Raises:
    BadInput: D is not 16, 32 or 64, unless interpreted.
  """
  b, m, n, k, _, d = qkv.shape
  if not interpret and d not in (16, 32, 64):
    raise BadInput(
      f"attention_kernel = 'gpu' is for heads of 16, 32 or 64 channels, not {d}: 'xla' takes any"
    )
  p, tile = b * m, tile_size(n)
  side = tiles.count(n, tile)
  call = functools.partial(_call, regions, cosine, interpret, tile)

  @jax.custom_vjp
  def attend(qkv, bias, scale):
    splits = _splits(p, k * side)
    return call(
      _attend, side, splits, [("PNKD", qkv), ("KNN", bias), ("K", scale)], [("PNKD", (p, n, k, d), qkv.dtype)]
    )[0]

  def backward(inputs, out_grad):
    qkv, bias, scale = inputs
    inputs = [("PNKD", qkv), ("KNN", bias), ("K", scale), ("PNKD", out_grad)]
    grad, sums = ("PNKD", qkv.shape, qkv.dtype), ("PKN", (p, k, n), jnp.float32)
    squares = side * side
    splits = _splits(p // SHARE, k * squares)
    parts = [("SKNN", (splits, k, n, n), jnp.float32), ("SKT", (splits, k, squares), jnp.float32)]
    if side == 1:
      qkv_grad, bias_grad, scale_grad = call(_gradients, 1, splits, inputs, [grad, *parts])
    else:
      query_grad, log_sum, mean = call(
        _query_gradients, side, _splits(p, k * side), inputs, [grad, sums, sums]
      )
      known = [("PKN", log_sum), ("PKN", mean)]
      bias_grad, scale_grad = call(_bias_gradients, squares, splits, inputs + known, parts)
      inputs[1] = ("KNN", bias.swapaxes(1, 2))  # key first
      inputs += [*known, ("PNKD", query_grad)]
      (qkv_grad,) = call(
        _key_gradients, side, _splits(p, k * side), inputs, [grad], in_place={len(inputs) - 1: 0}
      )
    return qkv_grad, bias_grad.sum(0), scale_grad.sum((0, 2))

  attend.defvjp(lambda *inputs: (attend(*inputs), inputs), backward)
  return attend(qkv.reshape(p, n, k, 3 * d), bias, scale).reshape(b, m, n, k, d)


def _splits(windows, programs):
  """Returns the number of parts to split the windows into, so that there are enough programs."""
  return max(1, min(pl.cdiv(PROGRAMS, programs), windows))


def _call(regions, cosine, interpret, tile, kernel, count, splits, inputs, results, in_place=None):
  """Runs a kernel on a grid of heads, tiles and parts of the windows.

  Args:
    regions, cosine, interpret: as in `window_attention`.
    tile: tokens in a tile.
    kernel: one of those below; it sees one head of each array.
    count, splits: number of tiles and of parts of the windows, the other two dimensions of the grid.
    inputs: (dimensions, array) of each; the dimension K is the heads.
    results: (dimensions, shape, dtype) of each.
    in_place: index of an input → index of the result that overwrites it; elements that the kernel does not
      write keep the values of the input.
  """

  def spec(dimensions, shape):
    block = tuple(None if name == "K" else size for name, size in zip(dimensions, shape, strict=True))
    return pl.BlockSpec(block, lambda head, *_: tuple(head if name == "K" else 0 for name in dimensions))

  heads = inputs[2][1].shape[0]
  if regions is not None:
    inputs = [*inputs, ("MN", jnp.asarray(regions, jnp.int32))]
  return pl.pallas_call(
    functools.partial(kernel, tile=tile, cosine=cosine),
    grid=(heads, count, splits),
    in_specs=[spec(names, x.shape) for names, x in inputs],
    out_specs=[spec(names, shape) for names, shape, _ in results],
    out_shape=[jax.ShapeDtypeStruct(shape, dtype) for _, shape, dtype in results],
    input_output_aliases=in_place or {},
    compiler_params=plgpu.CompilerParams(num_warps=4, num_stages=2),
    interpret=interpret,
    name="window" + kernel.__name__,
  )(*(x for _, x in inputs))


def _attend(qkv_ref, bias_ref, scale_ref, *refs, tile, cosine):
  """Computes the output for tiles of queries, with an online softmax over the tiles of keys."""
  *labels, out_ref = refs
  rows, parts, dtype, tokens = tiles.own(tile), tiles.parts(qkv_ref), qkv_ref.dtype, bias_ref.shape[0]
  bias, scale = tiles.bias_of(rows, bias_ref), scale_ref[...]

  def window(w, _):
    query = tiles.factors(
      formula.normalised(tiles.load(qkv_ref, w, rows, parts[0]), cosine)[0] * scale, dtype, cosine
    )

    def keys(columns, carry):
      top, total, out = carry
      key = tiles.factors(
        formula.normalised(tiles.load(qkv_ref, w, columns, parts[1]), cosine)[0], dtype, cosine
      )
      logits = tiles.masked(tiles.products(query, key) + bias(columns), labels, w, rows, columns, tokens)
      new_top = jnp.maximum(top, jnp.max(logits, axis=1))
      exponentials, shrink = jnp.exp(logits - new_top[:, None]), jnp.exp(top - new_top)
      product = tiles.dot(exponentials.astype(dtype), tiles.load(qkv_ref, w, columns, parts[2]), 1, 0)
      return new_top, total * shrink + jnp.sum(exponentials, axis=1), out * shrink[:, None] + product

    zeros = jnp.zeros(tile, jnp.float32)
    _, total, out = tiles.over_window(
      rows, tokens, keys, (zeros - jnp.inf, zeros, jnp.zeros(query[0].shape, jnp.float32))
    )
    tiles.store(out / total[:, None], out_ref, w, rows)

  tiles.over_windows(qkv_ref, window)


def _query_gradients(qkv_ref, bias_ref, scale_ref, out_grad_ref, *refs, tile, cosine):
  """Computes the gradient of tiles of queries, and two sums for the other kernels: log Σ exp(logit) and
  Σ weight · gradient of the weight.

  The second sum is a weighted mean that is subtracted from the gradients of the weights. It is known only
  after the last key. The kernel therefore subtracts the running mean and corrects earlier sums when it
  changes; subtracting everything at the end would be a difference of large numbers, dominated by rounding.
  """
  *labels, grad_ref, log_sum_ref, mean_ref = refs
  rows, parts, dtype, tokens = tiles.own(tile), tiles.parts(qkv_ref), qkv_ref.dtype, bias_ref.shape[0]
  bias, scale = tiles.bias_of(rows, bias_ref), scale_ref[...]

  def window(w, _):
    unit, length = formula.normalised(tiles.load(qkv_ref, w, rows, parts[0]), cosine)
    query, out_grad = tiles.factors(unit * scale, dtype, cosine), tiles.load(out_grad_ref, w, rows)

    def keys(columns, carry):
      top, total, mean, key_sum, grad = carry
      key = tiles.factors(
        formula.normalised(tiles.load(qkv_ref, w, columns, parts[1]), cosine)[0], dtype, cosine
      )
      logits = tiles.masked(tiles.products(query, key) + bias(columns), labels, w, rows, columns, tokens)
      weights_grad = tiles.dot(out_grad, tiles.load(qkv_ref, w, columns, parts[2]), 1, 1)
      new_top = jnp.maximum(top, jnp.max(logits, axis=1))
      exponentials, shrink = jnp.exp(logits - new_top[:, None]), jnp.exp(top - new_top)
      new_total = total * shrink + jnp.sum(exponentials, axis=1)
      new_mean = (total * shrink * mean + jnp.sum(exponentials * weights_grad, axis=1)) / new_total
      grad = shrink[:, None] * (grad + (mean - new_mean)[:, None] * key_sum)
      grad += tiles.dot((exponentials * (weights_grad - new_mean[:, None])).astype(dtype), key[0], 1, 0)
      key_sum = shrink[:, None] * key_sum + tiles.dot(exponentials.astype(dtype), key[0], 1, 0)
      return new_top, new_total, new_mean, key_sum, grad

    zeros, wide = jnp.zeros(tile, jnp.float32), jnp.zeros(unit.shape, jnp.float32)
    top, total, mean, _, grad = tiles.over_window(
      rows, tokens, keys, (zeros - jnp.inf, zeros, zeros, wide, wide)
    )
    tiles.store(
      formula.through_norm(grad * (scale / total)[:, None], unit, length), grad_ref, w, rows, parts[0]
    )
    tiles.store(top + jnp.log(total), log_sum_ref, w, rows)
    tiles.store(mean, mean_ref, w, rows)

  tiles.over_windows(qkv_ref, window)


def _key_gradients(qkv_ref, bias_ref, scale_ref, out_grad_ref, log_sum_ref, mean_ref, _, *refs, tile, cosine):
  """Computes the gradients of tiles of keys and their values; matrices and bias have the key axis first."""
  *labels, grad_ref = refs
  rows, parts, dtype, tokens = tiles.own(tile), tiles.parts(qkv_ref), qkv_ref.dtype, bias_ref.shape[0]
  scale = scale_ref[...]

  def window(w, _):
    unit, length = formula.normalised(tiles.load(qkv_ref, w, rows, parts[1]), cosine)
    key, value = tiles.factors(unit, dtype, cosine), tiles.load(qkv_ref, w, rows, parts[2])

    def queries(columns, carry):
      key_grad, value_grad = carry
      query = tiles.factors(
        formula.normalised(tiles.load(qkv_ref, w, columns, parts[0]), cosine)[0] * scale, dtype, cosine
      )
      out_grad = tiles.load(out_grad_ref, w, columns)
      logits = tiles.products(key, query) + tiles.load(bias_ref, rows, columns)
      logits = tiles.masked(logits, labels, w, rows, columns, tokens, key_axis=0)
      weights = jnp.exp(logits - tiles.load(log_sum_ref, w, columns)[None, :])
      logits_grad = weights * (tiles.dot(value, out_grad, 1, 1) - tiles.load(mean_ref, w, columns)[None, :])
      return key_grad + tiles.dot(logits_grad.astype(dtype), query[0], 1, 0), value_grad + tiles.dot(
        weights.astype(dtype), out_grad, 1, 0
      )

    zeros = jnp.zeros(unit.shape, jnp.float32)
    key_grad, value_grad = tiles.over_window(rows, tokens, queries, (zeros, zeros))
    tiles.store(formula.through_norm(key_grad, unit, length), grad_ref, w, rows, parts[1])
    tiles.store(value_grad, grad_ref, w, rows, parts[2])

  tiles.over_windows(qkv_ref, window)


def _bias_gradients(qkv_ref, bias_ref, scale_ref, out_grad_ref, log_sum_ref, mean_ref, *refs, tile, cosine):
  """Computes the gradient of tiles of the bias, and partial sums of the gradient of the scale."""
  *labels, bias_grad_ref, scale_grad_ref = refs
  parts, dtype, tokens = tiles.parts(qkv_ref), qkv_ref.dtype, bias_ref.shape[0]
  rows, columns = (pl.ds(i * tile, tile) for i in divmod(pl.program_id(1), tiles.count(tokens, tile)))
  bias, scale = tiles.load(bias_ref, rows, columns), scale_ref[...]

  def window(w, carry):
    bias_grad, scale_grad = carry
    query = tiles.factors(
      formula.normalised(tiles.load(qkv_ref, w, rows, parts[0]), cosine)[0] * scale, dtype, cosine
    )
    key = tiles.factors(
      formula.normalised(tiles.load(qkv_ref, w, columns, parts[1]), cosine)[0], dtype, cosine
    )
    cosines = tiles.products(query, key)  # times the scale
    logits = tiles.masked(cosines + bias, labels, w, rows, columns, tokens)
    weights = jnp.exp(logits - tiles.load(log_sum_ref, w, rows)[:, None])
    weights_grad = tiles.dot(
      tiles.load(out_grad_ref, w, rows), tiles.load(qkv_ref, w, columns, parts[2]), 1, 1
    )
    logits_grad = weights * (weights_grad - tiles.load(mean_ref, w, rows)[:, None])
    return bias_grad + logits_grad, scale_grad + jnp.sum(logits_grad * cosines, axis=1)

  bias_grad, scale_grad = tiles.over_windows(
    qkv_ref, window, (jnp.zeros((tile, tile), jnp.float32), jnp.zeros(tile, jnp.float32))
  )
  tiles.store(bias_grad, bias_grad_ref, pl.program_id(2), rows, columns)
  scale_grad_ref[pl.program_id(2), pl.program_id(1)] = jnp.sum(scale_grad) / scale


def _gradients(qkv_ref, bias_ref, scale_ref, out_grad_ref, *refs, tile, cosine):
  """Computes all gradients, for windows that are a single tile."""
  *labels, grad_ref, bias_grad_ref, scale_grad_ref = refs
  rows, parts, dtype, tokens = tiles.own(tile), tiles.parts(qkv_ref), qkv_ref.dtype, bias_ref.shape[0]
  scale = scale_ref[...]

  def window(w, carry):
    bias_grad, scale_grad = carry
    query_unit, query_length = formula.normalised(tiles.load(qkv_ref, w, rows, parts[0]), cosine)
    key_unit, key_length = formula.normalised(tiles.load(qkv_ref, w, rows, parts[1]), cosine)
    query, key = tiles.factors(query_unit * scale, dtype, cosine), tiles.factors(key_unit, dtype, cosine)
    value, out_grad = tiles.load(qkv_ref, w, rows, parts[2]), tiles.load(out_grad_ref, w, rows)
    cosines = tiles.products(query, key)  # times the scale
    logits = tiles.masked(cosines + tiles.load(bias_ref, rows, rows), labels, w, rows, rows, tokens)
    exponentials = jnp.exp(logits - jnp.max(logits, axis=1)[:, None])
    weights = exponentials / jnp.sum(exponentials, axis=1)[:, None]
    weights_grad = tiles.dot(out_grad, value, 1, 1)
    logits_grad = weights * (weights_grad - jnp.sum(weights * weights_grad, axis=1)[:, None])
    narrow = logits_grad.astype(dtype)
    query_grad, key_grad = tiles.dot(narrow, key[0], 1, 0) * scale, tiles.dot(narrow, query[0], 0, 0)
    tiles.store(formula.through_norm(query_grad, query_unit, query_length), grad_ref, w, rows, parts[0])
    tiles.store(formula.through_norm(key_grad, key_unit, key_length), grad_ref, w, rows, parts[1])
    tiles.store(tiles.dot(weights.astype(dtype), out_grad, 0, 0), grad_ref, w, rows, parts[2])
    return bias_grad + logits_grad, scale_grad + jnp.sum(logits_grad * cosines, axis=1)

  bias_grad, scale_grad = tiles.over_windows(
    qkv_ref, window, (jnp.zeros((tile, tile), jnp.float32), jnp.zeros(tile, jnp.float32))
  )
  tiles.store(bias_grad, bias_grad_ref, pl.program_id(2), rows, rows)
  scale_grad_ref[pl.program_id(2), 0] = jnp.sum(scale_grad) / scale
