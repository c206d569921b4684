"""Predicts whether a run fits a TPU slice or GPU nodes before you rent them: memory, collectives, time of a
step, and what to change if it does not fit.

  python -m swin_jax.plan --config=NAME[:KIND] \\
      --topology=v5p:4x4x4 [--batch=N] [--json=OUT] [--config.group.key=value]

For a TPU slice, the real train step is compiled on this machine. That needs no TPU, only libtpu: pip install
'swin_jax[plan]'. It takes minutes, as long as the run's own compilation. JAX_OPTIMIZATION_LEVEL=O1 in the
environment cuts this to between a third and a half; the plan then applies to runs with the same setting.
GPUs (h100:8, h200:16, eight per node) are estimated by formula, and so are TPUs with --analytic.
--topology=v5p searches for the smallest slice of v5p that fits. No data is opened. The exit code is 0 whether
or not the run fits.

Keys of --json; bytes are per chip, and a chip of TPU7x is one of its two cores:
  fits                     whether total ≤ memory_per_chip and, if compiled, the compiler accepted the step
                           (accepted)
  method                   "compiled" or "analytic"; compiled plans took 0.54 to 1.74 times the analytic
                           bytes, most of them within 20 %
  topology, chip, chips    the slice, its type of chip, number of chips; mesh: chips along each mesh axis
  batch_size               images per step over all chips; accumulation_steps: parts that a batch is computed
                           in; images_per_chip: images of one part on one chip
  remat                    rematerialisation policy
  bytes_per_chip           parameters, optimizer, ema, batch: exact, from the shardings. gradients: float32,
                           divided like the parameters, twice with accumulation. activations: what autodiff
                           keeps of the images for the backward pass under the remat policy; without a policy,
                           the results of matrix products. temporaries: if compiled, everything else that the
                           compiler allocates; if analytic, activations, weights and gradient of one block or
                           of the head.
                           padding, program (compiled only): padding of the arguments to tiles; size of the
                           program. total: the sum
  memory_per_chip          memory available to a program; GPU: 92 %, with XLA_PYTHON_CLIENT_MEM_FRACTION=0.92
  analytic_bytes_per_chip  bytes_per_chip by formula
  flops_per_step           three forward passes, over all chips; recomputed_flops_per_step: what remat adds
  collectives              kind and type → times per step, payload_bytes (whole arrays), link_bytes (received
                           by each chip, with ring algorithms); read from the optimised program if compiled,
                           by formula if the compiler refused the step. analytic_collectives: by formula
  roofline_seconds         compute, memory, interconnect at the vendors' peak rates; step_seconds: the largest
                           of them
  images_per_second        over all chips, at an assumed efficiency (fraction of the roofline); not measured
  advice                   by formula, scaled to the compiler's result: the largest batch_size that fits this
                           slice, the fewest accumulation_steps, a remat policy, the smallest_slice of the
                           generation; null for each that does not exist
  compile_seconds, optimization_level (empty: the compiler's default), loops_of_unknown_length (collectives
  in them are counted once); libtpu, jax: versions
"""

from collections.abc import Sequence
import contextlib
import json
import os
import pathlib
import sys
from typing import Any

from swin_jax.terminal import preemption, quiet

if __name__ == "__main__":
  preemption.listen()  # before the slow imports
  quiet.libraries()

from absl import logging

from swin_jax.mesh import hardware
from swin_jax.terminal import cli, files, rules
from swin_jax.terminal.addresses import local_path
from swin_jax.terminal.errors import BadInput, cannot_write
from swin_jax.terminal.progress import patiently, say

VIRTUAL_DEVICES = 1024  # largest number of chips in the search for the smallest slice that fits


def _parser() -> cli.ConfigParser:
  parser = cli.ConfigParser(prog="python -m swin_jax.plan", description=__doc__)
  parser.add_argument(
    "--topology",
    metavar="NAME",
    help="slice or nodes, like v5p:4x4x4 or h200:16; a generation alone searches for its smallest slice that"
    " fits",
  )
  parser.add_argument(
    "--batch",
    type=cli.number(rules.Whole(0, 2**20)),
    default=0,
    metavar="N",
    help="images per step of training and of evaluation; 0 for the config's batch sizes",
  )
  parser.add_argument("--json", type=local_path, metavar="OUT", help="file to write the result to")
  parser.add_argument(
    "--analytic", action="store_true", help="estimate TPUs by formula too; takes seconds and needs no libtpu"
  )
  return parser


def set_environment() -> None:
  """Sets the environment variables that jax and libtpu need. Must be called before jax is imported."""
  # Overrides the user's setting: the planner runs nothing on the machine's accelerators.
  os.environ["JAX_PLATFORMS"] = "cpu"
  # libtpu's lock file would refuse a second process
  for name, value in (quiet.WITHOUT_TPU | {"ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}).items():
    os.environ.setdefault(name, value)


def main(argv: Sequence[str]) -> int:
  """Runs the command and returns its exit code."""

  def body():
    arguments = _parser().parse_args(argv[1:])
    cli.require(arguments, topology="v5p:4x4x4")
    place = None if arguments.topology in hardware.CHIPS else hardware.parse(arguments.topology)
    out = pathlib.Path(arguments.json) if arguments.json else None
    if out and (out.is_dir() or not os.access(out.parent, os.W_OK | os.X_OK)):
      raise BadInput(f"--json={out} cannot be written: it must be a file in a folder that exists")
    logging.set_verbosity(logging.ERROR)
    set_environment()
    import jax  # not earlier: jax reads the environment when it is imported

    with contextlib.suppress(RuntimeError):  # a process that has already used jax keeps its devices
      jax.config.update("jax_num_cpu_devices", max(place.num_chips if place else 0, VIRTUAL_DEVICES))
    from swin_jax.plan import report as fit
    from swin_jax.run import reads

    given = cli.given_keys(argv)
    reads.check_flags(arguments.config, given)
    config = fit.ready(arguments.config, arguments.batch, given)
    if place:
      report = fit.check(config, place, analytic=arguments.analytic, patiently=patiently)
    else:
      report = fit.smallest(config, arguments.topology, analytic=arguments.analytic, patiently=patiently)
    report["advice"] = patiently(
      "searching for what fits", lambda: fit.advise(config, hardware.parse(report["topology"]), report)
    )
    say(*describe(report))
    if out:
      try:
        files.write(out, json.dumps(report, indent=2) + "\n")
      except OSError as error:
        raise cannot_write(f"--json={out}", error) from error

  return cli.exit_code(body)


def describe(report: dict[str, Any]) -> list[str]:
  """Returns the lines of the report for the terminal."""
  gib, sizes, memory = 2**30, report["bytes_per_chip"], report["memory_per_chip"]
  analytic = report["method"] == "analytic"
  verdict = "fits" if report["fits"] else "DOES NOT FIT"
  if analytic:
    how = "[analytic: by formula, nothing was compiled]"
  else:
    level = f" at optimization level {report['optimization_level']}" if report["optimization_level"] else ""
    word = (
      "; the compiler refused it"
      if not report["accepted"]
      else ""
      if report["fits"]
      else ", although the compiler accepted it"
    )
    how = f"[compiled{level}]{word}"
  # Compiled plans of the 3 B model took 0.54 to 1.74 times the bytes of the formula.
  close = analytic and 0.55 < sizes["total"] / memory < 1.85
  parts, again, times = (
    report["accumulation_steps"],
    report["recomputed_flops_per_step"],
    report["roofline_seconds"],
  )
  lines = [
    f"{report['topology']} ({report['chips']} × {report['chip']}), batch {report['batch_size']} in {parts}"
    f" part{'s' * (parts != 1)},"
    f" {report['images_per_chip']} images per chip, remat {report['remat']}: {verdict} {how}",
    f"  memory per chip, GiB: {sizes['total'] / gib:.2f} of {memory / gib:.2f}"
    + ("; too close for a formula to be sure" if close else ""),
  ]
  by_formula = report["analytic_bytes_per_chip"]
  for kind, size in sizes.items():
    other = "" if analytic else f"   by formula {by_formula[kind] / gib:8.3f}" if kind in by_formula else ""
    lines.append(f"    {kind:14}{size / gib:8.3f}{other}")
  lines.append(
    f"  FLOPs per step: {report['flops_per_step']:.4g}"
    + (f", and {again:.4g} recomputed by remat" if again else "")
  )
  tables = {"collectives": report["collectives"]} if analytic or report["accepted"] else {}
  tables |= {} if analytic else {"collectives by formula": report["analytic_collectives"]}
  for name, table in tables.items():
    for kind, row in table.items():
      lines.append(
        f"  {name}: {kind} × {row['times']}, {row['link_bytes'] / 1e9:.3f} GB received by each chip per step"
      )
  if report.get("loops_of_unknown_length"):
    lines.append(
      f"  {report['loops_of_unknown_length']} loop(s) of unknown length hold collectives, which are counted"
      " once"
    )
  terms = ", ".join(f"{name} {seconds:.4g} s" for name, seconds in times.items())
  lines.append(
    f"  roofline of a step: {report['step_seconds']:.4g} s, the longest of {terms};"
    f" {report['images_per_second']:.4g} images/s at an assumed {report['efficiency']:.0%} of that"
  )
  advice = report.get("advice", {})
  for key, text in (
    ("remat", "with --config.model.remat={} it would fit"),
    ("accumulation_steps", "with --config.optim.accumulation_steps={} it would fit"),
    ("batch_size", "the largest batch that fits here: --batch={}"),
    ("smallest_slice", "the smallest slice for this config: --topology={}"),
  ):
    if advice.get(key) and (key in ("batch_size", "smallest_slice") or not report["fits"]):
      lines.append(f"  by formula: {text.format(advice[key])}")
  if not report["fits"] and not any(advice.values()):
    lines.append(
      "  by formula none of these alone is enough; a larger slice, stricter remat and a smaller batch "
      "together may be"
    )
  return lines


if __name__ == "__main__":
  cli.leave(main(sys.argv))
