"""The CPU half: ours and two of a peer's wait in processes of their own and run in turns, so that what else
happens meets all alike.

Ours has its memory in large pages, as `swin_jax.main` has on a CPU (`swin_jax/terminal/host_memory.py`); the
peers have in one heat and not in another. Of all heats the smallest ratio counts.
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

LARGE = ", large pages"  # after the name of one whose memory is in them
KINDS = {"forward": 4, "train": 1}  # → batches of a turn, which take alike long
WORK = dict(size="tiny", window=8, image_size=256, batch=16, dtype="float32", drop_path_rate=0.2)
ROUNDS = 5


def heats() -> tuple[list[list[str]], list[str]]:
  """Who runs against whom, and the peers that cannot start here.

  More than three at once would not fit into the memory of a laptop.
  """
  there, missing = [], []
  for library in ("transformers", "timm"):
    names = [name for name in CONTESTANTS["cpu"] if name.startswith(library)]
    if importlib.util.find_spec(library):
      there += [["swin_jax" + LARGE, *names], ["swin_jax" + LARGE, *(name + LARGE for name in names)]]
    else:
      missing += names
  return there, missing


def heat(names: list[str], work: dict[str, Any], rounds: int) -> dict[str, Any]:
  """Runs them in turns.

  Args:
    names: ours, and the peers.
    work: what each does.
    rounds: how often each takes its turn.

  Returns:
    Medians, and all that was measured.
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
          process.run(kind, 1)  # what it had freed may have been taken away while others had their turn
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
  """Runs ours against the peers, heat after heat.

  Returns:
    What --json writes.
  """
  there, missing = heats()
  for name in missing:
    print(f"{name}: not installed, left out", flush=True)
  run_heats = [heat(names, WORK, rounds) for names in there]
  return {
    f"{kind}_ratio": min(found[f"{kind}_ratio"] for found in run_heats) for kind in KINDS if run_heats
  } | {
    "heats": run_heats,
    "work": WORK,
    "left_out": missing,
    "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.system()},
  }


def processor() -> str:
  found = pathlib.Path("/proc/cpuinfo")
  lines = found.read_text().splitlines() if found.exists() else []
  return next(
    (line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.processor()
  )


def table(result: dict[str, Any]) -> str:
  """The result for a README."""
  rows = ["| images a second, and ours over it | forward | train step |", "|---|---|---|"]
  for found in result["heats"]:
    (ours, best), *peers = found["images_per_second"].items()
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
