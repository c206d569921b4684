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

from swin_jax.kernels import gpu_programs
from swin_jax.kernels import gpu_tiles as tiles
from swin_jax.terminal.errors import BadInput

PROGRAMS = 512  # number to aim for: a few for each of the 132 multiprocessors of an H200
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
    raise BadInput(f"attention_kernel = 'gpu' supports heads of 16, 32 or 64 channels, not {d}; use 'xla'")
  p, tile = b * m, tile_size(n)
  side = tiles.count(n, tile)
  call = functools.partial(_call, regions, cosine, interpret, tile)

  @jax.custom_vjp
  def attend(qkv, bias, scale):
    splits = _splits(p, k * side)
    return call(
      gpu_programs.attend,
      side,
      splits,
      [("PNKD", qkv), ("KNN", bias), ("K", scale)],
      [("PNKD", (p, n, k, d), qkv.dtype)],
    )[0]

  def backward(inputs, out_grad):
    qkv, bias, scale = inputs
    inputs = [("PNKD", qkv), ("KNN", bias), ("K", scale), ("PNKD", out_grad)]
    grad, sums = ("PNKD", qkv.shape, qkv.dtype), ("PKN", (p, k, n), jnp.float32)
    squares = side * side
    splits = _splits(p // SHARE, k * squares)
    parts = [("SKNN", (splits, k, n, n), jnp.float32), ("SKT", (splits, k, squares), jnp.float32)]
    if side == 1:
      qkv_grad, bias_grad, scale_grad = call(gpu_programs.gradients, 1, splits, inputs, [grad, *parts])
    else:
      query_grad, log_sum, mean = call(
        gpu_programs.query_gradients, side, _splits(p, k * side), inputs, [grad, sums, sums]
      )
      known = [("PKN", log_sum), ("PKN", mean)]
      bias_grad, scale_grad = call(gpu_programs.bias_gradients, squares, splits, inputs + known, parts)
      inputs[1] = ("KNN", bias.swapaxes(1, 2))  # key first
      inputs += [*known, ("PNKD", query_grad)]
      (qkv_grad,) = call(
        gpu_programs.key_gradients, side, _splits(p, k * side), inputs, [grad], in_place={len(inputs) - 1: 0}
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
