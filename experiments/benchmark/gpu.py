"""The GPU half: many models, each batch that fits, one contestant after the other.

On a CPU contestants take turns, all of them waiting in memory. Here each has the GPU to itself and a process
of its own for every model, kind of work and batch: one that waits would keep memory that another needs for
its largest batch, and what it measures of its own memory would hold what an earlier batch left.
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
# One GPU; of its memory ours gets what chips.py counts on, and takes it all at once, as a run does.
ENVIRONMENT = {
  "gpu": {
    "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0],
    "JAX_PLATFORMS": "cuda",
    "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92",
  },
  "cpu": {"JAX_PLATFORMS": "cpu"},
}


def find_gpu() -> dict[str, Any]:
  """The GPU, as jax in a process of its own and the driver name it.

  Raises:
    BadInput: jax sees none.
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
  found = {"device": done.stdout.strip().splitlines()[-1]}
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
      found["driver"] = dict(zip(query, done.stdout.splitlines()[0].split(", "), strict=False))
  return found


def why_not(name: str, work: dict[str, Any]) -> str:
  """Why a contestant has no part in a case; empty where it has."""
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
  """(case, kind, contestant) of everything that is measured, in that order."""
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
  """One contestant at one kind of work with one batch, in a process that has begun and ended when this
  returns.

  Returns:
    images_per_second: median of the rounds; seconds_a_step: of each round, whose steps are begun one after
      the other and waited for
    together; steps_a_round; peak_bytes; deviation; versions; seconds: that all of it took. Of what failed
    instead: failed, the reason;
    out_of_memory; log.
  """
  (kind,) = work["kinds"]
  began, found = time.perf_counter(), {}
  try:
    with Process(name, work, environment, limit_seconds) as process:
      process.run(kind, 3)  # CUDA graphs are recorded
      steps = max(1, round(ROUND_SECONDS * 3 / process.run(kind, 3)["seconds"]))
      turns = [process.run(kind, steps) for _ in range(rounds)]
    each = [turn["seconds"] / steps for turn in turns]
    found = {
      "images_per_second": work["batch"] / statistics.median(each),
      "seconds_a_step": each,
      "steps_a_round": steps,
      "peak_bytes": turns[-1]["peak_bytes"],
      **process.ready,
    }
  except Ended as error:
    found = {"failed": str(error), "out_of_memory": error.out_of_memory, "log": error.log}
  return found | {"seconds": round(time.perf_counter() - began, 1)}


def scores(work: dict[str, Any], kind: str, images_per_second: float, chip: str) -> dict[str, float]:
  """mfu: model FLOPs over the chip's peak; floor_share: of the speed that `floor.py` allows; intensity: its
  FLOPs a byte.
  """
  os.environ["JAX_PLATFORMS"] = "cpu"  # this process leaves the GPU alone
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
  """The fastest entry of ours or of the peers, over contestants and batches; None where none ran."""
  there = [
    e
    for e in entries
    if (e["case"], e["kind"], e["contestant"].startswith(OURS)) == (case, kind, ours) and "failed" not in e
  ]
  return max(there, key=lambda entry: entry["images_per_second"], default=None)


def ratios(entries: list[dict[str, Any]], case: str) -> dict[str, Any]:
  """forward_ratio, train_ratio: ours over the best of the peers, each at its best batch, and which those are;
  None where one lacks.
  """
  found = {}
  for kind in KINDS:
    mine, theirs = (best(entries, case, kind, ours) for ours in (True, False))
    found[f"{kind}_ratio"] = (
      mine["images_per_second"] / theirs["images_per_second"] if mine and theirs else None
    )
    for whose, entry in (("ours", mine), ("best_peer", theirs)):
      keys = ("contestant", "batch", "images_per_second")
      found.setdefault(whose, {})[kind] = {key: entry[key] for key in keys} if entry else None
  return found


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
  """Measures what is asked for, and writes it after each measurement, so that what is cut short leaves what
  it has.

  Args:
    hardware: what `find_gpu` says.
    cases: name → work.
    batches: ascending; the sweep of a contestant ends with the first that fails.
    names, missing: contestants that can start here, and those that cannot.
    out: file, or None.
    rounds: of each measurement.
    limit_seconds: after which a measurement is given up.
    entries: of an earlier call, which are not measured again.
    device: "gpu", or "cpu" for tests of this file.

  Returns:
    What `out` holds: `measurements`, and per case what `ratios` makes of them; at the top too, of the
    headline case. `cut_short` until
    all is done.
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
      found = next((entry for entry in entries if label.items() <= entry.items()), None)
      if not found:
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
        found = label | measure(name, work | order, ENVIRONMENT[device], rounds, limit_seconds)
        if chip and "failed" not in found:
          found |= scores(work, kind, found["images_per_second"], chip)
        entries.append(found)
        done += 1
        print(f"  {describe(found)}", flush=True)
      failed = "failed" in found
      left -= len(batches) - i if failed else 1
      write()
      if failed:
        break
  return result()


def describe(entry: dict[str, Any]) -> str:
  """A measurement in a line."""
  if "failed" in entry:
    return ("out of memory: " if entry["out_of_memory"] else "failed: ") + entry["failed"]
  share = (
    f", MFU {entry['mfu']:.1%}, {entry['floor_share']:.1%} of the floor's speed" if "mfu" in entry else ""
  )
  return (
    f"{entry['images_per_second']:.1f} images/s, {entry['peak_bytes'] / 2**30:.1f} GiB{share}, in"
    f" {entry['seconds']:.0f} s"
  )
