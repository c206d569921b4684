"""Ours against the peers: the same model and the same work, on one machine in one run. Reports images per
second and their ratios.

  pip install -r requirements-peers.txt
  python -m experiments.benchmark.compare --platform=cpu --json=experiments/benchmark/cpu.json
  python -m experiments.benchmark.compare --platform=gpu \
      --json=gpu.json [--cases=B/w16/256] [--batches=64,128] [--resume]

Every implementation runs in a process of its own (`contestant.py`). On a CPU the processes wait and take
turns (`cpu.py`). On a GPU each process needs all the memory, so each starts after the previous one has ended
(`gpu.py`). Results are medians. Peers that are not installed are left out, and reported. A ratio is ours
divided by the best peer's.
"""

import importlib.util
import json
import pathlib
import re
import signal
import sys
from typing import Any

from experiments.benchmark import cpu, gpu, report, result_file
from experiments.benchmark.contestant import CONTESTANTS
from swin_jax.mesh import hardware as chips
from swin_jax.terminal import cli, rules
from swin_jax.terminal.errors import BadInput


def gpu_contestants() -> tuple[list[str], list[str]]:
  """Returns the GPU half's contestants that can start here, and those whose library is missing."""
  available, missing = [], []
  for name in CONTESTANTS["gpu"]:
    (
      available if importlib.util.find_spec(re.match(r"\w+", name)[0].replace("swin_jax", "jax")) else missing
    ).append(name)
  for name in missing:
    print(f"{name}: not installed, left out", flush=True)
  return available, missing


def some(names: str | None, available: list[str], flag: str) -> list[str]:
  """Returns the choices that a comma-separated flag names, in their usual order; all choices if the flag is
  not given.
  """
  asked = names.split(",") if names else available
  for name in asked:
    if name not in available:
      raise BadInput(f"--{flag}={names}: there is no '{name}' here; there are {', '.join(available)}")
  return [name for name in available if name in asked]


def earlier_of(path: pathlib.Path | None) -> dict[str, Any]:
  """Returns the earlier result that --resume continues."""
  if not (path and path.exists()):
    raise BadInput("--resume goes on with the file of --json, which is not there")
  try:
    earlier = json.loads(path.read_text())
  except (OSError, ValueError):
    earlier = None
  if not isinstance(earlier, dict) or not {"hardware", "measurements"} <= earlier.keys():
    raise BadInput(f"--resume: {path} was not written by --platform=gpu")
  return earlier


def on_gpu(arguments: Any) -> None:
  """Runs the GPU half: measures, prints a table, and writes the table and the roofline next to the JSON."""
  cases = {case: gpu.CASES[case] for case in some(arguments.cases, list(gpu.CASES), "cases")}
  batches = sorted(set(arguments.batches)) if arguments.batches else gpu.BATCHES
  out = arguments.json
  earlier = earlier_of(out) if arguments.resume else None
  if out and out.exists() and not arguments.resume:
    raise BadInput(f"--json={out} is there already: give --resume to go on with it, or another name")
  hardware = gpu.find_gpu()
  if earlier and earlier["hardware"]["device"] != hardware["device"]:
    raise BadInput(
      f"--resume: {out} was measured on {earlier['hardware']['device']}, and this is {hardware['device']}"
    )
  # SIGTERM acts like Ctrl-C, so that no contestant is left behind holding its memory.
  signal.signal(signal.SIGTERM, signal.default_int_handler)
  available, missing = gpu_contestants()
  result = gpu.compare(
    hardware,
    cases,
    tuple(batches),
    some(arguments.contestants, available, "contestants"),
    missing,
    out,
    rounds=arguments.rounds or gpu.ROUNDS,
    limit_seconds=arguments.limit_seconds,
    entries=earlier and earlier["measurements"],
  )
  print(report.table(result))
  if out and (chip := result["hardware"]["chip"]):
    chip = chips.CHIPS[chip]
    out.with_suffix(".svg").write_text(report.roofline(result, chip.peak_flops, chip.memory_speed))
    out.with_suffix(".md").write_text(report.table(result) + "\n")


def main(argv: list[str]) -> None:
  parser = cli.Parser(prog="python -m experiments.benchmark.compare", description=__doc__)
  parser.add_argument("--platform", required=True, choices=("cpu", "gpu"), help="where the work runs")
  parser.add_argument("--rounds", type=int, help="number of turns of each implementation")
  parser.add_argument(
    "--json",
    type=pathlib.Path,
    help="file for all measurements; gpu: also writes a .md and a .svg next to it",
  )
  parser.add_argument("--cases", help=f"gpu: comma-separated cases, by default all: {', '.join(gpu.CASES)}")
  parser.add_argument(
    "--batches",
    type=cli.numbers(rules.Whole(1, 2**20), range(1, 99)),
    help=f"gpu: images per step, instead of {','.join(map(str, gpu.BATCHES))}",
  )
  parser.add_argument(
    "--contestants", help=f"gpu: comma-separated names, by default all: {', '.join(CONTESTANTS['gpu'])}"
  )
  parser.add_argument(
    "--limit_seconds", type=float, default=600, help="gpu: time after which a measurement is abandoned"
  )
  parser.add_argument("--resume", action="store_true", help="gpu: continue the result in the --json file")
  arguments = parser.parse_args(argv[1:])
  if arguments.rounds is not None and arguments.rounds < 1 or arguments.limit_seconds <= 0:
    raise BadInput("--rounds and --limit_seconds must be more than 0")
  result_file.check(arguments.json)
  if arguments.platform == "gpu":
    on_gpu(arguments)
    return
  for flag in ("cases", "batches", "contestants", "resume"):
    if getattr(arguments, flag):
      raise BadInput(f"--{flag} is for --platform=gpu")
  result = cpu.compare(arguments.rounds or cpu.ROUNDS)
  if arguments.json:
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
  print(cpu.table(result))


if __name__ == "__main__":
  cli.leave(cli.exit_code(lambda: main(sys.argv)))
