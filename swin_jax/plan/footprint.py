"""Memory of a train step in bytes per chip, by formula: from shapes alone, without a device.

The size of the state is exact, as its shardings determine it. The activations are what autodiff keeps for the
backward pass, traced through the real loss at two batch sizes. Without remat only the results of matrix
products count, because compilers recompute what lies between them. Compiled sizes differ by about 20 % in
either direction; see `experiments/scale`.
"""

from collections.abc import Callable, Sequence
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from swin_jax.mesh.sharding import bytes_per_device
from swin_jax.models.backbone import Backbone, Breakdown, Features, Level, StageBlocks
from swin_jax.run.state import TrainState
from swin_jax.run.step import total_loss
from swin_jax.tasks.task import Task


class Activations(NamedTuple):
  """Activations of one image for the backward pass, in bytes.

  Attributes:
    saved: kept through the whole forward pass under the model's remat policy.
    widest: needed in addition at the peak of the backward pass: a whole block if blocks are recomputed;
      about half of a block or of the head without remat, because the products are then among the saved.
    blocks: per stage, kept by one of its blocks if nothing in it were recomputed; for a backbone without a
      breakdown, one entry for the whole model.
    head: kept by the layers after the backbone, which are never recomputed; 0 if `blocks` includes them.
    parameter: number of values, not bytes, of the largest parameter that a layer uses.
  """

  saved: int
  widest: int
  blocks: tuple[int, ...]
  head: int
  parameter: int


def state_bytes(state: TrainState, gradients: Any, batch: Any, accumulation_steps: int) -> dict[str, int]:
  """Returns the bytes per chip by kind, exact from the shardings.

  Args:
    state, gradients: abstract, with shardings.
    batch: abstract, with shardings.
    accumulation_steps: parts of the batch; with more than one, the sum of gradients is kept in addition to
      the gradients of a part.

  Returns:
    parameters, optimizer, ema, batch: arguments of the step.
    gradients: in float32.
  """
  return {
    "parameters": bytes_per_device(state.params),
    "optimizer": bytes_per_device(state.opt_state) + bytes_per_device(state.step),
    "ema": bytes_per_device(state.ema),
    "gradients": bytes_per_device(gradients) * (2 if accumulation_steps > 1 else 1),
    "batch": bytes_per_device(batch),
  }


def activations(
  make: Callable[[Backbone], Task],
  backbone: Backbone,
  breakdown: Breakdown | None,
  params: Any,
  batch: dict[str, jax.ShapeDtypeStruct],
  image_size: tuple[int, ...],
) -> Activations:
  """Returns what the gradient of the real loss keeps for each image, that is, the arrays that grow with the
  batch.

  Args:
    make: backbone → task, see `TaskKind.make`.
    backbone: backbone of the model.
    breakdown: see `BackboneKind.breakdown`.
    params: abstract.
    batch: abstract, of any size.
    image_size: in pixels.
  """

  def loss_of(task):
    return lambda params, batch: total_loss(task)(params, batch, jax.random.key(0))[0]

  def of_size(images):
    return {name: jax.ShapeDtypeStruct((images, *x.shape[1:]), x.dtype) for name, x in batch.items()}

  params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
  keeps_all = breakdown is None or breakdown.keeps_all
  loss = loss_of(make(backbone))
  if keeps_all:
    loss = jax.checkpoint(loss, policy=jax.checkpoint_policies.dots_saveable)
  saved = per_image(lambda images: residual_bytes(loss, params, of_size(images)))
  if breakdown is None:
    largest = max(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    return Activations(saved, saved // 2, (saved,), 0, largest)

  head_params = {name: tree for name, tree in params.items() if name != "encoder"}

  def head_loss(params, features, batch):
    return loss_of(make(_Given(backbone, lambda: features)))(params, batch)

  def features_of(images):
    maps = [
      jax.ShapeDtypeStruct((images, *level.map_size(image_size), level.channels), backbone.dtype)
      for level in backbone.levels
    ]
    return Features(maps[-1], tuple(maps), {})

  head = per_image(
    lambda images: residual_bytes(head_loss, head_params, features_of(images), of_size(images))
  )
  blocks, block_params = zip(*map(_trace, breakdown.blocks), strict=True)
  return Activations(
    saved,
    max(max(blocks) // (2 if keeps_all else 1), head // 2),
    blocks,
    head,
    max(math.prod(leaf.shape) for leaf in jax.tree.leaves((block_params, head_params))),
  )


def temporary_bytes(kept: Activations, images: int, compute_dtype: Any) -> int:
  """Returns the temporary bytes on one chip at the peak of the backward pass: activations, the largest
  parameter after it is gathered, and its gradient.

  Args:
    kept: see `activations`.
    images: images of one part of the batch on this chip.
    compute_dtype: dtype of the gathered parameter.
  """
  return kept.widest * images + 2 * kept.parameter * jnp.dtype(compute_dtype).itemsize


class _Given(nn.Module):
  """Stands in for a backbone and returns given features, so that a trace holds only the layers after it."""

  backbone: Backbone
  features: Callable[[], Features]

  def __call__(self, images, *, mask=None, mask_token=None, train=False) -> Features:
    return self.features()

  @property
  def levels(self) -> tuple[Level, ...]:
    return self.backbone.levels

  @property
  def dtype(self) -> Any:
    return self.backbone.dtype

  @nn.nowrap
  def flops(self, size: Sequence[int], bands: int) -> int:
    return self.backbone.flops(size, bands)


def _trace(stage: StageBlocks) -> tuple[int, Any]:
  """Returns the bytes that one block keeps of an image, and its abstract parameters."""

  def trace(images):
    x = jax.ShapeDtypeStruct((images, *stage.input.shape), stage.input.dtype)
    params = jax.eval_shape(stage.init, x)
    return params, residual_bytes(stage.apply, params, x)

  return per_image(lambda images: trace(images)[1]), trace(2)[0]


def per_image(bytes_of: Callable[[int], int]) -> int:
  return (bytes_of(4) - bytes_of(2)) // 2  # arrays that do not grow with the batch are not activations


def residual_bytes(function: Callable, *args: Any) -> int:
  """Returns the bytes that the derivative of `function` keeps; an array kept several times counts once."""

  def kept(*args):
    return list({id(x): x for x in jax.tree.leaves(jax.vjp(function, *args)[1])}.values())

  return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.eval_shape(kept, *args))
