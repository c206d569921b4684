"""The CPU half: ours and two variants of a peer wait in processes of their own and take turns, so that other
load on the machine affects all of them alike.

Ours keeps its memory in large pages, as `swin_jax.main` does on a CPU (`swin_jax/terminal/host_memory.py`).
The peers do so in one heat and not in the other. The result is the smallest ratio of all heats.
"""

import contextlib
import importlib.util
import os
import pathlib
import platform
import statistics
from typing import Any

from experiments.benchmark.contestant import CONTESTANTS
from experiments.benchmark.process import Process
from swin_jax.terminal import host_memory

LARGE = ", large pages"  # suffix of the names of contestants that use them
KINDS = {"forward": 4, "train": 1}  # → batches per turn, chosen so that turns take about equally long
WORK = dict(size="tiny", window=8, image_size=256, batch=16, dtype="float32", drop_path_rate=0.2)
ROUNDS = 5


def heats() -> tuple[list[list[str]], list[str]]:
  """Returns the contestants of each heat, and the peers that cannot start here.

  A heat has three contestants, because a laptop's memory would not hold more at once.
  """
  contestants, missing = [], []
  for library in ("transformers", "timm"):
    names = [name for name in CONTESTANTS["cpu"] if name.startswith(library)]
    if importlib.util.find_spec(library):
      contestants += [["swin_jax" + LARGE, *names], ["swin_jax" + LARGE, *(name + LARGE for name in names)]]
    else:
      missing += names
  return contestants, missing


def heat(names: list[str], work: dict[str, Any], rounds: int) -> dict[str, Any]:
  """Runs the contestants in turns.

  Args:
    names: ours, and the peers.
    work: the work that each does.
    rounds: number of turns for each.

  Returns:
    Medians, and all measurements.
  """
  order = work | {"platform": "cpu", "device": "cpu", "kinds": list(KINDS), "check": False}
  rates: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in names}
  with contextlib.ExitStack() as stack:
    started = {}
    for name in names:
      environment = {"JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": ""}
      if name.endswith(LARGE):
        environment = host_memory.on_large_pages(environment)
      started[name] = stack.enter_context(Process(name.removesuffix(LARGE), order, environment))
    for i in range(rounds):
      for kind in KINDS:
        for name, process in started.items():
          process.run(kind, 1)  # warm-up: other processes may have taken memory that this one had freed
          rates[name][kind].append(work["batch"] * KINDS[kind] / process.run(kind, KINDS[kind])["seconds"])
      print(f"round {i + 1} of {rounds}", flush=True)
  medians = {
    name: {kind: statistics.median(values) for kind, values in kinds.items()} for name, kinds in rates.items()
  }
  best = {kind: max(names[1:], key=lambda name: medians[name][kind]) for kind in KINDS}
  return {f"{kind}_ratio": medians[names[0]][kind] / medians[best[kind]][kind] for kind in KINDS} | {
    "best_peer": best,
    "images_per_second": medians,
    "rounds": rates,
    "versions": {name: process.ready["versions"] for name, process in started.items()},
  }


def compare(rounds: int) -> dict[str, Any]:
  """Runs ours against the peers, one heat after another.

  Returns:
    The content of the file of --json.
  """
  contestants, missing = heats()
  for name in missing:
    print(f"{name}: not installed, left out", flush=True)
  run_heats = [heat(names, WORK, rounds) for names in contestants]
  return {
    f"{kind}_ratio": min(result[f"{kind}_ratio"] for result in run_heats) for kind in KINDS if run_heats
  } | {
    "heats": run_heats,
    "work": WORK,
    "left_out": missing,
    "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()},
  }


def processor() -> str:
  cpu_info = pathlib.Path("/proc/cpuinfo")
  lines = cpu_info.read_text().splitlines() if cpu_info.exists() else []
  return next(
    (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor()
  )


def table(result: dict[str, Any]) -> str:
  """Formats the result for a README."""
  rows = ["| images a second, and ours over it | forward | train step |", "|---|---|---|"]
  for one_heat in result["heats"]:
    (ours, best), *peers = one_heat["images_per_second"].items()
    rows.append(f"| **{ours}** | {best['forward']:.2f} | {best['train']:.2f} |")
    for name, rates in peers:
      rows.append(
        f"| {name} | "
        + " | ".join(f"{rates[kind]:.2f}, {best[kind] / rates[kind]:.2f} ×" for kind in KINDS)
        + " |"
      )
  if result["heats"]:
    rows.append(
      f"| the smallest of the ratios | **{result['forward_ratio']:.2f} ×** | **{result['train_ratio']:.2f}"
      " ×** |"
    )
  return "\n".join(rows)
