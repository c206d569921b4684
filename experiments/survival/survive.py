"""Kills one training run a hundred times at random moments, and compares it with an undisturbed run.

  python -m experiments.survival.survive --out=runs/survival [--kills=100] [--seed=0]

The kills are spread over the whole run. Many fall into start-up and compiling, the others into training,
saving and evaluation. Two out of three are SIGKILL, the others SIGTERM. Every process records which examples
each of its steps trained on. At the end, parameters, optimizer, average and metrics must equal those of the
undisturbed run bit for bit, and each step that contributed to them must have used the same examples.
"""

import argparse
import collections
import json
import pathlib
import random
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[2]
STEPS = 10_000
FLAGS = [
  "--config=configs/quickstart.py:pretrain",
  "--config.model.embed_dim=16",
  "--config.model.depths=(2,2)",
  "--config.model.num_heads=(2,4)",
  "--config.model.unroll=False",
  "--config.data.batch_size=16",
  "--config.data.eval_batch_size=36",
  "--config.data.num_threads=1",
  "--config.optim.ema_decay=0.99",
  "--config.log.num_pictures=0",
  "--config.log.every_steps=20",
  f"--config.optim.total_epochs={STEPS / 89}",
  f"--config.optim.warmup_epochs={STEPS / 10 / 89}",
  f"--config.checkpoint.every_epochs={25 / 89}",
  f"--config.log.eval_every_epochs={100 / 89}",
]

# The command, extended to record the examples of each training step, one line per step.
TRACED = """
import contextlib
import sys
from swin_jax import main
from swin_jax.terminal import cli, preemption
trace = open(sys.argv.pop(1), "a")
watch = preemption.watch
@contextlib.contextmanager
def watch_and_trace():
  with watch():  # first, as ever: the pipeline takes seconds to import
    from swin_jax.data.feed import pipeline
    train = pipeline.Input.train
    def traced(self, first, sharding):
      for step, pair in enumerate(train(self, first, sharding), first + 1):
        trace.write(f"{step} {' '.join(map(str, pair[0]['index']))}\\n")
        trace.flush()
        yield pair
    pipeline.Input.train = traced
    yield
preemption.watch = watch_and_trace
cli.leave(main.main(sys.argv))
"""


def start(workdir):
  """Starts the run as a process, either from scratch or resuming."""
  workdir.mkdir(parents=True, exist_ok=True)
  return subprocess.Popen(
    [sys.executable, "-c", TRACED, workdir.with_suffix(".records"), *FLAGS, f"--workdir={workdir}"],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def trained_records(workdir):
  """Returns step → records of the last time that the step ran: when the run is killed, the steps after the
  last checkpoint are lost and run again.
  """
  lines = (line.split() for line in workdir.with_suffix(".records").read_text().splitlines())
  return {int(step): list(map(int, records)) for step, *records in lines}


def saved(workdir, step=STEPS):
  """Returns the state in the checkpoint of a step, the last by default: path → array."""
  import jax
  import orbax.checkpoint as ocp

  tree = ocp.PyTreeCheckpointer().restore(workdir.absolute() / "checkpoints" / str(step) / "state")
  return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def metrics(workdir):
  entries = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
  of_the_clock = ("perf/", "elapsed_seconds", "time")
  return [{k: v for k, v in entry.items() if not k.startswith(of_the_clock)} for entry in entries]


def newest_checkpoint(workdir):
  return max(
    (int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()), default=0
  )


def phase(workdir, output):
  """Returns what a process was doing when it ended."""
  if "compiling" not in output:
    return "start-up"
  if "\nstep " not in output:
    return "compiling and first steps"
  if list((workdir / "checkpoints").glob("*tmp*")):
    return "saving"
  return "training and evaluation"


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--kills", type=int, default=100)
  parser.add_argument("--seed", type=int, default=0)
  args = parser.parse_args()
  whole, killed = args.out / "whole", args.out / "killed"

  begun = time.time()
  process = start(whole)
  for line in process.stdout:
    if line.startswith("step "):
      break
  start_up = time.time() - begun
  process.communicate()
  assert process.returncode == 0
  print(
    f"undisturbed: {STEPS} steps in {time.time() - begun:.0f} s, of which start-up {start_up:.1f} s",
    flush=True,
  )

  rng, ends = random.Random(args.seed), collections.Counter()
  for n in range(args.kills):
    how = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
    process, kill_at = start(killed), time.time() + rng.uniform(0, 2 * start_up)
    # The moment is random, but early enough that the run does not finish before its last kill.
    far = max(newest_checkpoint(killed) + STEPS / args.kills / 2, STEPS * (n + 3) / (args.kills + 6))
    while time.time() < kill_at and newest_checkpoint(killed) < far:
      time.sleep(0.01)
    time.sleep(rng.uniform(0, 0.2))
    assert process.poll() is None, process.communicate()
    process.send_signal(how)
    output, _ = process.communicate()
    ends[how.name, phase(killed, output), process.returncode] += 1
    # A SIGTERM in the first tenths of a second ends Python itself, before the command has started.
    assert process.returncode in ((75, -15) if how == signal.SIGTERM else (-9,)), output
    assert process.returncode != -15 or not output, output
    print(
      f"{n + 1}: {how.name} in {phase(killed, output)}; newest checkpoint {newest_checkpoint(killed)}",
      flush=True,
    )
  process = start(killed)
  output, _ = process.communicate()
  assert process.returncode == 0, output

  for (how, where, code), count in sorted(ends.items()):
    print(f"{count:4d} × {how} in {where}, exit code {code}")
  steps_run = len(killed.with_suffix(".records").read_text().splitlines())
  print(
    f"steps made: {steps_run}, of which {steps_run - STEPS} a second time, because they came after the last"
    " checkpoint before a SIGKILL"
  )
  ours, theirs = trained_records(killed), trained_records(whole)
  wrong = [step for step in range(1, STEPS + 1) if ours.get(step) != theirs[step]]
  print(f"steps that saw other records than the undisturbed run: {len(wrong)} of {STEPS}")
  ours, theirs = saved(killed), saved(whole)
  differing = [path for path in theirs if path not in ours or not (ours[path] == theirs[path]).all()]
  print(f"arrays of the final state that differ by a bit: {len(differing)} of {len(theirs)}")
  same = metrics(killed) == metrics(whole)
  print(f"metrics file the same: {same}, {len(metrics(whole))} entries")
  sys.exit(bool(wrong or differing or not same))


if __name__ == "__main__":
  main()
