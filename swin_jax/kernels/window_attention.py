"""Attention inside windows: the function that models call, and its XLA implementation."""

import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.kernels import formula
from swin_jax.terminal.errors import BadInput

CHOICES = ("auto", "xla", "gpu")  # values of the config key `attention_kernel`, see `choose`
# Chips with 16 MiB of on-chip memory, too little for the bias of windows of 24×24 tokens or more.
SMALL = ("TPU v2", "TPU v3", "TPU v4")


def window_attention(
  qkv: jax.Array,
  bias: jax.Array,
  logit_scale: jax.Array | None,
  regions: np.ndarray | None,
  *,
  kernel: str = "xla",
  window_chunks: int = 1,
  head_chunks: int = 1,
) -> jax.Array:
  """Computes softmax attention among the tokens of each window.

  With a logit scale this is scaled cosine attention (Swin V2, section 3.2); without one it is the scaled dot
  product of Swin V1.

  "xla" lets the compiler decide what stays on the chip; the logits do not. With chunks, only the logits of
  one chunk exist at a time. This holds in the backward pass too, which recomputes them: the sequential
  self-attention of Swin V2, section 3.4. "tpu" (`tpu.py`) and "gpu" (`gpu.py`) are kernels that never store
  the logits and so need no chunks. "gpu" is used only on request.

  Args:
    qkv: [B, M, N, K, 3, D] queries, keys and values of each head, in the compute dtype.
    bias: [K, N, N] float32, added to the logits (query, key).
    logit_scale: [K] float32, the log of the inverse temperature of each head, or None.
    regions: int [M, N] from `windows.regions`, or None. Tokens attend within their region; label -1 is
      padding.
    kernel: "xla" on any device, "tpu" on TPUs, or "gpu" on NVIDIA GPUs.
    window_chunks, head_chunks: number of parts of the M windows and of the K heads; "xla" computes the
      parts one after the other.

  Returns:
    [B, M, N, K, D] in the dtype of qkv. Logits and softmax are float32.
  """
  if kernel != "xla":
    if kernel == "tpu":  # Pallas is slow to import, so other runs do not import it
      from swin_jax.kernels import tpu as own
    else:
      from swin_jax.kernels import gpu as own

    heads, cosine = qkv.shape[3], logit_scale is not None
    scale = (
      formula.query_scale(logit_scale) if cosine else jnp.full(heads, qkv.shape[-1] ** -0.5, jnp.float32)
    )
    return own.window_attention(qkv, bias, scale, regions, cosine=cosine)

  def attend(qkv, bias, logit_scale):
    return _one_after_another(
      lambda qkv, regions: _attend(qkv, bias, logit_scale, regions), window_chunks, (qkv, regions), (1, 0), 1
    )

  return _one_after_another(attend, head_chunks, (qkv, bias, logit_scale), (3, 0, 0), 3)


def choose(kernel: str, device: jax.Device) -> str:
  """Returns the kernel to use: for "auto" the best one for the device, otherwise `kernel` itself."""
  if kernel != "auto":
    return kernel
  return "tpu" if device.platform == "tpu" and device.device_kind not in SMALL else "xla"


def check(kernel: str, platform: str) -> None:
  """Checks that devices of this platform can run the requested kernel.

  Raises:
    BadInput: they cannot.
  """
  if kernel == "gpu" and platform != "gpu":
    raise BadInput(
      f"the attention kernel 'gpu' needs NVIDIA GPUs, but the platform is '{platform}'; use 'auto'"
    )


def _one_after_another(function, chunks, arrays, split, out_split):
  """Computes function(*arrays) in chunks, one after the other.

  Each array is split along its axis in `split`; the results are joined along `out_split`.
  """
  if chunks == 1:
    return function(*arrays)
  parts = [None if x is None else _split(x, chunks, axis) for x, axis in zip(arrays, split, strict=True)]
  # Inside a loop, common-subexpression elimination cannot undo the recomputation.
  out = jax.lax.map(jax.checkpoint(lambda part: function(*part), prevent_cse=False), parts)
  shape = out.shape[1 : out_split + 1] + (-1,) + out.shape[out_split + 2 :]
  return jnp.moveaxis(out, 0, out_split).reshape(shape)


def _split(x, chunks, axis):
  """Splits one axis into chunks: [..., n, ...] → [chunks, ..., n / chunks, ...]."""
  x = jnp.asarray(x)
  return jnp.moveaxis(x.reshape(*x.shape[:axis], chunks, -1, *x.shape[axis + 1 :]), axis, 0)


def _attend(qkv, bias, logit_scale, regions):
  q, k, v = (qkv[..., i, :] for i in range(3))
  weights = attention_weights(q, k, bias, logit_scale, regions).astype(v.dtype)
  return jnp.einsum("bmkqt,bmtkd->bmqkd", weights, v)


def attention_weights(
  q: jax.Array,
  k: jax.Array,
  bias: jax.Array,
  logit_scale: jax.Array | None,
  regions: jax.Array | np.ndarray | None,
) -> jax.Array:
  """Computes the attention weights of each window: float32 [B, M, K, N, N] (query, key); rows sum to 1.

  Args:
    q, k: [B, M, N, K, D] queries and keys.
    bias, logit_scale, regions: as in `window_attention`.
  """
  dtype = q.dtype
  if logit_scale is None:
    q = q.astype(jnp.float32) * q.shape[-1] ** -0.5
  else:
    q, k = _unit(q), _unit(k)
  # At an inverse temperature of 100, rounding a cosine to two bytes changes the first digit of its weight.
  wide = logit_scale is not None and dtype != jnp.float32
  q, k = (x if wide else x.astype(dtype) for x in (q, k))
  # On GPUs and TPUs this is as exact as splitting each number into two two-byte parts.
  precision = jax.lax.Precision.HIGH if wide else None
  logits = jnp.einsum("bmqkd,bmtkd->bmkqt", q, k, precision=precision, preferred_element_type=jnp.float32)
  if logit_scale is not None:
    # Scaled after the product, as in the official code. At a temperature of 0.01 the order affects the fifth
    # digit of a model's outputs, so only the same order gives the same numbers.
    logits *= formula.query_scale(logit_scale)[None, None, :, None, None]
  bias = bias[None, None]
  logits += bias if regions is None else bias + _region_mask(regions)[None, :, None]
  return jax.nn.softmax(logits, axis=-1)


def _unit(x: jax.Array) -> jax.Array:
  x = x.astype(jnp.float32)
  return x * formula.inverse_norm(x)


def _region_mask(regions: jax.Array | np.ndarray) -> jax.Array:
  """Returns the additive mask, float32 [M, N, N], for the labels [M, N]."""
  regions = jnp.asarray(regions)  # else the program would hold M·N·N constants, too many for a large map
  return formula.region_mask(regions[:, :, None], regions[:, None, :])
