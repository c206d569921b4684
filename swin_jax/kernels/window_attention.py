"""Attention inside windows: the one function the models call."""

import math

import jax
import jax.numpy as jnp
import numpy as np

MAX_LOGIT_SCALE = math.log(100.0)  # Swin V2, section 3.2: the temperature stays above 0.01
REGION_MASK = -100.0  # official: finite, added to the logits of tokens that are no neighbours in the image
PADDING_MASK = -1e9  # padding is invented, so no logit, however extreme, may let it in


def window_attention(
    qkv: jax.Array,
    bias: jax.Array,
    logit_scale: jax.Array | None,
    regions: np.ndarray | None,
    *,
    window_chunks: int = 1,
    head_chunks: int = 1,
) -> jax.Array:
  """Softmax attention among the tokens of each window.

  Scaled cosine attention (Swin V2, section 3.2) where a logit scale is given, the scaled dot product of Swin V1 where it is None.
  In chunks, the logits of only one chunk live at a time, in the backward pass too, where they are computed again: the sequential
  self-attention of Swin V2, section 3.4.

  Args:
    qkv: [B, M, N, K, 3, D], queries, keys and values of each head side by side, in the compute dtype.
    bias: [K, N, N] float32, added to the logits (query, key).
    logit_scale: [K] float32, the log of the inverse temperature of each head, or None.
    regions: int [M, N] from `windows.regions`, or None. Tokens attend within their region; label -1 is padding.
    window_chunks, head_chunks: parts of the M windows and K heads that are computed one after the other.

  Returns:
    [B, M, N, K, D] in the dtype of qkv. Logits and softmax are float32.
  """

  def attend(qkv, bias, logit_scale):
    return _one_after_another(lambda qkv, regions: _attend(qkv, bias, logit_scale, regions), window_chunks, (qkv, regions), (1, 0), 1)

  return _one_after_another(attend, head_chunks, (qkv, bias, logit_scale), (3, 0, 0), 3)


def _one_after_another(function, chunks, arrays, split, out_split):
  """function(*arrays) in chunks along the axis `split` of each array; the results are joined along `out_split`."""
  if chunks == 1:
    return function(*arrays)
  parts = [None if x is None else _split(x, chunks, axis) for x, axis in zip(arrays, split)]
  # Inside a loop nothing can undo the recomputation.
  out = jax.lax.map(jax.checkpoint(lambda part: function(*part), prevent_cse=False), parts)
  shape = out.shape[1 : out_split + 1] + (-1,) + out.shape[out_split + 2 :]
  return jnp.moveaxis(out, 0, out_split).reshape(shape)


def _split(x, chunks, axis):
  """[..., n, ...] → [chunks, ..., n / chunks, ...]."""
  x = jnp.asarray(x)
  return jnp.moveaxis(x.reshape(*x.shape[:axis], chunks, -1, *x.shape[axis + 1 :]), axis, 0)


def _attend(qkv, bias, logit_scale, regions):
  q, k, v = (qkv[..., i, :] for i in range(3))
  weights = attention_weights(q, k, bias, logit_scale, regions).astype(v.dtype)
  return jnp.einsum("bmkqt,bmtkd->bmqkd", weights, v)


def attention_weights(
    q: jax.Array, k: jax.Array, bias: jax.Array, logit_scale: jax.Array | None, regions: jax.Array | np.ndarray | None
) -> jax.Array:
  """How much each query looks at each key of its window: float32 [B, M, K, N, N] (query, key); rows sum to 1.

  Args:
    q, k: [B, M, N, K, D] queries and keys.
    bias, logit_scale, regions: as in `window_attention`.
  """
  dtype = q.dtype
  if logit_scale is None:
    q = q.astype(jnp.float32) * q.shape[-1] ** -0.5
  else:
    # Above the bound the gradient is exactly zero; jnp.minimum would split ties.
    scale = jnp.exp(jnp.where(logit_scale > MAX_LOGIT_SCALE, MAX_LOGIT_SCALE, logit_scale))
    q = _unit(q) * scale[None, None, None, :, None]  # the temperature on q: D values a token instead of N
    k = _unit(k)
  q, k = q.astype(dtype), k.astype(dtype)
  logits = jnp.einsum("bmqkd,bmtkd->bmkqt", q, k, preferred_element_type=jnp.float32)
  bias = bias[None, None]
  logits += bias if regions is None else bias + _region_mask(regions)[None, :, None]
  return jax.nn.softmax(logits, axis=-1)


def _unit(x: jax.Array) -> jax.Array:
  """x / max(‖x‖, 1e-12) over the last axis, float32, with a zero gradient instead of NaN at x = 0."""
  x = x.astype(jnp.float32)
  return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-24))


def _region_mask(regions: jax.Array | np.ndarray) -> jax.Array:
  """[M, N] labels → [M, N, N] additive float32 mask."""
  regions = jnp.asarray(regions)  # compared in the program: M·N·N constants would fill it, on a large map
  query, key = regions[:, :, None], regions[:, None, :]
  mask = jnp.where(query == key, 0.0, REGION_MASK)
  return jnp.where((query < 0) != (key < 0), PADDING_MASK, mask)
