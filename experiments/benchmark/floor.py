"""The minimum cost of a forward pass or a train step on one chip: a lower bound for the measured times."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from swin_jax.mesh.hardware import Chip
from swin_jax.models import swin
from swin_jax.models.swin.geometry import geometry


class Floor(NamedTuple):
  """Lower bounds for a program on one chip in which attention, every product and every norm is one operation.

  Attributes:
    flops: counted as for MFU.
    traffic: bytes; each operation reads its inputs and writes its outputs once.
    seconds: at the vendor's peak rates, summed over all operations, each taking the longer of its computation
      and its memory traffic.
  """

  flops: int
  traffic: int
  seconds: float


def floor(
  model: swin.Swin, image_size: tuple[int, int], bands: int, images: int, chip: Chip, *, train: bool
) -> Floor:
  """Returns the floor of a forward pass or, with `train`, of a step with AdamW. The head is excluded, because
  it belongs to the task.

  The backward pass has two products for each of the forward pass, on arrays of the same sizes. Its attention
  reads qkv and the output's gradient, and writes the gradient of qkv; a norm reads two arrays and writes two.
  The update reads gradient, parameters and two moments, and writes all of them except the gradient, in
  float32.
  """
  width, operations = jnp.dtype(model.dtype).itemsize, []
  for macs, values, backward_values, weights, times in _operations(model, image_size, bands):
    flops = 2 * macs * images * (3 if train else 1)
    values = (values + (backward_values if train else 0)) * images
    operations += [(flops, (values + weights * (3 if train else 1)) * width)] * times
  if train:
    parameters = sum(weights * times for *_, weights, times in _operations(model, image_size, bands))
    operations.append((0, 7 * 4 * parameters))
  seconds = (max(flops / chip.peak_flops, traffic / chip.memory_speed) for flops, traffic in operations)
  return Floor(sum(flops for flops, _ in operations), sum(traffic for _, traffic in operations), sum(seconds))


def _operations(model, image_size, bands):
  """Returns for each operation (multiply-adds, values moved, values moved in the backward pass, all for one
  image; number of weights; number of occurrences).
  """

  def product(rows, inputs, outputs, times):
    moved = rows * (inputs + outputs)
    return rows * inputs * outputs, moved, 2 * moved, inputs * outputs, times

  config, stages = model.config, geometry(model.config, image_size)
  patch = math.prod(config.patch_size) * bands
  macs, moved, _, weights, _ = product(stages[0].tokens, patch, config.embed_dim, 1)
  operations = [(macs, moved, moved, weights, 1)]  # images need no gradient
  for i, (depth, stage) in enumerate(zip(config.depths, stages, strict=True)):
    c, tokens = config.channels(i), stage.tokens
    padded, n = math.prod(stage.padded), math.prod(stage.window)
    hidden = int(config.mlp_ratio * c)
    operations += [product(tokens, 2 * c, c, 1)] if i else []
    operations += [
      product(padded, c, 3 * c, depth),
      product(padded, c, c, depth),
      product(tokens, c, hidden, depth),
      product(tokens, hidden, c, depth),
    ]
    operations.append((2 * padded * n * c, 4 * padded * c, 7 * padded * c, 0, depth))
    operations.append((0, 3 * tokens * c, 4 * tokens * c, 0, 2 * depth))  # norm and sum
  return operations
