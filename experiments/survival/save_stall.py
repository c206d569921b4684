"""How long does an asynchronous save hold up training, for a state as large as the machine can hold?

  python experiments/survival/save_stall.py --out=runs/stall --gigabytes=6

Steps are matrix products of a fixed size, on a state of so many gigabytes in 1 GB arrays, saved by the code that training uses.
"""

import argparse
import pathlib
import shutil
import time

import flax
import jax
import jax.numpy as jnp
import numpy as np

from swin_jax import manifest
from swin_jax.checkpoint import Checkpoints


@flax.struct.dataclass
class State:
  params: dict
  ema: None = None


@jax.jit
def work(x):
  """Some tenths of a second of a step's work; it reads one array and changes nothing of the state, so that no copy is timed."""
  for _ in range(8):
    x = jnp.tanh(x @ x / 50.0)
  return x


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", required=True)
  parser.add_argument("--gigabytes", type=int, default=6)
  parser.add_argument("--steps", type=int, default=40, help="timed before the save, and beside it")
  args = parser.parse_args()
  shutil.rmtree(args.out, ignore_errors=True)
  # Random: what compresses is written faster than a state is.
  state = State({f"array{i}": jax.random.normal(jax.random.key(i), (250_000, 1000)) for i in range(args.gigabytes)})
  jax.block_until_ready(state)
  x = jax.random.normal(jax.random.key(0), (1500, 1500))
  work(x).block_until_ready()

  def steps(count, after=lambda: True):
    seconds = []
    while len(seconds) < count and after():
      start = time.perf_counter()
      work(x).block_until_ready()
      seconds.append(time.perf_counter() - start)
    return np.array(seconds)

  checkpoints = Checkpoints(args.out, 2, 0, 1, ("loss", False))
  alone = steps(args.steps)
  start = time.perf_counter()
  checkpoints.save(1, state, {"samples_seen": 0}, {})
  stall = time.perf_counter() - start
  folder = pathlib.Path(args.out).absolute() / "checkpoints" / "1"

  def unfinished():
    checkpoints.poll()
    return not (folder / manifest.NAME).exists()

  beside = steps(10**6, unfinished)
  total = time.perf_counter() - start
  checkpoints.close()
  size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
  print(f"state {args.gigabytes} GB, {size / 1e9:.2f} GB on disk")
  print(f"a step alone: median {np.median(alone) * 1e3:.0f} ms")
  print(f"the save held up its step for {stall:.2f} s")
  print(f"then it ran beside {len(beside)} steps for {total - stall:.1f} s, checksums included: median {np.median(beside) * 1e3:.0f} ms a step,"
        f" worst {beside.max() * 1e3:.0f} ms")  # fmt: skip
  start = time.perf_counter()
  assert manifest.find_damage(folder) is None
  print(f"checking its checksums takes {time.perf_counter() - start:.1f} s")
  shutil.rmtree(args.out)


if __name__ == "__main__":
  main()
