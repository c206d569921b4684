"""Memory of a train step in bytes per chip, by formula: from shapes alone, without a device.

The size of the state is exact, as its shardings determine it. The activations are what autodiff keeps for the
backward pass, traced through the real loss at two batch sizes. Without remat only the results of matrix
products count, because compilers recompute what lies between them. Compiled sizes differ by about 20 % in
either direction; see `experiments/scale`.
"""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from swin_jax.mesh.sharding import bytes_per_device
from swin_jax.models.swin import SwinConfig
from swin_jax.models.swin.block import Block
from swin_jax.models.swin.geometry import geometry
from swin_jax.run.state import TrainState
from swin_jax.run.step import total_loss
from swin_jax.tasks.task import Task


class Activations(NamedTuple):
  """Activations of one image for the backward pass, in bytes.

  Attributes:
    saved: kept through the whole forward pass under the model's remat policy.
    widest: needed in addition at the peak of the backward pass: a whole block if blocks are recomputed;
      about half of one without remat, because the products are then among the saved.
    blocks: per stage, kept by one of its blocks if nothing in it were recomputed.
  """

  saved: int
  widest: int
  blocks: tuple[int, ...]


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
  task: Task, params: Any, batch: dict[str, jax.ShapeDtypeStruct], image_size: tuple[int, int]
) -> Activations:
  """Returns what the gradient of the real loss keeps for each image, that is, the arrays that grow with the
  batch.

  Args:
    task: model and loss; `task.model.encoder` is the backbone.
    params: abstract.
    batch: abstract, of any size.
    image_size: (height, width) pixels.
  """
  config = task.model.encoder.config

  def loss(params, batch):
    return total_loss(task)(params, batch, jax.random.key(0))[0]

  def of_size(images):
    return {name: jax.ShapeDtypeStruct((images, *x.shape[1:]), x.dtype) for name, x in batch.items()}

  if config.remat == "none":
    loss = jax.checkpoint(loss, policy=jax.checkpoint_policies.dots_saveable)
  params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
  saved = per_image(lambda images: residual_bytes(loss, params, of_size(images)))
  stages = enumerate(geometry(config, image_size))
  blocks = tuple(_block_bytes(config, i, stage.map) for i, stage in stages)
  return Activations(saved, max(blocks) // (2 if config.remat == "none" else 1), blocks)


def temporary_bytes(kept: Activations, images: int, params: Any, compute_dtype: Any) -> int:
  """Returns the temporary bytes on one chip at the peak of the backward pass: the activations of one block,
  its gathered weights, and their gradient.

  Args:
    kept: see `activations`.
    images: images of one part of the batch on this chip.
    params: abstract.
    compute_dtype: dtype of the gathered weights.
  """
  block_weights = 0
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    if "blocks" in jax.tree_util.keystr(path, simple=True, separator="/").split("/"):
      block_weights = max(block_weights, math.prod(leaf.shape[1:]))  # the first dimension counts the blocks
  return kept.widest * images + 2 * block_weights * jnp.dtype(compute_dtype).itemsize


def _block_bytes(config: SwinConfig, stage: int, map_size: tuple[int, ...]) -> int:
  block = Block(config, stage, shifted=config.depths[stage] > 1)

  def bytes_of(images):
    x = jax.ShapeDtypeStruct((images, *map_size, config.channels(stage)), config.dtype)
    params = jax.eval_shape(lambda x: nn.meta.unbox(block.init(jax.random.key(0), x, None, train=False)), x)
    return residual_bytes(lambda params, x: block.apply(params, x, None, train=True)[0], params, x)

  return per_image(bytes_of)


def per_image(bytes_of: Callable[[int], int]) -> int:
  return (bytes_of(4) - bytes_of(2)) // 2  # arrays that do not grow with the batch are not activations


def residual_bytes(function: Callable, *args: Any) -> int:
  """Returns the bytes that the derivative of `function` keeps; an array kept several times counts once."""

  def kept(*args):
    return list({id(x): x for x in jax.tree.leaves(jax.vjp(function, *args)[1])}.values())

  return sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.eval_shape(kept, *args))
