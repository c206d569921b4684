"""Ours against the peers: the same model, the same work, on one machine in one run; images a second and their ratios.

  pip install -r requirements-peers.txt
  python -m experiments.benchmark.compare --platform=cpu --json=experiments/benchmark/cpu.json

Every implementation waits in a process of its own (`contestant.py`) and they run in turns, so that what else happens on the machine
meets all alike; medians count. Peers that are not installed are left out and said. A ratio is ours over the best of the peers.
"""

import importlib.util
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from typing import Any

from swin_jax import cli

KINDS = ("forward", "train")
WORK = {"cpu": dict(size="tiny", window=8, image_size=256, batch=16, dtype="float32", drop_path_rate=0.2)}
ROUNDS = {"cpu": 7}
NEEDS = {"swin_jax": "jax", "transformers": "transformers", "timm": "timm"}  # the first word of a contestant's name → its module


def names() -> tuple[list[str], list[str]]:
  """The contestants that can start here, and what is missing."""
  from experiments.benchmark import contestant  # pylint: disable=g-import-not-at-top

  there, missing = [], []
  for name in contestant.CONTESTANTS:
    module = NEEDS[name.partition(",")[0]]
    (there if importlib.util.find_spec(module) else missing).append(name)
  return there, missing


def start(name: str, work: dict[str, Any], environment: dict[str, str]) -> tuple[subprocess.Popen, dict[str, str]]:
  """Starts a contestant and waits until it is warm: the process, and the versions it runs on."""
  began = time.perf_counter()
  process = subprocess.Popen(
      [sys.executable, "-m", "experiments.benchmark.contestant", name, json.dumps(work)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
      text=True, env=os.environ | environment,
  )  # fmt: skip
  for line in process.stdout:
    if line.startswith("ready "):
      print(f"{name}: ready after {time.perf_counter() - began:.0f} s", flush=True)
      return process, json.loads(line.removeprefix("ready "))
  raise SystemExit(f"{name} ended with {process.wait()} before it was ready")


def run(process: subprocess.Popen, kind: str, times: int) -> float:
  """Seconds that a contestant takes for so many batches."""
  process.stdin.write(f"{kind} {times}\n")
  process.stdin.flush()
  answer = process.stdout.readline()
  if not answer.startswith("took "):
    raise SystemExit(f"{process.args[3]} ended with {process.wait()} in its {kind} turn")
  return float(answer.removeprefix("took "))


def compare(where: str, rounds: int) -> dict[str, Any]:
  """Runs them all in turns.

  Returns:
    What --json writes.
  """
  work, (there, missing) = WORK[where], names()
  for name in missing:
    print(f"{name}: not installed, left out", flush=True)
  started = {name: start(name, work, {"JAX_PLATFORMS": where} if name == "swin_jax" else {}) for name in there}
  rates: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in there}
  for i in range(rounds):
    for kind in KINDS:
      for name, (process, _) in started.items():
        rates[name][kind].append(work["batch"] / run(process, kind, 1))
    print(f"round {i + 1} of {rounds}", flush=True)
  for process, _ in started.values():
    process.stdin.close()
    process.wait()
  medians = {name: {kind: statistics.median(values) for kind, values in kinds.items()} for name, kinds in rates.items()}
  peers = [name for name in there if name != "swin_jax"]
  best = {kind: max(peers, key=lambda name: medians[name][kind], default=None) for kind in KINDS}
  ratios = {f"{kind}_ratio": medians["swin_jax"][kind] / medians[best[kind]][kind] for kind in KINDS if best[kind]}
  return ratios | {
      "best_peer": best,
      "images_per_second": medians,
      "rounds": rates,
      "work": work,
      "left_out": missing,
      "versions": {name: versions for name, (_, versions) in started.items()},
      "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()},
  }


def processor() -> str:
  found = pathlib.Path("/proc/cpuinfo")
  lines = found.read_text().splitlines() if found.exists() else []
  return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor())


def table(result: dict[str, Any]) -> str:
  """The result for a README."""
  rows = ["| images a second | forward | train step |", "|---|---|---|"]
  rows += [f"| {name} | {kinds['forward']:.2f} | {kinds['train']:.2f} |" for name, kinds in result["images_per_second"].items()]
  if "forward_ratio" in result:
    rows.append(f"| swin_jax / the best peer | **{result['forward_ratio']:.2f}** | **{result['train_ratio']:.2f}** |")
  return "\n".join(rows)


def main(argv: list[str]) -> None:
  parser = cli.Parser(prog="python -m experiments.benchmark.compare", description=__doc__)
  parser.add_argument("--platform", required=True, choices=tuple(WORK), help="where the work runs")
  parser.add_argument("--rounds", type=int, help="how often each takes its turn")
  parser.add_argument("--json", type=pathlib.Path, help="file for everything that was measured")
  arguments = parser.parse_args(argv[1:])
  result = compare(arguments.platform, arguments.rounds or ROUNDS[arguments.platform])
  if arguments.json:
    arguments.json.write_text(json.dumps(result, indent=2) + "\n")
  print(table(result))


if __name__ == "__main__":
  cli.leave(cli.exit_code(lambda: main(sys.argv)))
