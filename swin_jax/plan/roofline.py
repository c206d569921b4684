"""Lower bound on the time of a train step, by formula: compute, memory traffic and collectives."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from swin_jax.mesh.hardware import Slice
from swin_jax.models import remat
from swin_jax.models.swin import SwinConfig, flops
from swin_jax.models.swin.geometry import geometry
from swin_jax.plan.footprint import Activations
from swin_jax.plan.hlo import Collective
from swin_jax.run.step import FORWARD_PASSES


class Work(NamedTuple):
  """Floating point operations of one step over all chips, two per multiply-add.

  Attributes:
    model: forward and backward pass, `FORWARD_PASSES` times `Backbone.flops`; MFU counts these.
    recomputed: what remat adds.
  """

  model: int
  recomputed: int


class StepTime(NamedTuple):
  """Seconds of one step at the vendors' peak rates. The largest bounds the step, assuming that the others
  overlap with it completely.
  """

  compute: float
  memory: float
  interconnect: float

  @property
  def bound(self) -> float:
    return max(self)


def work(config: SwinConfig, image_size: tuple[int, ...], bands: int, images: int) -> Work:
  """Returns the work of a step on `images` images; remat repeats the forward pass except what it saves."""
  forward, products = flops.flops(config, image_size, bands), flops.products(config, image_size)
  if config.remat == "none":
    again = 0
  elif config.remat == "dots":  # saves products without batch dimensions, all but the two of attention
    again = products["logits"] + products["attention"]
  else:
    again = forward - sum(products[name] for name in remat.saved(config.remat))
  return Work(FORWARD_PASSES * forward * images, again * images)


def residual_stream_bytes(config: SwinConfig, image_size: tuple[int, ...]) -> int:
  """Returns the bytes of the outputs of all blocks together, for one image."""
  stages = enumerate(geometry(config, image_size))
  values = sum(config.depths[i] * stage.tokens * config.channels(i) for i, stage in stages)
  return values * jnp.dtype(config.dtype).itemsize


def memory_traffic(
  config: SwinConfig, kept: Activations, images: int, parts: int, state_bytes: int, params: Any
) -> int:
  """Estimates the bytes that one chip reads and writes in its memory in a step.

  The activations of a block are written and read in the forward pass, read again in the backward pass, and
  their gradients are written and read. A recomputed forward pass writes and reads them once more. In each
  part of the batch, weights are read in both passes and their gradient is written. The update reads and
  writes the state.

  Args:
    config: config of the backbone.
    kept: see `footprint.activations`.
    images: images of a step on this chip.
    parts: accumulation steps.
    state_bytes: bytes of parameters, moments, average and gradients on this chip.
    params: abstract.
  """
  activations = sum(depth * block for depth, block in zip(config.depths, kept.blocks, strict=True)) * images
  weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) * jnp.dtype(config.dtype).itemsize
  return activations * (5 if config.remat in ("none", "dots") else 7) + 3 * weights * parts + 2 * state_bytes


def collectives(
  config: SwinConfig, params: Any, batch_sharding: jax.sharding.NamedSharding, tokens_bytes: int, parts: int
) -> list[Collective]:
  """Returns the collectives of a step that follow from the shardings.

  In each part of the batch, a parameter sharded over axes that also divide the batch is all-gathered in the
  forward and in the backward pass, in the compute dtype, and its gradient is reduce-scattered. The gradient
  of a replicated parameter is all-reduced in float32. If the model axis divides heads and hidden units, each
  branch of a block all-reduces its output and, in the backward pass, the gradient of its input.

  Args:
    config: config of the backbone.
    params: abstract, with shardings.
    batch_sharding: sharding of the batch.
    tokens_bytes: bytes of the residual stream of all blocks together, for one chip's images of a step.
    parts: accumulation steps.
  """
  mesh, batch_axes = batch_sharding.mesh, _axes(batch_sharding.spec)
  sent, dtype = [], jnp.dtype(config.dtype)
  names = {2: "bf16", 4: "f32"}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    axes, name = _axes(leaf.sharding.spec), jax.tree_util.keystr(path, simple=True, separator="/")
    own = math.prod(leaf.shape) // math.prod(mesh.shape[axis] for axis in axes - batch_axes)
    gathered = math.prod(mesh.shape[axis] for axis in axes & batch_axes)
    summed = math.prod(mesh.shape[axis] for axis in batch_axes - axes)
    width = dtype.itemsize if leaf.ndim > 1 else 4
    if gathered > 1:
      sent.append(Collective("all-gather", names[width], 2 * parts, gathered, own * width, name))
      sent.append(Collective("reduce-scatter", names[width], parts, gathered, own * width, name))
    if summed > 1:
      width = 4 if gathered == 1 else width
      sent.append(Collective("all-reduce", names[width], parts, summed, own // gathered * width, name))
  if (ways := mesh.shape.get("model", 1)) > 1:
    # The recomputed forward pass repeats the branches whose output is not saved.
    times = (
      4
      if config.remat in ("none", "dots")
      else 6 - len({"attention_output", "mlp_output"} & set(remat.saved(config.remat)))
    )
    sent.append(Collective("all-reduce", names[dtype.itemsize], times, ways, tokens_bytes, "blocks"))
  return sent


def _axes(spec: jax.sharding.PartitionSpec) -> set[str]:
  return {axis for part in spec if part for axis in ((part,) if isinstance(part, str) else part)}


def step_time(place: Slice, work: Work, traffic: int, sent: list[Collective]) -> StepTime:
  """Returns the seconds of a step on a slice.

  Args:
    place: the slice.
    work: work of the whole step.
    traffic: bytes read and written in the memory of one chip.
    sent: collectives of the step.
  """
  chip = place.chip
  return StepTime(
    compute=sum(work) / (chip.peak_flops * place.num_chips),
    memory=traffic / chip.memory_speed,
    interconnect=sum(collective.link_bytes for collective in sent) / place.link_speed,
  )
