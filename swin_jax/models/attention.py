"""Window attention of Swin V2 and Swin V1. Letters: see `windows.py`."""

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
import numpy as np

from swin_jax.kernels.window_attention import window_attention
from swin_jax.mesh import axes, sharding
from swin_jax.models import layers, windows
from swin_jax.terminal.errors import BadInput

BIAS_MLP_WIDTH = 512  # official code; the paper does not say
# Collection and name under which (qkv, bias table, logit scale or None) are left for those who apply a model
# with this collection mutable: for pictures of attention, and to fix the bias. For all others, training above
# all, nothing is kept or computed.
SEEN = ("intermediates", "attention")


def fixed_bias(window_size: tuple[int, int]) -> str:
  """Name of a parameter [K, N, N] that may take the place of the bias MLP's: what it makes of this window."""
  return "bias_{}x{}".format(*window_size)


class CosineWindowAttention(nn.Module):
  """Scaled cosine attention inside each window (Swin V2, sections 3.2 and 3.3).

  A token attends only to the tokens of its own window. Scores are cosines, so large activations cannot make
  them explode; a learned temperature per head, kept above 0.01, sets their sharpness. Position enters as a
  bias that a small MLP computes from the log-spaced offset between two tokens: a function, not a table, so
  the same weights serve any window size.

  Attributes:
    num_heads: K. Must divide C.
    window_size: (h, w) in tokens, not pixels.
    trained_window_size: (h, w) the offset MLP was trained with; offsets are measured in units of it.
    dtype: of the matrix products. Logits, softmax and the bias are always float32.
    chunks: parts that the attention of an image is computed in, one after the other, see
      `windows.chunk_counts`.
    kernel: see `kernels.window_attention`.

  Shapes:
    x       [B, M, N, C]  dtype
    regions [M, N]        labels from `windows.regions`, or None if every window is one region
    out     [B, M, N, C]  dtype
  """

  num_heads: int
  window_size: tuple[int, int]
  trained_window_size: tuple[int, int]
  dtype: jnp.dtype
  chunks: int
  kernel: str

  @nn.compact
  def __call__(self, x: jax.Array, regions: np.ndarray | None) -> jax.Array:
    c, k = x.shape[-1], self.num_heads
    zeros = layers.boxed(nn.initializers.zeros, axes.HEADS)
    q_bias = self.param("q_bias", zeros, (c,)).reshape(k, c // k)
    v_bias = self.param("v_bias", zeros, (c,)).reshape(k, c // k)
    # keys have none: softmax would not see it
    qkv_bias = jnp.stack([q_bias, jnp.zeros_like(q_bias), v_bias], axis=1)
    logit_scale = self.param(
      "logit_scale", layers.boxed(nn.initializers.constant(np.log(10.0)), axes.HEADS), (k,)
    )

    qkv = layers.dense(3 * c, (axes.EMBED, axes.HEADS), use_bias=False, dtype=self.dtype, name="qkv")(x)
    qkv = qkv.reshape(*x.shape[:3], k, 3, c // k) + qkv_bias.astype(self.dtype)[None, None, None]
    bias = self.get_variable("params", fixed_bias(self.window_size))
    if bias is None:
      bias = self._bias_table()
      self.sow(*SEEN, (qkv, bias, logit_scale))
    out = _attend(qkv, bias, logit_scale, regions, self.window_size, self.chunks, self.kernel)
    out = layers.dense(c, (axes.HEADS, axes.EMBED), dtype=self.dtype, name="proj")(out.reshape(x.shape))
    return checkpoint_name(out, "attention_output")

  def _bias_table(self) -> jax.Array:
    """The continuous relative position bias of every offset, [offsets, K] float32, between 0 and 16."""
    if any(name.startswith("bias_") for name in self.variables.get("params", ())):
      raise BadInput(
        f"the bias was fixed for other windows than {self.window_size}: take the parameters as they were"
        " before"
      )
    offsets = windows.log_spaced_offsets(self.window_size, self.trained_window_size)
    hidden = nn.relu(layers.dense(BIAS_MLP_WIDTH, (None, None), name="cpb_fc1")(offsets))
    per_offset = layers.dense(self.num_heads, (None, axes.HEADS), use_bias=False, name="cpb_fc2")(hidden)
    return 16.0 * nn.sigmoid(per_offset)


class DotProductWindowAttention(nn.Module):
  """Scaled dot-product attention inside each window with a table of position biases (Swin V1, section 3.2).

  Attributes, shapes: as `CosineWindowAttention`; the table belongs to the window it was trained with, so
  there is no other.
  """

  num_heads: int
  window_size: tuple[int, int]
  dtype: jnp.dtype
  chunks: int
  kernel: str

  @nn.compact
  def __call__(self, x: jax.Array, regions: np.ndarray | None) -> jax.Array:
    c, k = x.shape[-1], self.num_heads
    h, w = self.window_size
    table_init = layers.boxed(layers.default_init, None, axes.HEADS)
    table = self.param("bias_table", table_init, ((2 * h - 1) * (2 * w - 1), k))
    qkv = layers.dense(3 * c, (axes.EMBED, axes.HEADS), dtype=self.dtype, name="qkv")(x)
    qkv = qkv.reshape(*x.shape[:3], k, 3, c // k)
    self.sow(*SEEN, (qkv, table, None))
    out = _attend(qkv, table, None, regions, self.window_size, self.chunks, self.kernel)
    out = layers.dense(c, (axes.HEADS, axes.EMBED), dtype=self.dtype, name="proj")(out.reshape(x.shape))
    return checkpoint_name(out, "attention_output")


def _attend(qkv, bias, logit_scale, regions, window_size, chunks, kernel) -> jax.Array:
  """`window_attention` of the images and heads that a device holds.

  The bias is [K, N, N], or a table [offsets, K]. That is spread out on each device, so that devices sum the
  gradient of the table, which is N times smaller.
  """
  is_table = bias.ndim == 2

  def attend(qkv, bias, logit_scale):
    bias = bias.T[:, windows.relative_index(window_size)] if is_table else bias
    window_chunks, head_chunks = windows.chunk_counts(chunks, qkv.shape[1], qkv.shape[3])
    return window_attention(
      qkv, bias, logit_scale, regions, kernel=kernel, window_chunks=window_chunks, head_chunks=head_chunks
    )

  qkv_names = (axes.BATCH, None, None, axes.HEADS, None, None)
  names = (qkv_names, (None, axes.HEADS) if is_table else (axes.HEADS, None, None), (axes.HEADS,))
  out = sharding.per_device(attend, (checkpoint_name(qkv, "qkv"), bias, logit_scale), names, qkv_names[:-1])
  return checkpoint_name(out, "attention")
