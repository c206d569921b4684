"""Estimate of a run on a slice by formula: from shapes alone, with one virtual CPU device for each chip."""

import functools
from typing import NamedTuple

import jax
from ml_collections import ConfigDict, FrozenConfigDict

from swin_jax.mesh.hardware import Slice
from swin_jax.models import backbone_of
from swin_jax.models.backbone import Breakdown
from swin_jax.plan import footprint, hlo, roofline
from swin_jax.run.program import build
from swin_jax.tasks import kind_of


class Formula(NamedTuple):
  """Estimate of a run on a slice, by formula.

  Attributes:
    bytes_per_chip: bytes by kind.
    flops: floating point operations of a step.
    sent: collectives of a step.
    traffic: bytes read and written in the memory of one chip in a step.
    mesh: axis → number of chips.
    images: images of one part of the batch on one chip.
  """

  bytes_per_chip: dict[str, int]
  flops: roofline.Work
  sent: list[hlo.Collective]
  traffic: int
  mesh: dict[str, int]
  images: int

  @property
  def total(self) -> int:
    return sum(self.bytes_per_chip.values())


def by_formula(config: ConfigDict, place: Slice) -> Formula:
  """Estimates a run on a slice without compiling.

  Args:
    config: from `report.ready`.
    place: the slice.

  Raises:
    BadInput: the batch or a parameter does not divide over the chips.
    ValueError: jax has fewer devices than the slice has chips.
  """
  devices = jax.devices()[: place.num_chips]
  if len(devices) < place.num_chips:
    raise ValueError(
      f"{place} has {place.num_chips} chips; set jax_num_cpu_devices to as many, there are {len(devices)}"
      " devices"
    )
  program = build(config, 1, 1, devices)
  backbone, parts = program.task.model.encoder, config.optim.accumulation_steps
  kept, parted, params = activations(config), breakdown(config), program.state.params
  images = program.batch_sharding.shard_shape((config.data.batch_size // parts,))[0]
  state = footprint.state_bytes(program.state, program.gradients, program.batch, parts)
  sizes = state | {
    "activations": kept.saved * images,
    "temporaries": footprint.temporary_bytes(kept, images, backbone.dtype),
  }
  traffic = roofline.memory_traffic(
    kept, parted, images * parts, parts, sum(state.values()), params, backbone.dtype
  )
  exchanged = program.task.exchanged(config.data.image_size)
  sent = roofline.collectives(
    params, program.batch_sharding, backbone.dtype, parted, exchanged, images * parts, parts
  )
  work = roofline.work(program.flops, parted, config.data.batch_size)
  return Formula(sizes, work, sent, traffic, dict(program.mesh.shape), images)


def breakdown(config: ConfigDict) -> Breakdown | None:
  """Returns the parts of a train step, see `BackboneKind.breakdown`."""
  kind = backbone_of(config)
  backbone = kind.make(config, jax.devices()[0])
  return kind.breakdown(backbone, config.data.image_size, len(config.data.mean))


def activations(config: ConfigDict) -> footprint.Activations:
  """Returns the activations of one image. They do not depend on mesh, batch and optimizer, so one trace
  serves all slices.
  """
  config = config.copy_and_resolve_references()
  config.mesh.update({axis: 1 for axis in config.mesh})
  config.data.update(batch_size=1, eval_batch_size=1)
  config.optim.accumulation_steps = 1
  return _traced(FrozenConfigDict(config))


@functools.cache
def _traced(config: FrozenConfigDict) -> footprint.Activations:
  program = build(config, 1, 1, jax.devices()[:1])
  return footprint.activations(
    lambda backbone: kind_of(config).make(backbone, config),
    program.task.model.encoder,
    breakdown(config),
    program.state.params,
    program.batch,
    config.data.image_size,
  )
