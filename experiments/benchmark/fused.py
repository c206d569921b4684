"""timm's window attention computed by PyTorch's fused operations, which store no logits. Function and
parameters are the same.

Letters: B images, M windows of each, K heads, N tokens of a window, D channels of a head.
"""

import math

from timm.models.swin_transformer_v2 import WindowAttention
import torch
from torch.nn import functional
from torch.nn.attention.flex_attention import flex_attention


def replace_attention(model: torch.nn.Module, attention: type[WindowAttention]) -> None:
  """Replaces the class of all window attention in a timm model, keeping the parameters."""
  for module in model.modules():
    if isinstance(module, WindowAttention):
      module.__class__ = attention


class FusedAttention(WindowAttention):
  """Scaled cosine attention around `attend`, with the temperature folded into the queries.

  Attention dropout is not implemented, because the benchmarked models use only stochastic depth.
  """

  def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    windows, tokens, channels = x.shape
    bias = torch.cat((self.q_bias, self.k_bias, self.v_bias))
    qkv = functional.linear(x, self.qkv.weight, bias).view(windows, tokens, 3, self.num_heads, -1)
    query, key, value = qkv.permute(2, 0, 3, 1, 4)
    query = functional.normalize(query, dim=-1) * self.logit_scale.clamp(max=math.log(100)).exp()
    out = self.attend(query, functional.normalize(key, dim=-1), value, self.position_bias(tokens), mask)
    return self.proj(out.transpose(1, 2).reshape(windows, tokens, channels))

  def position_bias(self, tokens: int) -> torch.Tensor:
    """Returns the bias [K, N, N], contiguous as the fused operations require."""
    table = 16 * torch.sigmoid(self.cpb_mlp(self.relative_coords_table).flatten(0, 2))
    return (
      table[self.relative_position_index.flatten()].view(tokens, tokens, -1).permute(2, 0, 1).contiguous()
    )

  def attend(
    self,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    mask: torch.Tensor | None,
  ) -> torch.Tensor:
    """Computes softmax attention.

    Args:
      query, key, value: [B·M, K, N, D]; queries and keys are normalised and scaled.
      bias: [K, N, N].
      mask: [M, N, N], also added to the logits, or None.

    Returns:
      [B·M, K, N, D].
    """
    raise NotImplementedError


class SdpaAttention(FusedAttention):
  """Uses scaled_dot_product_attention, with bias and mask as its attn_mask."""

  def attend(self, query, key, value, bias, mask):
    if mask is None:
      return functional.scaled_dot_product_attention(query, key, value, attn_mask=bias[None], scale=1.0)
    # Windows are merged with heads, so that one sum of bias and mask serves all images.
    m, (k, n, _) = len(mask), bias.shape
    query, key, value = (x.reshape(-1, m * k, n, x.shape[-1]) for x in (query, key, value))
    added = (bias[None] + mask[:, None]).view(1, m * k, n, n)
    out = functional.scaled_dot_product_attention(query, key, value, attn_mask=added, scale=1.0)
    return out.reshape(-1, k, n, out.shape[-1])


class FlexAttention(FusedAttention):
  """Uses FlexAttention, adding bias and mask in its score_mod."""

  def attend(self, query, key, value, bias, mask):
    def with_bias(score, window, head, i, j):
      return score + bias[head, i, j]

    def with_both(score, window, head, i, j):
      return score + bias[head, i, j] + mask[window % len(mask), i, j]

    return flex_attention(query, key, value, score_mod=with_bias if mask is None else with_both, scale=1.0)
