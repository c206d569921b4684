"""UPerNet: classes or a number for every patch, from the pyramid of a backbone. Letters: see `windows.py`."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.mesh import axes
from swin_jax.models import layers
from swin_jax.models.backbone import Backbone, Losses
from swin_jax.terminal.errors import BadInput

POOLS = (1, 2, 3, 6)  # cells per side that the last stage is pooled to; UPerNet, section 3.1, after PSPNet
GROUP = 16  # channels that are normed together
AUXILIARY_WEIGHT = 0.4  # of the loss of the auxiliary classifier, in the recipes of Swin V1 and V2
DROPOUT = 0.1  # of the channels that a classifier reads; the segmentation configs of Swin


def group_norm(dtype: jnp.dtype, name: str | None = None) -> nn.GroupNorm:
  """Returns the norm of each image over its map and over `GROUP` channels at a time: eps 1e-5, two-pass
  variance, float32 inside, result in `dtype`.

  The published models have batch norm with statistics over all devices. This one has the same parameters, but
  no statistics of other images: any batch on any mesh gives the same result, nothing travels between devices,
  evaluation is the function that was trained, and there is no state beside the parameters. A group of several
  channels has a variance even where pooling leaves a map of one token; one channel alone would become zero
  there.
  """
  return nn.GroupNorm(
    num_groups=None,
    group_size=GROUP,
    epsilon=1e-5,
    use_fast_variance=False,
    dtype=dtype,
    scale_init=layers.boxed(nn.initializers.ones, None),
    bias_init=layers.boxed(nn.initializers.zeros, None),
    name=name,
  )


class ConvNorm(nn.Module):
  """A convolution without bias that keeps the size of the map, then a norm, then ReLU: what all of UPerNet is
  made of.

  Attributes:
    features: channels out.
    size: of the kernel, in tokens per side; odd.
    dtype: of the convolution and of the result.

  Raises:
    BadInput: `GROUP` does not divide the features.

  Shapes:
    x   [B, H, W, C]
    out [B, H, W, features]
  """

  features: int
  size: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if self.features % GROUP:
      raise BadInput(f"{self.name} has {self.features} channels: they do not divide into groups of {GROUP}")
    names = (None, None, axes.EMBED, axes.MLP)
    init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # the default of the published code
    kernel = self.param(
      "kernel", layers.boxed(init, *names), (self.size, self.size, x.shape[-1], self.features)
    )
    # else activations may travel instead
    kernel = layers.constrain(layers.narrow(kernel, names, self.dtype), None, None, None, axes.MLP)
    x = jax.lax.conv_general_dilated(
      x.astype(self.dtype), kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = layers.constrain(x, axes.BATCH, None, None, axes.MLP)
    # flax reads x twice: in float32, the two gradients are added before they are rounded
    x = nn.relu(group_norm(self.dtype, name="norm")(x.astype(jnp.float32)))
    return layers.constrain(x, axes.BATCH, None, None, None)  # the next one reads all channels


class UPerNet(nn.Module):
  """Unified perceptual parsing: pyramid pooling, a feature pyramid, and all levels fused at the finest (Xiao
  et al. 2018, section 3.1).

  Built as for the published Swin segmentation models. Every stage's output is normed; the last one with the
  backbone's own norm, so that a pre-trained one is used. Images of any size: a level is enlarged to exactly
  the map of the finer one, whatever the ratio.

  Attributes:
    encoder: the backbone; its dtype is that of the convolutions. Norms compute in float32, and so do the
      classifiers.
    num_classes: of both classifiers.
    channels: of every level. `GROUP` must divide it, and `aux_channels`.
    aux_channels: of the auxiliary classifier on the stage before the last, which only training has.

  Raises:
    BadInput: see `ConvNorm`; or a backbone of one stage.

  Shapes:
    images [B, height, width, bands]  normalised
    out    [B, H, W, num_classes]     float32 logits, a token for each patch. In training: a pair of these and
                                      of those of the auxiliary classifier at the stage before the last;
                                      and the losses of the backbone
  """

  encoder: Backbone
  num_classes: int
  channels: int = 512
  aux_channels: int = 256

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> jax.Array | tuple[tuple[jax.Array, jax.Array], Losses]:
    """Runs backbone and head; with `train` both need the rng "dropout"."""
    dtype = self.encoder.dtype

    def conv(size: int, x: jax.Array, name: str) -> jax.Array:
      return ConvNorm(self.channels, size, dtype, name=name)(x)

    last, maps, losses = self.encoder(images, train=train)
    if len(maps) < 2:
      raise BadInput("UPerNet needs a pyramid: a backbone of two stages or more")
    maps = [layers.LayerNorm(dtype, name=f"norm{i}")(x) for i, x in enumerate(maps[:-1])]

    pooled = [resize(conv(1, pool(last, k), f"pool{k}"), last.shape[1:3]) for k in POOLS]
    levels = [conv(1, x, f"lateral{i}") for i, x in enumerate(maps)]
    levels.append(conv(3, jnp.concatenate([last, *pooled], axis=-1), "bottleneck"))
    for i in reversed(range(len(maps))):
      levels[i] += resize(levels[i + 1], levels[i].shape[1:3])
    levels[:-1] = [conv(3, x, f"fpn{i}") for i, x in enumerate(levels[:-1])]
    x = jnp.concatenate([resize(x, maps[0].shape[1:3]) for x in levels], axis=-1)
    logits = self._classify(conv(3, x, "fuse"), "classifier", train)
    if not (train or self.is_initializing()):
      return logits
    x = ConvNorm(self.aux_channels, 3, dtype, name="auxiliary")(maps[-1])
    return (logits, self._classify(x, "auxiliary_classifier", train)), losses

  def _classify(self, x: jax.Array, name: str, train: bool) -> jax.Array:
    """Logits, float32. In training whole channels of an image are dropped: neighbours would give away a
    single token.
    """
    x = nn.Dropout(DROPOUT, broadcast_dims=(1, 2), deterministic=not train, name=f"{name}_dropout")(x)
    init = nn.initializers.normal(0.01)  # of the published code
    return layers.dense(self.num_classes, (axes.EMBED, axes.CLASSES), init=init, name=name)(x)


def pool(x: jax.Array, cells: int) -> jax.Array:
  """The mean over each of cells × cells parts of a map, [B, H, W, C] → [B, cells, cells, C], whatever the
  size of the map.

  Part i of n tokens reaches from ⌊i·n/cells⌋ to ⌈(i+1)·n/cells⌉, as torch's adaptive pooling has it: where
  cells do not divide n, parts overlap; where n is smaller, tokens repeat. The mean is taken in float32.
  """
  rows, columns = (_means(side, cells) for side in x.shape[1:3])
  return _product(rows, columns, x.astype(jnp.float32)).astype(x.dtype)


def resize(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Bilinear interpolation of a map to another size, [B, H, W, C] → [B, *size, C], in the dtype of x.

  As torch's `interpolate(align_corners=False)`: the edges of both maps coincide, what lies beyond the
  outermost centres is that of the edge, and nothing is smoothed where the map shrinks. `jax.image.resize`
  rounds the positions of the tokens to float32, which makes its weights wrong by up to 2e-5 (333 → 500).
  """
  if x.shape[1:3] == tuple(size):
    return x
  rows, columns = (_interpolation(*sides) for sides in zip(x.shape[1:3], size, strict=True))
  return _product(rows, columns, x)


def flops(model: UPerNet, image_size: tuple[int, int], bands: int) -> int:
  """Floating point operations of one image's forward pass outside of training, two per multiply-add, as
  `Backbone.flops` counts them.

  Counted are the backbone, convolutions, norms and the classifier, not pooling and resizing: the published
  numbers of the models of windows of 7 come out of this to the printed digit.
  """
  encoder, width = model.encoder, model.channels
  tokens = [math.prod(level.map_size(image_size)) for level in encoder.levels]
  channels = [level.channels for level in encoder.levels]

  def conv(positions: int, inputs: int, size: int) -> int:
    return positions * width * (inputs * size**2 + 1)  # and the norm

  macs = sum(conv(k * k, channels[-1], 1) for k in POOLS)
  macs += conv(tokens[-1], channels[-1] + len(POOLS) * width, 3)
  for n, c in zip(tokens[:-1], channels[:-1], strict=True):
    macs += n * c + conv(n, c, 1) + conv(n, width, 3)
  macs += conv(tokens[0], len(tokens) * width, 3) + tokens[0] * width * model.num_classes
  return encoder.flops(image_size, bands) + 2 * macs


def _product(rows: np.ndarray, columns: np.ndarray, x: jax.Array) -> jax.Array:
  """The map x between two matrices, float32 [new, old], in the dtype of x: matrix products have fast
  gradients, gathers have not.
  """
  rows, columns = (jnp.asarray(matrix, x.dtype) for matrix in (rows, columns))
  x = jnp.einsum("jw,bhwc->bhjc", columns, x, precision="highest")
  return jnp.einsum("ih,bhjc->bijc", rows, x, precision="highest")


def _means(old: int, new: int) -> np.ndarray:
  matrix = np.zeros((new, old), np.float32)
  for i in range(new):
    begin, end = i * old // new, -(-(i + 1) * old // new)
    matrix[i, begin:end] = 1 / (end - begin)
  return matrix


def _interpolation(old: int, new: int) -> np.ndarray:
  centre = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
  distance = np.abs(centre[:, None] - np.arange(old)[None])
  return np.maximum(0, 1 - distance).astype(np.float32)
