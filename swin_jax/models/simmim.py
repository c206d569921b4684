"""SimMIM: masked patches in, their pixels out. Letters: see `windows.py`."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from swin_jax.mesh import axes
from swin_jax.models import layers
from swin_jax.models.swin import Swin


class SimMim(nn.Module):
  """A backbone that sees a mask token instead of the masked patches, and one linear layer back to pixels
  (SimMIM, section 3).

  Attributes:
    encoder: its last stage predicts a square of stride × stride pixels per token.

  Shapes:
    images [B, H·p, W·p, bands]  normalised
    mask   [B, H, W]             bool, true = masked
    out    as images, float32
  """

  encoder: Swin

  @nn.compact
  def __call__(self, images: jax.Array, mask: jax.Array, *, train: bool = False) -> jax.Array:
    bands, r, c = images.shape[-1], self.encoder.stride, self.encoder.channels
    mask_token = self.param("mask_token", layers.boxed(layers.default_init, None), (self.encoder.embed_dim,))
    x, _ = self.encoder(images, mask=mask, mask_token=mask_token, train=train)
    init = layers.fan_in_uniform(c)
    x = layers.dense(r * r * bands, (axes.EMBED, axes.PIXELS), init=init, bias_init=init, name="decoder")(
      x.astype(jnp.float32)
    )
    x = layers.gather(x, axes.BATCH, None, None, axes.PIXELS)  # the rows of one square lie on several devices
    b, height, width, _ = x.shape
    # The official pixel shuffle: band, then row, then column inside the square.
    x = (
      x.reshape(b, height, width, bands, r, r)
      .transpose(0, 1, 4, 2, 5, 3)
      .reshape(b, height * r, width * r, bands)
    )
    return x[:, : images.shape[1], : images.shape[2]]
