"""Report on whether a run fits a slice, from the real train step, compiled or estimated by formula, and
advice on what to change if it does not.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
import contextlib
import importlib.metadata
from typing import Any

import jax
from ml_collections import ConfigDict

from swin_jax.mesh import hardware, sharding
from swin_jax.mesh.hardware import Slice
from swin_jax.models import backbone_of
from swin_jax.plan import ahead_of_time, hlo, roofline
from swin_jax.plan.formula import Formula, activations, breakdown, by_formula
from swin_jax.run import checks, source_model
from swin_jax.run import config as run_config
from swin_jax.run.program import build
from swin_jax.tasks import kind_of
from swin_jax.terminal.errors import BadInput

# Assumed fraction of the roofline, for a first estimate of images per second; not measured.
EFFICIENCY = 0.5
# Arguments of a step; the compiler counts them separately from temporary arrays.
ARGUMENTS = ("parameters", "optimizer", "ema", "batch")


def ready(config: ConfigDict, batch_size: int = 0, given: Collection[str] = ()) -> ConfigDict:
  """Returns the config as the run would see it, without opening the data.

  Args:
    config: as given.
    batch_size: replaces the config's batch sizes of training and evaluation; 0 keeps them.
    given: keys that flags set; a model of other weights leaves them alone.

  Raises:
    BadInput: the config is invalid, or leaves the number of classes to the data.
  """
  config = run_config.with_statistics(source_model.with_model(config, given))
  if batch_size:
    config.data.update(batch_size=batch_size, eval_batch_size=batch_size)
  checks.check(config)
  kind = kind_of(config)
  if kind.needs.has_classes and not kind.num_classes(config):
    raise BadInput(
      "the number of classes comes from the data, which the planner does not open: give, for"
      f" example, --config.{kind.group}.num_classes=1000"
    )
  return config


def check(
  config: ConfigDict, place: Slice, *, analytic: bool, patiently: Callable[[str, Callable[[], Any]], Any]
) -> dict[str, Any]:
  """Returns the report on a run as a dict for JSON; the help text of `python -m swin_jax.plan` lists the
  keys.

  Args:
    config: from `ready`.
    place: the slice.
    analytic: whether to estimate by formula only, as is always done for GPUs.
    patiently: (description, function) → the function's result, while reporting that it is in progress.

  Raises:
    BadInput: see `by_formula` and `ahead_of_time.devices_of`; or the chips cannot run the attention kernel.
  """
  backbone_of(config).check_platform(config, "tpu" if place.is_tpu else "gpu")
  devices = ahead_of_time.devices_of(place) if place.is_tpu and not analytic else None
  formula = patiently("estimating by formula", lambda: by_formula(config, place))
  parted = breakdown(config)
  sizes, sent, memory, extra = formula.bytes_per_chip, formula.sent, place.chip.memory_bytes, {}
  fits = formula.total <= memory
  if devices is not None:
    compiled = patiently("compiling the train step", lambda: _compile(config, devices, sizes))
    sizes = _compiled_sizes(formula, compiled)
    # The compiler sometimes accepts a step that needs slightly more than the memory.
    fits = compiled.accepted and sum(sizes.values()) <= memory
    extra |= {
      "accepted": compiled.accepted,
      "compile_seconds": round(compiled.seconds, 1),
      "libtpu": importlib.metadata.version("libtpu"),
    }
    extra["optimization_level"] = jax.config.jax_optimization_level.replace("UNKNOWN", "")
    if compiled.accepted:
      sent, extra["loops_of_unknown_length"] = hlo.collectives(compiled.text)
  time = roofline.step_time(place, formula.flops, formula.traffic, sent)
  return {
    "topology": str(place),
    "chip": place.chip.title,
    "method": "analytic" if devices is None else "compiled",
    "fits": fits,
    "chips": place.num_chips,
    "mesh": formula.mesh,
    "batch_size": config.data.batch_size,
    "accumulation_steps": config.optim.accumulation_steps,
    "images_per_chip": formula.images,
    "remat": parted.remat if parted else "none",
    "bytes_per_chip": sizes | {"total": sum(sizes.values())},
    "memory_per_chip": memory,
    "analytic_bytes_per_chip": formula.bytes_per_chip | {"total": formula.total},
    "flops_per_step": formula.flops.model,
    "recomputed_flops_per_step": formula.flops.recomputed,
    "collectives": _by_kind(sent),
    "analytic_collectives": _by_kind(formula.sent),
    "roofline_seconds": time._asdict(),
    "step_seconds": time.bound,
    "efficiency": EFFICIENCY,
    "images_per_second": EFFICIENCY * config.data.batch_size / time.bound,
    "jax": jax.__version__,
    **extra,
  }


def advise(config: ConfigDict, place: Slice, report: dict[str, Any]) -> dict[str, Any]:
  """Returns changes with which the run would fit, by formula, scaled to the compiler's result for this slice.

  Args:
    config, place: those of the report.
    report: from `check`.

  Returns:
    batch_size: the largest that fits this slice.
    accumulation_steps: the fewest with which the present batch fits this slice.
    remat: a policy with which the run fits, all else unchanged.
    smallest_slice: the smallest slice of this generation that fits, all else unchanged.
    Each is None if it does not exist.
  """
  fixed = sum(
    report["bytes_per_chip"][kind] for kind in ("parameters", "optimizer", "ema", "gradients", "batch")
  )
  by_images = report["bytes_per_chip"]["total"] - fixed
  expected = (
    report["analytic_bytes_per_chip"]["activations"] + report["analytic_bytes_per_chip"]["temporaries"]
  )
  scale, images = by_images / expected, report["images_per_chip"]
  memory = place.chip.memory_bytes

  def with_remat(policy):
    kept = activations(_changed(config, policy))
    return fixed + scale * (kept.saved + kept.widest) * images <= memory

  def smallest_slice():
    for candidate, formula in _candidates(config, place.generation, scale):
      if (
        formula.total
        + (scale - 1) * (formula.bytes_per_chip["activations"] + formula.bytes_per_chip["temporaries"])
        <= memory
      ):
        return str(candidate)
    return None

  batch, now = config.data.batch_size, config.optim.accumulation_steps
  ways = batch // now // images

  def room(parts):  # number of images that fit on a chip at once
    second_gradient = report["bytes_per_chip"]["gradients"] if parts > 1 and now == 1 else 0
    return max(int((memory - fixed - second_gradient) / (by_images / images)), 0)

  fewest = next(
    (k for k in range(1, batch // ways + 1) if batch % (k * ways) == 0 and batch // (k * ways) <= room(k)),
    None,
  )
  stricter = parted.stricter if (parted := breakdown(config)) else ()
  return {
    "batch_size": room(now) * ways * now or None,
    "accumulation_steps": fewest,
    "remat": None if report["fits"] else next(filter(with_remat, stricter), None),
    "smallest_slice": smallest_slice(),
  }


def smallest(
  config: ConfigDict, generation: str, *, analytic: bool, patiently: Callable[[str, Callable[[], Any]], Any]
) -> dict[str, Any]:
  """Returns the report on the smallest slice of a generation that fits, proposed by formula and confirmed by
  the compiler.

  Args:
    config, analytic, patiently: as in `check`.
    generation: key of `hardware.CHIPS`.

  Raises:
    BadInput: the run fits no slice, or does not divide over any.
  """
  place = None
  for place, formula in _candidates(config, generation):
    if formula.total > 1.2 * place.chip.memory_bytes:
      continue
    report = check(config, place, analytic=analytic, patiently=patiently)
    if report["fits"]:
      return report
  if place is None:
    # Raises the BadInput that says why the run does not divide.
    by_formula(
      config, [place for place in hardware.slices(generation) if place.num_chips <= len(jax.devices())][-1]
    )
  raise BadInput(
    f"--topology={generation}: the run fits no slice of up to {len(jax.devices())} chips; name a slice to "
    "see what would fit"
  )


def _candidates(config: ConfigDict, generation: str, scale: float = 1.0) -> Iterator[tuple[Slice, Formula]]:
  """Yields the slices that the run divides over, smallest first, except those that clearly cannot hold the
  activations.
  """
  kept, images = activations(config), config.data.batch_size // config.optim.accumulation_steps
  for place in hardware.slices(generation):
    if place.num_chips > len(jax.devices()):
      return
    # 1.2: the formula may overestimate, but not by more than that.
    if scale * (kept.saved + kept.widest) * images / place.num_chips > 1.2 * place.chip.memory_bytes:
      continue
    with contextlib.suppress(BadInput):  # does not divide
      yield place, by_formula(config, place)


def _compile(
  config: ConfigDict, devices: Sequence[jax.Device], sizes: dict[str, int]
) -> ahead_of_time.Compiled:
  program = build(config, 1, 1, devices)

  def lower():
    with sharding.trace_on(program.mesh, program.rules):
      return program.step.lower(program.state, program.batch)

  return ahead_of_time.compile_step(lower, sum(sizes[kind] for kind in ARGUMENTS))


def _compiled_sizes(formula: Formula, compiled: ahead_of_time.Compiled) -> dict[str, int]:
  """Returns the bytes by kind: state, batch and gradients from their shardings, as in the formula, and the
  rest as the compiler planned it.
  """
  sizes = {kind: formula.bytes_per_chip[kind] for kind in (*ARGUMENTS, "gradients")}
  rest = max(compiled.temporary_bytes - sizes["gradients"], 0)
  activations = min(formula.bytes_per_chip["activations"], rest)
  padding = compiled.arguments_bytes - sum(sizes[kind] for kind in ARGUMENTS)
  return sizes | {
    "activations": activations,
    "temporaries": rest - activations,
    "padding": padding,
    "program": compiled.program_bytes,
  }


def _changed(config: ConfigDict, remat: str) -> ConfigDict:
  config = config.copy_and_resolve_references()
  config.model.remat = remat
  return config


def _by_kind(sent: list[hlo.Collective]) -> dict[str, dict[str, int]]:
  table: dict[str, dict[str, int]] = {}
  for collective in sent:
    row = table.setdefault(
      f"{collective.kind} {collective.dtype}", {"times": 0, "payload_bytes": 0, "link_bytes": 0}
    )
    row["times"] += collective.times
    row["payload_bytes"] += collective.times * collective.payload_bytes
    row["link_bytes"] += collective.link_bytes
  return table
