"""SimMIM: masked patches in, their pixels out. Letters: see `windows.py`."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from swin_jax.mesh import axes
from swin_jax.models import layers
from swin_jax.models.backbone import Backbone, Losses


class SimMim(nn.Module):
  """A backbone that sees a mask token instead of the masked patches, and one linear layer back to pixels
  (SimMIM, section 3).

  Attributes:
    encoder: the backbone; its last stage predicts the pixels of one stride per token.

  Shapes:
    images [B, *size, bands]  normalised
    mask   [B, *map]          bool, true = masked; of the first level
    out    as images, float32; in training a pair: this, and the losses of the backbone
  """

  encoder: Backbone

  @nn.compact
  def __call__(
    self, images: jax.Array, mask: jax.Array, *, train: bool = False
  ) -> jax.Array | tuple[jax.Array, Losses]:
    bands, (stride, channels) = images.shape[-1], self.encoder.levels[-1]
    mask_token = self.param(
      "mask_token", layers.boxed(layers.default_init, None), (self.encoder.levels[0].channels,)
    )
    x, _, losses = self.encoder(images, mask=mask, mask_token=mask_token, train=train)
    init = layers.fan_in_uniform(channels)
    x = layers.dense(
      math.prod(stride) * bands, (axes.EMBED, axes.PIXELS), init=init, bias_init=init, name="decoder"
    )(x.astype(jnp.float32))
    # the rows of one square lie on several devices
    x = layers.gather(x, axes.BATCH, *(None,) * len(stride), axes.PIXELS)
    # The official pixel shuffle: band, then the axes inside the square, row by row.
    batch, *tokens, _ = x.shape
    x = x.reshape(batch, *tokens, bands, *stride)
    rank = len(stride)
    order = [axis for i in range(rank) for axis in (1 + i, 2 + rank + i)]
    x = x.transpose(0, *order, 1 + rank)
    x = x.reshape(batch, *(n * side for n, side in zip(tokens, stride, strict=True)), bands)
    x = x[(slice(None), *map(slice, images.shape[1:-1]))]
    return (x, losses) if train else x
