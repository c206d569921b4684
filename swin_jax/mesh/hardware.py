"""Accelerators that a run can be planned for: the vendors' specifications, and the available slices.

A slice is written "v5p:4x4x4" (a TPU generation and the arrangement of its chips) or "h200:16" (a GPU and the
number of GPUs, eight per node).
"""

import difflib
import functools
import itertools
import math
from typing import NamedTuple

from swin_jax.terminal.errors import BadInput

GIB = 2**30
GPUS_PER_NODE = 8


class Chip(NamedTuple):
  """An accelerator that is one device in jax: a chip or, for TPU7x, one of the two cores of a chip.

  Attributes:
    title: full name.
    kinds: values of `jax.Device.device_kind`.
    memory_bytes: memory available to a program. TPU: what the compiler allows, slightly less than the total.
      GPU: 92% of the memory, which requires XLA_PYTHON_CLIENT_MEM_FRACTION=0.92 in the run's environment.
    peak_flops: bfloat16 without sparsity, FLOP/s.
    memory_speed: bandwidth of its HBM, bytes/s.
    link_speed: receive bandwidth over all its links inside a slice or a node, bytes/s: half of the
      bidirectional bandwidth that vendors state.
    network_speed: GPU: receive bandwidth from other nodes, bytes/s (400 Gbit/s each; A100: 200 Gbit/s); 0 for
      TPUs, whose slice is a single network.
    dimensions: number of dimensions of a TPU slice, 2 or 3; 0 for a GPU.
    max_chips: size of the largest slice, in devices.
  """

  title: str
  kinds: tuple[str, ...]
  memory_bytes: int
  peak_flops: float
  memory_speed: float
  link_speed: float
  network_speed: float
  dimensions: int
  max_chips: int


CHIPS = {
  "v4": Chip("TPU v4", ("TPU v4",), int(30.75 * GIB), 275e12, 1.2e12, 300e9, 0, 3, 4096),
  "v5e": Chip("TPU v5e", ("TPU v5 lite", "TPU v5e"), int(15.75 * GIB), 197e12, 819e9, 200e9, 0, 2, 256),
  "v5p": Chip("TPU v5p", ("TPU v5", "TPU v5p"), int(95.74 * GIB), 459e12, 2765e9, 600e9, 0, 3, 6144),
  "v6e": Chip("TPU v6e", ("TPU v6 lite", "TPU v6e"), int(31.25 * GIB), 918e12, 1638e9, 400e9, 0, 2, 256),
  "tpu7x": Chip(
    "TPU7x, one of a chip's two cores", ("TPU7x",), int(94.75 * GIB), 1153e12, 3690e9, 300e9, 0, 3, 2 * 9216
  ),
  "a100": Chip(
    "A100 80 GB",
    ("NVIDIA A100-SXM4-80GB", "NVIDIA A100-SXM4-40GB"),
    int(73 * GIB),
    312e12,
    2039e9,
    300e9,
    25e9,
    0,
    1024,
  ),
  "h100": Chip(
    "H100 80 GB", ("NVIDIA H100 80GB HBM3",), int(0.92 * 79 * GIB), 989e12, 3350e9, 450e9, 50e9, 0, 1024
  ),
  "h200": Chip("H200 141 GB", ("NVIDIA H200",), int(0.92 * 139 * GIB), 989e12, 4800e9, 450e9, 50e9, 0, 1024),
}


class Slice(NamedTuple):
  """Chips that are allocated together.

  Attributes:
    generation: key of `CHIPS`.
    shape: number of chips along each dimension of a TPU slice; (number,) for GPUs.
  """

  generation: str
  shape: tuple[int, ...]

  def __str__(self) -> str:
    return f"{self.generation}:{'x'.join(map(str, self.shape))}"

  @property
  def chip(self) -> Chip:
    return CHIPS[self.generation]

  @property
  def is_tpu(self) -> bool:
    return self.chip.dimensions > 0

  @property
  def num_chips(self) -> int:
    """The number of chips; for TPU7x the number of cores, each of which is a device in jax."""
    return math.prod(self.shape) * (2 if self.generation == "tpu7x" else 1)

  @property
  def link_speed(self) -> float:
    """Bytes/s that each chip can receive while all chips take part in a collective.

    A TPU has two links along each dimension. In a dimension that does not form a ring, the chips at the ends
    have only one link; in a dimension of one chip there is none. Dimensions form rings in 3D slices that
    consist of whole 4x4x4 cubes, and in 2D slices along 16 chips. With GPUs on several nodes, the network
    cards of a node together receive the data, and its GPUs pass it on to each other.
    """
    chip = self.chip
    if not self.is_tpu:
      return (
        min(chip.link_speed, GPUS_PER_NODE * chip.network_speed)
        if self.num_chips > GPUS_PER_NODE
        else chip.link_speed
      )
    cubes = chip.dimensions == 3 and all(side % 4 == 0 for side in self.shape)
    links = sum(2 if cubes or side == 16 else 1 if side > 1 else 0 for side in self.shape)
    return chip.link_speed * max(links, 1) / (2 * chip.dimensions)


def peak_flops(device_kind: str) -> float | None:
  """Returns the dense bfloat16 peak of one device in FLOP/s, as its vendor states it; None if unknown."""
  return next((chip.peak_flops for chip in CHIPS.values() if device_kind in chip.kinds), None)


@functools.cache
def slices(generation: str) -> tuple[Slice, ...]:
  """Returns every slice of a generation, the smallest first."""
  chip = CHIPS[generation]
  if not chip.dimensions:
    shapes = [(1,), (2,), (4,)] + [(n,) for n in range(GPUS_PER_NODE, chip.max_chips + 1, GPUS_PER_NODE)]
  elif chip.dimensions == 2:
    shapes = [(1, 1), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8), (8, 16), (16, 16)]
  else:
    cubes = itertools.combinations_with_replacement(range(4, 29, 4), 3)
    shapes = [(2, 2, 1), (2, 2, 2), (2, 2, 4), (2, 4, 4), *cubes]
  every = [Slice(generation, shape) for shape in shapes]
  return tuple(
    sorted((s for s in every if s.num_chips <= chip.max_chips), key=lambda s: (s.num_chips, max(s.shape)))
  )


def parse(topology: str) -> Slice:
  """Returns the slice for a text like "v5p:4x4x4" or "h200:8".

  Raises:
    BadInput: the chip or slice does not exist; the message lists similar ones.
  """
  generation, _, rest = topology.strip().lower().partition(":")
  if generation not in CHIPS:
    near = difflib.get_close_matches(generation, CHIPS, 1)
    raise BadInput(
      f"--topology={topology}: unknown chip '{generation}'"
      + (
        f", did you mean {near[0]}?"
        if near
        else f"; known chips are {', '.join(CHIPS)}, written like v5p:4x4x4 or h200:8"
      )
    )
  known = slices(generation)
  sides = rest.split("x")
  shape = tuple(map(int, sides)) if all(n.isdecimal() and len(n) < 7 for n in sides) else ()
  for candidate in known:
    if sorted(candidate.shape) == sorted(shape):
      return candidate
  num_chips = math.prod(shape) if shape else 0
  near = sorted(known, key=lambda s: abs(math.log(math.prod(s.shape) / max(num_chips, 1))))[:3]
  raise BadInput(
    f"--topology={topology}: {CHIPS[generation].title} has no slice of that shape; the nearest are"
    f" {', '.join(map(str, near))}"
  )
