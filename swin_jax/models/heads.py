"""The classification head. Letters: see `windows.py`."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from swin_jax.mesh import axes
from swin_jax.models import layers
from swin_jax.models.backbone import Backbone, Losses


class Classifier(nn.Module):
  """Mean over the tokens of the last stage, then a linear layer.

  Attributes:
    encoder: the backbone.
    num_classes: outputs of the linear layer; 0 for no linear layer, so that the output is the pooled features
      [B, C].

  Shapes:
    images [B, *size, bands]  normalised
    out    [B, num_classes]   float32 logits; in training a pair of these and the losses of the backbone
  """

  encoder: Backbone
  num_classes: int

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array | tuple[jax.Array, Losses]:
    x, _, losses = self.encoder(images, train=train)
    x = jnp.mean(x.astype(jnp.float32), axis=tuple(range(1, x.ndim - 1)))
    if self.num_classes:
      x = layers.dense(self.num_classes, (axes.FEATURES, axes.CLASSES), name="head")(x)
    return (x, losses) if train else x
