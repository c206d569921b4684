"""What turns a backbone's features into an answer. Letters: see `windows.py`."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from swin_jax.mesh import axes
from swin_jax.models import layers
from swin_jax.models.swin import Swin


class Classifier(nn.Module):
  """Mean over the tokens of the last stage, then a linear layer.

  Attributes:
    encoder: the backbone.
    num_classes: of the linear layer; 0 for none, and the pooled features as they are.

  Shapes:
    images [B, height, width, bands]  normalised
    out    [B, num_classes]           float32 logits
  """

  encoder: Swin
  num_classes: int

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
    x = self.pool(images, train=train)
    if not self.num_classes:
      return x
    return layers.dense(self.num_classes, (axes.FEATURES, axes.CLASSES), name="head")(x)

  def pool(self, images: jax.Array, *, train: bool = False) -> jax.Array:
    """Pooled features [B, C], float32."""
    x, _ = self.encoder(images, train=train)
    return jnp.mean(x.astype(jnp.float32), axis=(1, 2))
