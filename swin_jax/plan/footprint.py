"""How many bytes of its memory a train step takes on each chip, by formula: from shapes alone, on no device.

The state is exact: its shardings decide. What the backward pass needs is what autodiff keeps, traced through
the real loss at two batch sizes; of a loss without remat the results of matrix products, since compilers
compute what lies between them again. What they make of it differs by some 20 % either way:
`experiments/scale` compares.
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
  """What one image leaves behind for the backward pass, in bytes.

  Attributes:
    saved: kept through the whole forward pass, under the model's remat policy.
    widest: there beside it at the widest moment of the backward pass: a whole block where blocks are
      recomputed; about half of a block, or of the head, where they are not, for then the products are there
      already.
    blocks: kept by one block of each stage if nothing in it were recomputed; of a backbone without a
      breakdown, of which nothing more is known, by the whole model.
    head: kept by what follows the backbone, which is never recomputed; 0 if it is counted in `blocks`.
    parameter: not bytes, but the numbers in the largest parameter that is used at once.
  """

  saved: int
  widest: int
  blocks: tuple[int, ...]
  head: int
  parameter: int


def state_bytes(state: TrainState, gradients: Any, batch: Any, accumulation_steps: int) -> dict[str, int]:
  """Bytes per chip by kind, exactly as the shardings divide them.

  Args:
    state, gradients: abstract, with shardings.
    batch: abstract, with shardings.
    accumulation_steps: parts of the batch; a sum of gradients is kept beside those of a part.

  Returns:
    parameters, optimizer, ema, batch: what the step gets. gradients: float32.
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
  """What the gradient of the real loss keeps of each image: the arrays that grow with the batch.

  Args:
    make: backbone → task, see `TaskKind.make`.
    backbone: of the model.
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
  saved = _per_image(lambda images: _residual_bytes(loss, params, of_size(images)))
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

  head = _per_image(
    lambda images: _residual_bytes(head_loss, head_params, features_of(images), of_size(images))
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
  """Of the widest moment of the backward pass, on one chip: activations, the largest parameter put together,
  and its gradient.

  Args:
    kept: see `activations`.
    images: of one part of the batch, on this chip.
    compute_dtype: of the parameter put together.
  """
  return kept.widest * images + 2 * kept.parameter * jnp.dtype(compute_dtype).itemsize


class _Given(nn.Module):
  """Stands for a backbone whose features are there already, so that what follows it is traced alone."""

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
    return params, _residual_bytes(stage.apply, params, x)

  return _per_image(lambda images: trace(images)[1]), trace(2)[0]


def _per_image(bytes_of: Callable[[int], int]) -> int:
  return (bytes_of(4) - bytes_of(2)) // 2  # what does not grow with the batch is no activation


def _residual_bytes(function: Callable, *args: Any) -> int:
  """Of what the derivative of `function` keeps; each array once, however often it is kept."""

  def kept(*args):
    return list({id(x): x for x in jax.tree.leaves(jax.vjp(function, *args)[1])}.values())

  return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.eval_shape(kept, *args))
