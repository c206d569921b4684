"""How long a train step takes at least, by formula: what it computes, what it moves through memory, what the
chips send each other.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from swin_jax.mesh.hardware import Slice
from swin_jax.models.backbone import Breakdown
from swin_jax.plan.footprint import Activations
from swin_jax.plan.hlo import Collective
from swin_jax.run.step import FORWARD_PASSES


class Work(NamedTuple):
  """Floating point operations of one step over all chips, two per multiply-add.

  Attributes:
    model: forward and backward pass, `FORWARD_PASSES` times `Task.flops`; what MFU counts.
    recomputed: what remat adds.
  """

  model: int
  recomputed: int


class StepTime(NamedTuple):
  """Seconds of one step at the makers' peak rates; the longest bounds the step, as if the others hid behind
  it.
  """

  compute: float
  memory: float
  interconnect: float

  @property
  def bound(self) -> float:
    return max(self)


def work(forward: int, breakdown: Breakdown | None, images: int) -> Work:
  """Of a step on `images` images, given the operations of one image's forward pass, see `Task.flops`."""
  return Work(FORWARD_PASSES * forward * images, breakdown.recomputed * images if breakdown else 0)


def residual_stream_bytes(breakdown: Breakdown | None) -> int:
  """Of one image, the outputs of all blocks together."""
  return sum(
    stage.count * math.prod(stage.input.shape) * stage.input.dtype.itemsize
    for stage in (breakdown.blocks if breakdown else ())
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
  """Bytes that one chip moves through its memory in a step, roughly.

  A block's activations are written and read in the forward pass, read again in the backward pass, and their
  gradients written and read, and so are those of the head; a recomputed forward pass writes and reads once
  more. Weights are read in both passes and their gradient is written, in each part of the batch; the update
  reads and writes the state.

  Args:
    kept: see `footprint.activations`.
    breakdown: see `BackboneKind.breakdown`.
    images: of a step, on this chip.
    parts: accumulation steps.
    state_bytes: parameters, moments, average and gradients on this chip.
    params: abstract.
    compute_dtype: that weights are read in.
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
  images: int,
  parts: int,
) -> list[Collective]:
  """What the shardings make the chips send each other in a step.

  In each part of the batch, a parameter that is divided over axes that also divide the batch is gathered in
  the forward and in the backward pass, in the compute dtype, and its gradient is summed and divided again;
  the gradient of what every chip holds is summed in float32. Where the model axis divides heads and hidden
  units, the outputs of blocks are summed, see `Breakdown.sums`.

  Args:
    params: abstract, with shardings.
    batch_sharding: of the batch.
    compute_dtype: of weights and activations that travel.
    breakdown: see `BackboneKind.breakdown`.
    images: of a step, on one chip.
    parts: accumulation steps.
  """
  mesh, batch_axes = batch_sharding.mesh, _axes(batch_sharding.spec)
  found, dtype = [], jnp.dtype(compute_dtype)
  names = {2: "bf16", 4: "f32"}
  for path, leaf in jax.tree_util.tree_leaves_with_path(params):
    axes, name = _axes(leaf.sharding.spec), jax.tree_util.keystr(path, simple=True, separator="/")
    own = math.prod(leaf.shape) // math.prod(mesh.shape[axis] for axis in axes - batch_axes)
    gathered = math.prod(mesh.shape[axis] for axis in axes & batch_axes)
    summed = math.prod(mesh.shape[axis] for axis in batch_axes - axes)
    width = dtype.itemsize if leaf.ndim > 1 else 4
    if gathered > 1:
      found.append(Collective("all-gather", names[width], 2 * parts, gathered, own * width, name))
      found.append(Collective("reduce-scatter", names[width], parts, gathered, own * width, name))
    if summed > 1:
      width = 4 if gathered == 1 else width
      found.append(Collective("all-reduce", names[width], parts, summed, own // gathered * width, name))
  if breakdown and (ways := mesh.shape.get("model", 1)) > 1:
    stream = residual_stream_bytes(breakdown) * images
    found.append(Collective("all-reduce", names[dtype.itemsize], breakdown.sums, ways, stream, "blocks"))
  return found


def _axes(spec: jax.sharding.PartitionSpec) -> set[str]:
  return {axis for part in spec if part for axis in ((part,) if isinstance(part, str) else part)}


def step_time(place: Slice, work: Work, traffic: int, sent: list[Collective]) -> StepTime:
  """Seconds of a step on a slice.

  Args:
    place: the slice.
    work: of the whole step.
    traffic: bytes through one chip's memory.
    sent: collectives of the step.
  """
  chip = place.chip
  return StepTime(
    compute=sum(work) / (chip.peak_flops * place.num_chips),
    memory=traffic / chip.memory_speed,
    interconnect=sum(collective.link_bytes for collective in sent) / place.link_speed,
  )
