"""How long does an asynchronous save hold up training, if the state is as large as the machine can hold?

  python -m experiments.survival.save_stall --out=runs/stall --gigabytes=6

A step changes every number of a state of the given size, in 1 GB arrays, in place, as training does (the old
state is donated). The state is saved by the same code as in training.
"""

import argparse
import functools
import pathlib
import shutil
import time

import flax
import jax
import numpy as np

from swin_jax.saved import manifest
from swin_jax.saved.checkpoint import Checkpoints


@flax.struct.dataclass
class State:
  params: dict
  ema: None = None


@functools.partial(jax.jit, donate_argnums=0)
def step(state):
  return jax.tree.map(lambda x: 0.999 * x, state)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", required=True)
  parser.add_argument("--gigabytes", type=int, default=6)
  parser.add_argument("--steps", type=int, default=20, help="number of steps timed before the save")
  args = parser.parse_args()
  shutil.rmtree(args.out, ignore_errors=True)
  # Random numbers, because compressible data would be written faster than a real state.
  state = State(
    {f"array{i}": jax.random.normal(jax.random.key(i), (250_000, 1000)) for i in range(args.gigabytes)}
  )
  state = jax.block_until_ready(step(state))

  def steps(count, more=lambda: True):
    nonlocal state
    seconds = []
    while len(seconds) < count and more():
      start = time.perf_counter()
      state = jax.block_until_ready(step(state))
      seconds.append(time.perf_counter() - start)
    return np.array(seconds)

  checkpoints = Checkpoints(args.out, 2, 0, 1, ("loss", False))
  alone = steps(args.steps)
  start = time.perf_counter()
  checkpoints.save(1, state, {}, {})
  call = time.perf_counter() - start
  (first,) = steps(1)
  folder = pathlib.Path(args.out).absolute() / "checkpoints" / "1"

  def unfinished():
    checkpoints.poll()
    return not manifest.is_written(folder)

  beside = steps(10**6, unfinished)
  total = time.perf_counter() - start
  checkpoints.close()
  size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
  print(f"state {args.gigabytes} GB, {size / 1e9:.2f} GB on disk")
  print(f"a step alone: median {np.median(alone) * 1e3:.0f} ms")
  print(
    f"the save held up its step for {call:.2f} s, and the next, which must leave the saved numbers alone,"
    f" took {first:.2f} s"
  )
  print(f"then it ran beside {len(beside)} steps, checksums included, until {total:.1f} s after its start:")
  print(f"median {np.median(beside) * 1e3:.0f} ms a step, worst {beside.max() * 1e3:.0f} ms")
  start = time.perf_counter()
  assert manifest.find_damage(folder) is None
  print(f"checking its checksums takes {time.perf_counter() - start:.1f} s")
  shutil.rmtree(args.out)


if __name__ == "__main__":
  main()
