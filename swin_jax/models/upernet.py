"""UPerNet: dense prediction of classes or numbers, one per patch, from the feature pyramid of a backbone.

Letters: see `windows.py`.
"""

import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.mesh import axes
from swin_jax.models import layers, norms
from swin_jax.models.backbone import Backbone, Losses
from swin_jax.terminal.errors import BadInput

POOLS = (1, 2, 3, 6)  # cells per side of the pooled maps; UPerNet, section 3.1, after PSPNet
AUXILIARY_WEIGHT = 0.4  # weight of the auxiliary loss in the recipes of Swin V1 and V2
DROPOUT = 0.1  # dropout rate of the input channels of a classifier, from the segmentation configs of Swin


class ConvNorm(nn.Module):
  """The building block of UPerNet: a convolution without bias that keeps the size of the map, a norm, ReLU.

  Attributes:
    features: output channels.
    size: size of the kernel in tokens per side; odd.
    dtype: dtype of the convolution and of the result.
    norm: which norm, a key of `norms.NORMS`.

  Raises:
    BadInput: a group norm cannot divide `features` into groups.

  Shapes:
    x   [B, H, W, C]
    out [B, H, W, features]
  """

  features: int
  size: int
  dtype: jnp.dtype
  norm: str = "group"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if self.norm == "group" and self.features % norms.GROUP:
      raise BadInput(
        f"{self.name} has {self.features} channels, which do not divide into groups of {norms.GROUP}"
      )
    names = (None, None, axes.EMBED, axes.MLP)
    init = nn.initializers.variance_scaling(2.0, "fan_out", "normal")  # the default of the published code
    kernel = self.param(
      "kernel", layers.boxed(init, *names), (self.size, self.size, x.shape[-1], self.features)
    )
    # Otherwise the compiler may move activations between devices instead of the kernel.
    kernel = layers.constrain(layers.narrow(kernel, names, self.dtype), None, None, None, axes.MLP)
    x = jax.lax.conv_general_dilated(
      x.astype(self.dtype), kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = layers.constrain(x, axes.BATCH, None, None, axes.MLP)
    # flax reads x twice; in float32, the two gradients are added before they are rounded.
    x = nn.relu(norms.NORMS[self.norm](self.dtype, name="norm")(x.astype(jnp.float32)))
    return layers.constrain(x, axes.BATCH, None, None, None)  # the next layer reads all channels


class UPerNet(nn.Module):
  """Unified perceptual parsing: pyramid pooling and a feature pyramid, whose levels are fused at the finest
  resolution (Xiao et al. 2018, section 3.1).

  Built like the published Swin segmentation models. Every stage's output is normed, the last one by the
  backbone's own norm, so that a pre-trained norm is used. Images may have any size: each level is resized to
  exactly the map of the next finer level, whatever the ratio.

  Attributes:
    encoder: the backbone; convolutions have its dtype. Norms and classifiers compute in float32.
    num_classes: outputs of both classifiers.
    channels: channels of every level.
    auxiliary_channels: channels of the auxiliary classifier, which exists only in training.
    norm: of all convolutions: "group", which must divide both numbers of channels into groups, or "batch",
      with the fixed statistics of imported weights.

  Raises:
    BadInput: see `ConvNorm`; or the backbone has only one stage.

  Shapes:
    images [B, height, width, bands]  normalised
    out    [B, H, W, num_classes]     float32 logits, one token per patch. In training: (pair of these and the
                                      logits of the auxiliary classifier on the map of the second-to-last
                                      stage, losses of the backbone)
  """

  encoder: Backbone
  num_classes: int
  channels: int = 512
  auxiliary_channels: int = 256
  norm: str = "group"

  @nn.compact
  def __call__(
    self, images: jax.Array, *, train: bool = False
  ) -> jax.Array | tuple[tuple[jax.Array, jax.Array], Losses]:
    """Runs backbone and head; with `train`, both need the rng "dropout"."""
    dtype = self.encoder.dtype

    def conv(size: int, x: jax.Array, name: str) -> jax.Array:
      return ConvNorm(self.channels, size, dtype, self.norm, name=name)(x)

    last, maps, losses = self.encoder(images, train=train)
    if len(maps) < 2:
      raise BadInput("UPerNet needs a backbone of at least two stages")
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
    x = ConvNorm(self.auxiliary_channels, 3, dtype, self.norm, name="auxiliary")(maps[-1])
    return (logits, self._classify(x, "auxiliary_classifier", train)), losses

  def _classify(self, x: jax.Array, name: str, train: bool) -> jax.Array:
    """Computes float32 logits.

    In training, whole channels of an image are dropped: a single dropped token could be inferred from its
    neighbours.
    """
    x = nn.Dropout(DROPOUT, broadcast_dims=(1, 2), deterministic=not train, name=f"{name}_dropout")(x)
    init = nn.initializers.normal(0.01)  # as in the published code
    return layers.dense(self.num_classes, (axes.EMBED, axes.CLASSES), init=init, name=name)(x)


def pool(x: jax.Array, cells: int) -> jax.Array:
  """Computes the means of cells × cells parts of a map of any size: [B, H, W, C] → [B, cells, cells, C].

  As in torch's adaptive pooling, part i of n tokens spans ⌊i·n/cells⌋ to ⌈(i+1)·n/cells⌉. Parts overlap if
  `cells` does not divide n; tokens repeat if n is smaller than `cells`. The mean is computed in float32.
  """
  rows, columns = (_means(side, cells) for side in x.shape[1:3])
  return _product(rows, columns, x.astype(jnp.float32)).astype(x.dtype)


def resize(x: jax.Array, size: tuple[int, int]) -> jax.Array:
  """Resizes a map by bilinear interpolation: [B, H, W, C] → [B, *size, C], in the dtype of x.

  As in torch's `interpolate(align_corners=False)`, the edges of both maps coincide, positions beyond the
  outermost token centres take the value of the edge, and there is no antialiasing when the map shrinks.
  `jax.image.resize` rounds the positions of the tokens to float32, which makes its weights wrong by up to
  2e-5 (333 → 500).
  """
  if x.shape[1:3] == tuple(size):
    return x
  rows, columns = (_interpolation(*sides) for sides in zip(x.shape[1:3], size, strict=True))
  return _product(rows, columns, x)


class _Size(NamedTuple):
  """Size of a `ConvNorm`: positions of its map, channels in and out, and side of the kernel."""

  positions: int
  inputs: int
  outputs: int
  side: int


def _convolutions(model: UPerNet, image_size: tuple[int, int]) -> list[_Size]:
  """Returns the convolutions of the head; the last is the auxiliary one, which only training has."""
  levels, width = model.encoder.levels, model.channels
  tokens = [math.prod(level.map_size(image_size)) for level in levels]
  channels = [level.channels for level in levels]
  pooled = [_Size(k * k, channels[-1], width, 1) for k in POOLS]
  bottleneck = _Size(tokens[-1], channels[-1] + len(POOLS) * width, width, 3)
  pyramid = []
  for n, c in zip(tokens[:-1], channels[:-1], strict=True):
    pyramid += [_Size(n, c, width, 1), _Size(n, width, width, 3)]
  fuse = _Size(tokens[0], len(tokens) * width, width, 3)
  return [*pooled, bottleneck, *pyramid, fuse, _Size(tokens[-2], channels[-2], model.auxiliary_channels, 3)]


def flops(model: UPerNet, image_size: tuple[int, int], bands: int) -> int:
  """Returns the number of floating-point operations of one image's forward pass in evaluation.

  Two per multiply-add, as in `Backbone.flops`. The count includes the backbone, convolutions, norms and the
  classifier, but not pooling and resizing. It reproduces the published numbers of the models with windows
  of 7 to the printed digit.
  """
  tokens = [math.prod(level.map_size(image_size)) for level in model.encoder.levels]
  macs = tokens[0] * model.channels * model.num_classes
  macs += sum(n * level.channels for n, level in zip(tokens[:-1], model.encoder.levels, strict=False))
  for positions, inputs, outputs, side in _convolutions(model, image_size)[:-1]:
    macs += positions * outputs * (inputs * side**2 + 1)  # + 1 for the norm
  return model.encoder.flops(image_size, bands) + 2 * macs


def exchanged(model: UPerNet, image_size: tuple[int, int]) -> tuple[int, int]:
  """Returns how many values of one image the model axis all-gathers and all-reduces in a train step.

  The model axis splits the output channels of each convolution. They are gathered for the next layer; in the
  backward pass, the gradient of the inputs is summed.
  """
  convolutions = _convolutions(model, image_size)
  return sum(c.positions * c.outputs for c in convolutions), sum(c.positions * c.inputs for c in convolutions)


def _product(rows: np.ndarray, columns: np.ndarray, x: jax.Array) -> jax.Array:
  """Multiplies the map x by one matrix per axis, float32 [new, old]; the result has the dtype of x.

  Matrix products have fast gradients; gathers do not.
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
