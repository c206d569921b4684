"""Runs one implementation of Swin V2 in a process that reads orders from standard input, `forward N` or
`train N`, and writes the seconds that each took to standard output.

Each implementation has a process of its own, so that no two share threads, caches or memory; `process.py`
starts them. All do the same work. `forward` runs a batch of random normalised images through the model to the
logits, without gradients. `train` is a full train step: cross-entropy with label smoothing, gradients,
clipping of their norm, AdamW with weight decay, and stochastic depth.
"""

import functools
import json
import platform
import sys
import time
from typing import Any

from experiments.benchmark.contract import DEVIATION


def _ours(work, kernel="auto"):
  from experiments.benchmark import ours  # each process imports only what it runs

  return ours.contestant(work, kernel)


def _peer(work, name, mode=None, attention=None):
  from experiments.benchmark import peers

  return peers.contestant(work, name, mode, attention)


_tuned = functools.partial(_peer, mode="max-autotune")
CONTESTANTS = {
  "cpu": {
    "swin_jax": _ours,
    "transformers": functools.partial(_peer, name="transformers"),
    "transformers, torch.compile": functools.partial(_peer, name="transformers", mode="default"),
    "timm": functools.partial(_peer, name="timm"),
    "timm, torch.compile": functools.partial(_peer, name="timm", mode="default"),
  },
  "gpu": {
    "swin_jax": _ours,
    "swin_jax-kernels": functools.partial(_ours, kernel="gpu"),
    "timm": functools.partial(_tuned, name="timm"),
    "timm-sdpa": functools.partial(_tuned, name="timm", attention="SdpaAttention"),
    "timm-flex": functools.partial(_tuned, name="timm", attention="FlexAttention"),
    "torchvision": functools.partial(_tuned, name="torchvision"),
    "transformers": functools.partial(_tuned, name="transformers"),
  },
}


def main(name: str, work: dict[str, Any]) -> None:
  contestant = CONTESTANTS[work["platform"]][name](work)
  deviation = contestant.deviation() if work["check"] else None
  if deviation is not None and not deviation < DEVIATION:
    raise ValueError(f"the logits deviate by {deviation:.3g} from those of the stock model in float32")
  for kind in work["kinds"]:
    for _ in range(2):  # compiles, and makes the allocations of the first run
      contestant.kinds[kind]()
    contestant.wait()
  versions = contestant.versions | {"python": platform.python_version()}
  print("ready", json.dumps({"versions": versions, "deviation": deviation}), flush=True)
  for line in sys.stdin:
    kind, times = line.split()
    start = time.perf_counter()
    for _ in range(int(times)):
      contestant.kinds[kind]()
    contestant.wait()
    seconds = time.perf_counter() - start
    print("took", json.dumps({"seconds": seconds, "peak_bytes": contestant.peak_bytes()}), flush=True)


if __name__ == "__main__":
  main(sys.argv[1], json.loads(sys.argv[2]))
