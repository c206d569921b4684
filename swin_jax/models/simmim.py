"""SimMIM: predicts the pixels of masked patches. Letters: see `windows.py`."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from swin_jax.mesh import axes
from swin_jax.models import layers
from swin_jax.models.backbone import Backbone, Losses


class SimMim(nn.Module):
  """A backbone that reads a mask token in place of each masked patch, and one linear layer that predicts
  pixels (SimMIM, section 3).

  Attributes:
    encoder: the backbone; each token of its last stage predicts the pixels that it covers.

  Shapes:
    images [B, *size, bands]  normalised
    mask   [B, *map]          bool, true = masked; map of the first level
    out    like images, float32; in training a pair of this and the losses of the backbone
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
    # The predicted pixels of one token may be split across devices.
    x = layers.gather(x, axes.BATCH, *(None,) * len(stride), axes.PIXELS)
    # The official pixel shuffle: channels are ordered by band, then by position inside the token.
    batch, *tokens, _ = x.shape
    x = x.reshape(batch, *tokens, bands, *stride)
    rank = len(stride)
    order = [axis for i in range(rank) for axis in (1 + i, 2 + rank + i)]
    x = x.transpose(0, *order, 1 + rank)
    x = x.reshape(batch, *(n * side for n, side in zip(tokens, stride, strict=True)), bands)
    x = x[(slice(None), *map(slice, images.shape[1:-1]))]
    return (x, losses) if train else x
