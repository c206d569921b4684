"""Window attention, and the parts of it that differ between Swin V1 and V2. Letters: see `windows.py`."""

from collections.abc import Callable
import math

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name
import jax.numpy as jnp
import numpy as np

from swin_jax.kernels.window_attention import window_attention
from swin_jax.mesh import axes, sharding
from swin_jax.models import layers, windows
from swin_jax.terminal.errors import BadInput

BIAS_MLP_WIDTH = 512  # official code; the paper does not state it
# Collection and name under which (qkv, bias table, logit scale or None) are sown if the model is applied with
# this collection mutable, as `attention_maps` and `fixed_bias` do. Otherwise, and so always in training,
# nothing extra is kept or computed.
INTERMEDIATES = ("intermediates", "attention")


def fixed_bias(window: tuple[int, ...]) -> str:
  """Returns the name of the parameter that may replace the parameters of the bias MLP.

  It is float32 [K, N, N], the bias that the MLP computes for this window.
  """
  return "bias_" + "x".join(map(str, window))


class WindowAttention(nn.Module):
  """Multi-head attention inside each window, with a bias for the offset between two tokens.

  A token attends only to the tokens of its own window and region.

  Attributes:
    num_heads: K. Must divide C.
    scores: (this module, x) → queries, keys and values [B, M, N, K, 3, D], and the logit scale [K] or None:
      `cosine` or `dot_product`.
    position_bias: (this module) → the bias of every offset, float32 [offsets, K], and the index of its row
      for every query and key, int [N, N]: `bias_table` or `bounded_bias_mlp`.
    window: tokens along each axis.
    trained_window: tokens along each axis of the window that a bias MLP was trained with.
    table_window, bias_rows: window and rows of a bias table, see `windows.relative_index`.
    dtype: dtype of the matrix products. Logits, softmax and bias are always float32.
    chunks: number of parts in which the attention of an image is computed, one after the other, see
      `windows.chunk_counts`.
    kernel: see `kernels.window_attention`.

  Shapes:
    x       [B, M, N, C]  dtype
    regions [M, N]        labels from `windows.regions`, or None if every window is one region
    out     [B, M, N, C]  dtype
  """

  num_heads: int
  scores: Callable[["WindowAttention", jax.Array], tuple[jax.Array, jax.Array | None]]
  position_bias: Callable[["WindowAttention"], tuple[jax.Array, np.ndarray]]
  window: tuple[int, ...]
  trained_window: tuple[int, ...]
  table_window: tuple[int, ...]
  bias_rows: str
  dtype: jnp.dtype
  chunks: int
  kernel: str

  @nn.compact
  def __call__(self, x: jax.Array, regions: np.ndarray | None) -> jax.Array:
    qkv, logit_scale = self.scores(self, x)
    bias, index = self.get_variable("params", fixed_bias(self.window)), None
    if bias is None:
      bias, index = self.position_bias(self)
      self.sow(*INTERMEDIATES, (qkv, bias, logit_scale))
    out = _attend(qkv, bias, index, logit_scale, regions, self.chunks, self.kernel)
    out = layers.dense(x.shape[-1], (axes.HEADS, axes.EMBED), dtype=self.dtype, name="proj")(
      out.reshape(x.shape)
    )
    return checkpoint_name(out, "attention_output")


def cosine(module: WindowAttention, x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Computes the inputs of scaled cosine attention (Swin V2, section 3.2).

  Scores are cosines, so large activations cannot make them explode. A learned temperature per head, at least
  0.01, sets how sharp the softmax is.
  """
  c, k = x.shape[-1], module.num_heads
  zeros = layers.boxed(nn.initializers.zeros, axes.HEADS)
  q_bias = module.param("q_bias", zeros, (c,)).reshape(k, c // k)
  v_bias = module.param("v_bias", zeros, (c,)).reshape(k, c // k)
  # keys have no bias: it would cancel in the softmax
  qkv_bias = jnp.stack([q_bias, jnp.zeros_like(q_bias), v_bias], axis=1)
  logit_scale = module.param(
    "logit_scale", layers.boxed(nn.initializers.constant(np.log(10.0)), axes.HEADS), (k,)
  )
  qkv = layers.dense(3 * c, (axes.EMBED, axes.HEADS), use_bias=False, dtype=module.dtype, name="qkv")(x)
  qkv = qkv.reshape(*x.shape[:3], k, 3, c // k) + qkv_bias.astype(module.dtype)[None, None, None]
  return qkv, logit_scale


def dot_product(module: WindowAttention, x: jax.Array) -> tuple[jax.Array, None]:
  """Computes the inputs of scaled dot-product attention (Swin V1, section 3.2)."""
  c, k = x.shape[-1], module.num_heads
  qkv = layers.dense(3 * c, (axes.EMBED, axes.HEADS), dtype=module.dtype, name="qkv")(x)
  return qkv.reshape(*x.shape[:3], k, 3, c // k), None


def bias_table(module: WindowAttention) -> tuple[jax.Array, np.ndarray]:
  """Returns a learned bias for every offset in the table's window, and the index (Swin V1, section 3.2)."""
  entries = math.prod(2 * side - 1 for side in module.table_window)
  init = layers.boxed(layers.default_init, None, axes.HEADS)
  table = module.param("bias_table", init, (entries, module.num_heads))
  return table, windows.relative_index(module.window, module.table_window, module.bias_rows)


def bounded_bias_mlp(module: WindowAttention) -> tuple[jax.Array, np.ndarray]:
  """Computes the bias of every offset, between 0 and 16, with a small MLP (Swin V2, section 3.3).

  The MLP reads log-spaced offsets in units of the trained window. As it is a function instead of a table, the
  same weights work for any window size.

  Raises:
    BadInput: the parameters hold the fixed bias of another window instead of the MLP.
  """
  if any(name.startswith("bias_") for name in module.variables.get("params", ())):
    raise BadInput(f"the bias was fixed for windows other than {module.window}: use the original parameters")
  offsets = windows.log_spaced_offsets(module.window, module.trained_window)
  hidden = nn.relu(layers.dense(BIAS_MLP_WIDTH, (None, None), name="cpb_fc1")(offsets))
  per_offset = layers.dense(module.num_heads, (None, axes.HEADS), use_bias=False, name="cpb_fc2")(hidden)
  return 16.0 * nn.sigmoid(per_offset), windows.relative_index(module.window)


def _attend(qkv, bias, index, logit_scale, regions, chunks, kernel) -> jax.Array:
  """Runs `window_attention` on each device, for the images and heads that it holds.

  The bias is [K, N, N], or a table [offsets, K] with an index [N, N] into it. Each device expands the table
  itself, so that devices sum only the gradient of the table, which is much smaller than [K, N, N].
  """

  def attend(qkv, bias, logit_scale):
    bias = bias if index is None else bias.T[:, index]
    window_chunks, head_chunks = windows.chunk_counts(chunks, qkv.shape[1], qkv.shape[3])
    return window_attention(
      qkv, bias, logit_scale, regions, kernel=kernel, window_chunks=window_chunks, head_chunks=head_chunks
    )

  qkv_names = (axes.BATCH, None, None, axes.HEADS, None, None)
  names = (qkv_names, (axes.HEADS, None, None) if index is None else (None, axes.HEADS), (axes.HEADS,))
  out = sharding.per_device(attend, (checkpoint_name(qkv, "qkv"), bias, logit_scale), names, qkv_names[:-1])
  return checkpoint_name(out, "attention")
