"""Lower bound on the time of a train step, by formula: compute, memory traffic and collectives."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from swin_jax.mesh import sharding
from swin_jax.mesh.hardware import Slice
from swin_jax.models.backbone import Breakdown
from swin_jax.plan.footprint import Activations
from swin_jax.plan.hlo import Collective
from swin_jax.run.step import FORWARD_PASSES


class Work(NamedTuple):
  """Floating point operations of one step over all chips, two per multiply-add.

  Attributes:
    model: forward and backward pass, `FORWARD_PASSES` times `Task.flops`; MFU counts these.
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


def work(forward: int, breakdown: Breakdown | None, images: int) -> Work:
  """Returns the work of a step on `images` images; `forward`: operations of one image's forward pass."""
  return Work(FORWARD_PASSES * forward * images, breakdown.recomputed * images if breakdown else 0)


def residual_stream_bytes(breakdown: Breakdown) -> int:
  """Returns the bytes of the outputs of all blocks together, for one image."""
  return sum(
    stage.count * math.prod(stage.input.shape) * stage.input.dtype.itemsize for stage in breakdown.blocks
  )


def memory_traffic(
  kept: Activations,
  breakdown: Breakdown | None,
  images: int,
  parts: int,
  state_bytes: int,
  params: Any,
  compute_dtype: Any,
) -> int:
  """Estimates the bytes that one chip reads and writes in its memory in a step.

  The activations of blocks and head are written and read in the forward pass, read again in the backward
  pass, and their gradients are written and read. A recomputed forward pass writes and reads those of blocks
  once more. In each part of the batch, weights are read in both passes and their gradient is written. The
  update reads and writes the state.

  Args:
    kept: see `footprint.activations`.
    breakdown: see `BackboneKind.breakdown`.
    images: images of a step on this chip.
    parts: accumulation steps.
    state_bytes: bytes of parameters, moments, average and gradients on this chip.
    params: abstract.
    compute_dtype: dtype in which weights are read.
  """
  counts = [stage.count for stage in breakdown.blocks] if breakdown else [1]
  blocks = sum(count * block for count, block in zip(counts, kept.blocks, strict=True))
  passes = 7 if breakdown and breakdown.reruns else 5
  weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)) * jnp.dtype(compute_dtype).itemsize
  return (passes * blocks + 5 * kept.head) * images + 3 * weights * parts + 2 * state_bytes


def collectives(
  params: Any,
  batch_sharding: jax.sharding.NamedSharding,
  compute_dtype: Any,
  breakdown: Breakdown | None,
  exchanged: tuple[int, int],
  images: int,
  parts: int,
) -> list[Collective]:
  """Returns the collectives of a step that follow from the shardings.

  In each part of the batch, a parameter sharded over axes that also divide the batch is all-gathered in the
  forward and in the backward pass, in the compute dtype, and its gradient is reduce-scattered. The gradient
  of a replicated parameter is all-reduced in float32. If the model axis divides heads and hidden units,
  blocks all-reduce their outputs and the gradients of their inputs, see `Breakdown.sums`, and the layers
  after the backbone exchange `Task.exchanged`.

  Args:
    params: abstract, with shardings.
    batch_sharding: sharding of the batch.
    compute_dtype: dtype of transferred weights and activations.
    breakdown: see `BackboneKind.breakdown`.
    exchanged: see `Task.exchanged`.
    images: images of a step on one chip.
    parts: accumulation steps.
  """
  mesh, batch_axes = batch_sharding.mesh, _axes(batch_sharding.spec)
  sent, dtype = [], jnp.dtype(compute_dtype)
  names = {2: "bf16", 4: "f32"}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    axes, name = _axes(leaf.sharding.spec), sharding.path_name(path)
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
    name, (gathered, summed) = names[dtype.itemsize], (n * images * dtype.itemsize for n in exchanged)
    if breakdown:
      stream = residual_stream_bytes(breakdown) * images
      sent.append(Collective("all-reduce", name, breakdown.sums, ways, stream, "blocks"))
    if gathered:
      sent.append(Collective("all-gather", name, 1, ways, gathered, "head"))
      sent.append(Collective("all-reduce", name, 1, ways, summed, "head"))
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
