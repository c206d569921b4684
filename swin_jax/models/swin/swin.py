"""The backbone: patch embedding, stages of window attention, merging. Letters: see `models/windows.py`."""

from collections.abc import Sequence
import re
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.models import layers
from swin_jax.models.backbone import Features, Level
from swin_jax.models.swin import flops
from swin_jax.models.swin.block import VERSIONS
from swin_jax.models.swin.config import SwinConfig, group_size, make_config
from swin_jax.models.swin.stage import Stage, add


class Swin(nn.Module):
  """The Swin Transformer as a `Backbone` (Swin V1, section 3; Swin V2, section 3).

  Images may have any size and number of bands: sizes that are not multiples of patch or window are padded.

  Attributes:
    config: sizes of the model.

  Shapes:
    images, mask, out  see `Backbone`; stage i has embed_dim·2^i channels
  """

  config: SwinConfig

  @nn.compact
  def __call__(
    self,
    images: jax.Array,
    *,
    mask: jax.Array | None = None,
    mask_token: jax.Array | None = None,
    train: bool = False,
  ) -> Features:
    config, rates = self.config, None
    if config.drop_path_rate > 0:
      rates = np.linspace(0, config.drop_path_rate, sum(config.depths), dtype=np.float32)
      rates = np.split(rates, np.cumsum(config.depths)[:-1])
    x = layers.PatchEmbed(config.patch_size, config.embed_dim, config.dtype, name="patch_embed")(
      images.astype(config.dtype)
    )
    if mask is not None:
      x = jnp.where(mask[..., None], mask_token.astype(config.dtype)[(None,) * (x.ndim - 1)], x)
    maps, losses = [], {}
    for i in range(config.stages):
      stage = Stage(config, i, name=f"stage{i}")
      x, emitted = stage(x, None if rates is None else rates[i], train=train)
      losses = add(losses, emitted)
      maps.append(x)
      if i + 1 < config.stages:
        norm_first = VERSIONS[config.version].norm_first
        x = layers.PatchMerge(config.merge_size, norm_first, config.dtype, name=f"merge{i}")(x)
    return Features(layers.LayerNorm(config.dtype, name="norm")(x), tuple(maps), losses)

  @property
  def levels(self) -> tuple[Level, ...]:
    """The stride and channels of every stage."""
    return tuple(Level(self.config.stride(i), self.config.channels(i)) for i in range(self.config.stages))

  @property
  def dtype(self) -> Any:
    """The dtype of the matrix products and of the residual stream."""
    return self.config.dtype

  @property
  def num_layers(self) -> int:
    """The official layer number of the last norm and of the heads."""
    return sum(self.config.depths) + 1

  @nn.nowrap
  def flops(self, size: Sequence[int], bands: int) -> int:
    """Returns the floating-point operations of one forward pass, see `flops.flops`."""
    return flops.flops(self.config, tuple(size), bands)

  @nn.nowrap
  def layer_of(self, path: str) -> int | np.ndarray:
    """Returns the official layer number of a parameter, see `Backbone.layer_of`.

    The patch embedding is layer 0; block n, counted over all stages from 0, is layer n + 1; merging belongs
    to the last block before it; the last norm is layer `num_layers`.
    """
    depths = self.config.depths
    if path.startswith("patch_embed/"):
      return 0
    if m := re.match(r"merge(\d+)/", path):
      return sum(depths[: int(m[1]) + 1])
    if m := re.match(r"stage(\d+)/blocks/block(\d+)/", path):
      stage, position = int(m[1]), int(m[2])
      first = np.arange(0, depths[stage], group_size(depths[stage], self.config.extra_norm_every))
      return sum(depths[:stage]) + first + position + 1
    return self.num_layers


def make_encoder(**model: Any) -> Swin:
  """Returns the backbone for the plain values of the group `model` of a config.

  Raises:
    ValueError: see `make_config`.
  """
  return Swin(make_config(**model))
