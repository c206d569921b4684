"""Ahead-of-time compilation of the real train step for a TPU slice, on a machine without TPUs.

The compiler is libtpu's. Nothing is executed.
"""

from collections.abc import Callable, Sequence
import importlib.util
import re
import time
from typing import NamedTuple

import jax
from jax.experimental import topologies

from swin_jax.mesh.hardware import Slice
from swin_jax.terminal import extras
from swin_jax.terminal.errors import BadInput


class Compiled(NamedTuple):
  """A compiled train step.

  Attributes:
    accepted: whether the compiler accepted it; it refuses a step that does not fit the memory of a chip.
    arguments_bytes, temporary_bytes, program_bytes: bytes per chip of state and batch, of all temporary
      arrays, and of the program itself. If the compiler refused the step: the arguments as given, the
      temporaries according to the compiler's message, and 0.
    text: optimised HLO, or the compiler's message if it refused the step.
    seconds: time for lowering and compiling.
  """

  accepted: bool
  arguments_bytes: int
  temporary_bytes: int
  program_bytes: int
  text: str
  seconds: float


def devices_of(place: Slice) -> Sequence:
  """Returns the devices of a TPU slice, for a mesh to compile for.

  Raises:
    BadInput: libtpu is not installed or does not support the slice.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise BadInput(
      f"--topology={place} needs libtpu to compile for: {extras.command('plan')}; or add --analytic for the"
      " formula alone"
    )

  options = {"chip_config_name": "megacore"} if place.generation == "v4" else {}  # two cores as one device
  if place.num_chips == 1:
    options["chips_per_host_bounds"] = (1, 1, 1)
  try:
    return topologies.get_topology_desc(platform="tpu", topology_name=str(place), **options).devices
  except Exception as error:  # libtpu raises several kinds
    raise BadInput(
      f"--topology={place}: the installed libtpu does not support it: {' '.join(str(error).split())[:200]}"
    ) from error


def compile_step(lower: Callable[[], jax.stages.Lowered], arguments_bytes: int) -> Compiled:
  """Compiles a train step.

  Args:
    lower: () → the lowered step, traced on its mesh.
    arguments_bytes: bytes per chip of state and batch, from their shardings.
  """
  start = time.perf_counter()
  lowered = lower()
  try:
    compiled = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    temporary = refused_bytes(str(error), arguments_bytes)
    if temporary is None:
      raise
    return Compiled(False, arguments_bytes, temporary, 0, str(error), time.perf_counter() - start)
  memory = compiled.memory_analysis()
  # The new state reuses the buffers of the donated old one.
  results = memory.output_size_in_bytes - memory.alias_size_in_bytes
  return Compiled(
    True,
    memory.argument_size_in_bytes,
    memory.temp_size_in_bytes + results,
    memory.generated_code_size_in_bytes,
    compiled.as_text(),
    time.perf_counter() - start,
  )


def refused_bytes(message: str, arguments_bytes: int) -> int | None:
  """Returns the bytes of temporary arrays per chip, read from the compiler's out-of-memory message.

  The message gives the bytes of the temporaries, or of temporaries and arguments together.

  Returns:
    Bytes, or None if the message is not about memory.
  """
  if match := re.search(r"memory required for HLO temporaries \(([\d.]+)([KMGT]?)\)", message):
    return _bytes(*match.groups())
  if match := re.search(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm", message):
    return max(_bytes(*match.groups()) - arguments_bytes, 0)
  return None


def _bytes(number: str, unit: str) -> int:
  return round(float(number) * 1024 ** " KMGT".index(unit or " "))
