"""The GPU half: many models, each batch size that fits, one contestant after another.

On a CPU all contestants stay in memory and take turns. Here each has the GPU to itself, and a process of its
own for every model, kind of work and batch size. A waiting process would hold memory that another needs for
its largest batch, and a process with several batch sizes would count the memory of an earlier one in its
peak.
"""

import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time
from typing import Any

from experiments.benchmark.process import Ended, Process
from swin_jax.terminal.errors import BadInput

KINDS = ("forward", "train")
OURS = "swin_jax"  # the first word of our contestants
HEADLINE = "B/w16/256"


def _classifier(size, window, image_size, drop_path_rate):
  return dict(
    size=size, window=window, image_size=image_size, dtype="bfloat16", drop_path_rate=drop_path_rate
  )


def _giant(remat):
  return dict(config="swinv2_3b", image_size=192, dtype="bfloat16", remat=remat)


CASES = {
  HEADLINE: _classifier("base", 16, 256, 0.5),
  "T/w16/256": _classifier("tiny", 16, 256, 0.2),
  "B/w8/256": _classifier("base", 8, 256, 0.5),
  "B/w24/384": _classifier("base", 24, 384, 0.2),
  "L/w24/384": _classifier("large", 24, 384, 0.2),
  "G/w12/192/SimMIM": _giant("block"),
  "G/w12/192/SimMIM/no-remat": _giant("none"),
}
BATCHES = (32, 64, 128, 256, 512)
ROUNDS, ROUND_SECONDS = 5, 1.0
# One GPU. Ours gets the share of its memory that `swin_jax/mesh/hardware.py` assumes, and allocates it all at
# once, as a run does.
ENVIRONMENT = {
  "gpu": {
    "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0],
    "JAX_PLATFORMS": "cuda",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92",
  },
  "cpu": {"JAX_PLATFORMS": "cpu"},
}


def find_gpu() -> dict[str, Any]:
  """Describes the GPU as jax (in a separate process) and the driver report it.

  Raises:
    BadInput: jax sees no GPU.
  """
  code = "import jax; print(jax.devices('gpu')[0].device_kind)"
  environment = os.environ | {"JAX_PLATFORMS": "", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
  done = subprocess.run(
    [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
  )
  if done.returncode:
    reason = (done.stderr.strip().splitlines() or [""])[-1]
    raise BadInput(
      f'--platform=gpu: jax sees no GPU here (pip install "jax[cuda12]" brings what it needs): {reason}'
    )
  hardware = {"device": done.stdout.strip().splitlines()[-1]}
  if shutil.which("nvidia-smi"):
    query = ["name", "driver_version", "memory.total", "power.limit", "clocks.max.sm"]
    done = subprocess.run(
      [
        "nvidia-smi",
        "-i",
        os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0],
        f"--query-gpu={','.join(query)}",
        "--format=csv,noheader",
      ],
      capture_output=True,
      text=True,
      check=False,
    )
    if not done.returncode:
      hardware["driver"] = dict(zip(query, done.stdout.splitlines()[0].split(", "), strict=False))
  return hardware


def why_not(name: str, work: dict[str, Any]) -> str:
  """Returns why a contestant does not take part in a case; "" if it does."""
  if "config" in work:
    return "" if name.startswith(OURS) else "no peer trains this"
  smallest = work["image_size"] // 4 // 8
  if name == "torchvision" and (work["window"] > smallest or smallest % work["window"]):
    return (
      f"windows of {work['window']} do not fit its map of {smallest}: it pads and attends to the"
      " padding, which is another model"
    )
  return ""


def schedule(cases: dict[str, dict], names: list[str]) -> list[tuple[str, str, str]]:
  """Returns (case, kind, contestant) of every measurement, in the order in which they run."""
  kinds = {case: ("train",) if "config" in work else KINDS for case, work in cases.items()}
  return [
    (case, kind, name)
    for case, work in cases.items()
    for kind in kinds[case]
    for name in names
    if not why_not(name, work)
  ]


def measure(
  name: str, work: dict[str, Any], environment: dict[str, str], rounds: int, limit_seconds: float
) -> dict[str, Any]:
  """Measures one contestant at one kind of work and batch size, in a process that ends before this returns.

  Returns:
    images_per_second: median over the rounds; seconds_a_step: one number per round, whose steps are started
    one after another and awaited together; steps_a_round; peak_bytes; deviation; versions; seconds: total
    time. If the measurement failed, instead: failed, the reason; out_of_memory; log.
  """
  (kind,) = work["kinds"]
  began, entry = time.perf_counter(), {}
  try:
    with Process(name, work, environment, limit_seconds) as process:
      process.run(kind, 3)  # records CUDA graphs
      steps = max(1, round(ROUND_SECONDS * 3 / process.run(kind, 3)["seconds"]))
      turns = [process.run(kind, steps) for _ in range(rounds)]
    each = [turn["seconds"] / steps for turn in turns]
    entry = {
      "images_per_second": work["batch"] / statistics.median(each),
      "seconds_a_step": each,
      "steps_a_round": steps,
      "peak_bytes": turns[-1]["peak_bytes"],
      **process.ready,
    }
  except Ended as error:
    entry = {"failed": str(error), "out_of_memory": error.out_of_memory, "log": error.log}
  return entry | {"seconds": round(time.perf_counter() - began, 1)}


def scores(work: dict[str, Any], kind: str, images_per_second: float, chip: str) -> dict[str, float]:
  """Returns mfu: model FLOPs over the chip's peak; floor_share: share of the speed that `floor.py` allows;
  flops_per_second; intensity: the floor's FLOPs per byte.
  """
  os.environ["JAX_PLATFORMS"] = "cpu"  # this process leaves the GPU to the contestants
  from experiments.benchmark import floor as floors
  from experiments.benchmark import ours
  from swin_jax.mesh import hardware as chips
  from swin_jax.models import swin
  from swin_jax.run.step import FORWARD_PASSES

  config = ours.config_of(work)
  model, bands, place = swin.make_encoder(**config.model), len(config.data.mean), chips.CHIPS[chip]
  flops = model.flops(config.data.image_size, bands) * (FORWARD_PASSES if kind == "train" else 1)
  floor = floors.floor(model, config.data.image_size, bands, work["batch"], place, train=kind == "train")
  return {
    "mfu": images_per_second * flops / place.peak_flops,
    "floor_share": images_per_second * floor.seconds / work["batch"],
    "flops_per_second": images_per_second * flops,
    "intensity": floor.flops / floor.traffic,
  }


def best(entries: list[dict[str, Any]], case: str, kind: str, ours: bool) -> dict[str, Any] | None:
  """Returns the fastest entry of ours or of the peers, over contestants and batches; None if none ran."""
  candidates = [
    e
    for e in entries
    if (e["case"], e["kind"], e["contestant"].startswith(OURS)) == (case, kind, ours) and "failed" not in e
  ]
  return max(candidates, key=lambda entry: entry["images_per_second"], default=None)


def ratios(entries: list[dict[str, Any]], case: str) -> dict[str, Any]:
  """Returns forward_ratio and train_ratio: ours over the best peer, each at its best batch, and the entries
  compared. A ratio is None if either is missing.
  """
  compared = {}
  for kind in KINDS:
    mine, theirs = (best(entries, case, kind, ours) for ours in (True, False))
    compared[f"{kind}_ratio"] = (
      mine["images_per_second"] / theirs["images_per_second"] if mine and theirs else None
    )
    for whose, entry in (("ours", mine), ("best_peer", theirs)):
      keys = ("contestant", "batch", "images_per_second")
      compared.setdefault(whose, {})[kind] = {key: entry[key] for key in keys} if entry else None
  return compared


def compare(
  hardware: dict[str, Any],
  cases: dict[str, dict],
  batches: tuple[int, ...],
  names: list[str],
  missing: list[str],
  out: pathlib.Path | None,
  *,
  rounds: int = ROUNDS,
  limit_seconds: float = 600,
  entries: list[dict[str, Any]] | None = None,
  device: str = "gpu",
) -> dict[str, Any]:
  """Measures what is requested, and writes the result after each measurement, so that an interrupted run
  keeps its measurements.

  Args:
    hardware: the result of `find_gpu`.
    cases: name → work.
    batches: ascending; the sweep of a contestant ends with the first batch that fails.
    names, missing: contestants that can start here, and those that cannot.
    out: file, or None.
    rounds: number of rounds of each measurement.
    limit_seconds: time after which a measurement is abandoned.
    entries: measurements of an earlier call, which are not repeated.
    device: "gpu", or "cpu" for tests of this file.

  Returns:
    The content of `out`: `measurements`, and the result of `ratios` for each case, with those of the headline
    case at the top level. `cut_short` is true until all is done.
  """
  from swin_jax.mesh import hardware as chips

  chip = next((name for name, chip in chips.CHIPS.items() if hardware["device"] in chip.kinds), None)
  entries, sweeps = list(entries or []), schedule(cases, names)
  began, left, done = time.perf_counter(), len(sweeps) * len(batches), 0
  shown = cases | {
    case: work for case, work in CASES.items() if any(entry["case"] == case for entry in entries)
  }

  def left_out(work):
    return {name: reason for name in names if (reason := why_not(name, work))}

  def result():
    return {
      **ratios(entries, HEADLINE),
      "headline": HEADLINE,
      "cut_short": left > 0,
      "cases": {
        case: {"work": work, "left_out": left_out(work), **ratios(entries, case)}
        for case, work in shown.items()
      },
      "measurements": entries,
      "asked": {"batches": batches, "contestants": names, "rounds": rounds, "limit_seconds": limit_seconds},
      "left_out": missing,
      "hardware": hardware | {"chip": chip, "cores": os.cpu_count()},
      "versions": {name: version for entry in entries for name, version in entry.get("versions", {}).items()},
    }

  def write():
    if out:
      part = out.with_name(out.name + ".part")
      part.write_text(json.dumps(result(), indent=2) + "\n")
      part.replace(out)

  write()
  for case, kind, name in sweeps:
    for i, batch in enumerate(batches):
      label = {"case": case, "kind": kind, "contestant": name, "batch": batch}
      entry = next((entry for entry in entries if label.items() <= entry.items()), None)
      if not entry:
        eta = (
          f", about {(time.perf_counter() - began) / done * left / 60:.0f} minutes to go at most"
          if done
          else ""
        )
        print(f"{case}, {kind}, {name}, batch {batch}: {left} measurements left{eta}", flush=True)
        work = cases[case] | {"batch": batch}
        order = {
          "platform": "gpu",
          "device": {"gpu": "cuda"}.get(device, device),
          "kinds": [kind],
          "check": kind == "forward",
        }
        entry = label | measure(name, work | order, ENVIRONMENT[device], rounds, limit_seconds)
        if chip and "failed" not in entry:
          entry |= scores(work, kind, entry["images_per_second"], chip)
        entries.append(entry)
        done += 1
        print(f"  {describe(entry)}", flush=True)
      failed = "failed" in entry
      left -= len(batches) - i if failed else 1
      write()
      if failed:
        break
  return result()


def describe(entry: dict[str, Any]) -> str:
  """Describes a measurement in one line."""
  if "failed" in entry:
    return ("out of memory: " if entry["out_of_memory"] else "failed: ") + entry["failed"]
  share = (
    f", MFU {entry['mfu']:.1%}, {entry['floor_share']:.1%} of the floor's speed" if "mfu" in entry else ""
  )
  return (
    f"{entry['images_per_second']:.1f} images/s, {entry['peak_bytes'] / 2**30:.1f} GiB{share}, in"
    f" {entry['seconds']:.0f} s"
  )
