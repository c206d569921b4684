"""Kills every command at random moments, in every way, and compares its results with undisturbed ones.

  python -m experiments.survival.kills --out=runs/kills [--kills=120] [--seed=0] [--only=prepare,export]

The commands are training with a data worker, evaluation, `prepare`, `weights` and `export`, on small inputs.
They are killed in turn in the ways of WAYS. Half of the kills of the last three come when something is
half-written. After each kill, the folder of temporary files, shared memory and the folder of the outputs must
hold nothing new; after SIGKILL, only once the same command has run again. The results must be equal, bit by
bit. Other programs that use data workers meanwhile appear in shared memory; a private one leaves them out:

  unshare --mount sh -c \\
    "mount -t tmpfs none /dev/shm && python -m experiments.survival.kills --out=runs/kills"
"""

import argparse
import collections
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
from PIL import Image

from experiments.survival.survive import ROOT, metrics, saved
from swin_jax.data.feed import exchange
from swin_jax.terminal import leftovers

STEPS = 400
FLAGS = [
  "--config=configs/quickstart.py:pretrain",
  "--config.model.depths=(1,)",
  "--config.model.num_heads=(2,)",
  "--config.model.window_sizes=(4,)",
  "--config.data.batch_size=16",
  "--config.data.eval_batch_size=36",
  "--config.data.num_threads=1",
]
OFTEN = [  # with a worker, and often in the middle of writing
  "--config.data.num_workers=1",
  "--config.log.num_pictures=0",
  "--config.log.every_steps=20",
  f"--config.checkpoint.every_epochs={20 / 89}",
  f"--config.log.eval_every_epochs={100 / 89}",
]
SMALL = "--config.model.embed_dim=16"
LARGE = "--config.model.embed_dim=512"  # of the model that is evaluated and written, which takes time
WAYS = ("KILL", "TERM", "INT", "HUP", "stopped, then KILL", "KILL to the group", "KILL to a worker")
BY_SIGNAL = {"TERM": 75, "HUP": 75, "INT": 130}  # way → exit code
MEMORY = pathlib.Path("/dev/shm")


class Commands:
  """The commands, their inputs, which are made once, and what they leave.

  Args:
    out: folder of the study.
    steps: number of training steps.
    images: number of images that are prepared.
    memory: whether to look into shared memory, which all processes of the machine share.
  """

  names = ("train", "evaluate", "prepare", "weights", "export")

  def __init__(self, out: pathlib.Path, steps: int = STEPS, images: int = 3000, memory: bool = True):
    self.out, self._steps, self._images, self._memory = out, steps, images, memory
    self._length = [
      f"--config.optim.{key}_epochs={n / 89}" for key, n in (("total", steps), ("warmup", steps // 10))
    ]
    self.temporary = out / "tmp"
    self.temporary.mkdir(parents=True, exist_ok=True)

  def words(self, name: str, result: pathlib.Path) -> list[str]:
    """Returns the command line that writes a result."""
    trained = str(self.out / "trained")
    return {
      "train": ["swin_jax.main", *FLAGS, *OFTEN, SMALL, *self._length, f"--workdir={result}"],
      "evaluate": ["swin_jax.main", *FLAGS, *OFTEN, LARGE, f"--workdir={trained}", "--mode=eval"],
      "prepare": [
        "swin_jax.data.prepare",
        f"--source={self.out / 'images'}",
        f"--out={result}",
        "--shards=3",
      ],
      "weights": ["swin_jax.weights", "adapt", trained, str(result)],
      "export": ["swin_jax.export", trained, str(result)],
    }[name]

  def make_inputs(self, names) -> None:
    """Makes the inputs of the named commands: a trained run, and images to prepare."""
    rng = np.random.default_rng(0)
    for i in range(self._images if "prepare" in names else 0):
      path = self.out / "images" / "train" / f"{i % 10}" / f"{i}.png"
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(rng.integers(0, 256, (48, 48, 3), np.uint8)).save(path)
    if {"evaluate", "weights", "export"} & set(names):
      few = [f"--config.optim.total_epochs={2 / 89}", f"--config.optim.warmup_epochs={1 / 89}"]
      self.finish(
        self.start(["swin_jax.main", *FLAGS, *OFTEN, LARGE, *few, f"--workdir={self.out / 'trained'}"])
      )

  def start(self, words: list[str]) -> subprocess.Popen:
    """Starts a command in a group of its own, with a folder of its own for temporary files."""
    log = open(self.out / "log", "w+")  # noqa: SIM115  (read when the process has ended)
    # libtpu, where installed, makes this process ignore SIGHUP once jax reads a checkpoint; the command would
    # inherit that, and rightly go on ignoring it.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    process = subprocess.Popen(
      [sys.executable, "-m", *words],
      cwd=ROOT,
      stdout=log,
      stderr=subprocess.STDOUT,
      start_new_session=True,
      env=os.environ | {"TMPDIR": str(self.temporary)},
    )
    process.log = log
    return process

  def finish(self, process: subprocess.Popen, codes=(0,)) -> str:
    """Waits for a process, which must end with one of the exit codes; returns what it printed."""
    process.wait(timeout=600)
    process.log.seek(0)
    output = process.log.read()
    process.log.close()
    assert process.returncode in codes, (process.args, process.returncode, output[-3000:])
    # Ctrl-C in the first tenths of a second ends Python itself, before the command has started.
    assert "Traceback" not in output or process.returncode == -signal.SIGINT, output[-3000:]
    return output

  def result(self, name: str, result: pathlib.Path, output: str):
    """Returns what must be equal."""
    if name == "train":
      return {path: array.tobytes() for path, array in saved(result, self._steps).items()}, metrics(result)
    if name == "evaluate":
      return output.splitlines()[-1]
    return {
      str(path.relative_to(result)): hashlib.sha256(path.read_bytes()).hexdigest()
      for path in result.rglob("*")
      if path.is_file()
    }

  def left_over(self, result: pathlib.Path) -> set[str]:
    """Returns all temporary files, the shared memory of dead processes, and half-written results."""
    near = [*result.parent.glob(f"{result.name}.*"), *result.rglob("*.partial")]
    memory = filter(is_of_dead, MEMORY.glob("*swin_jax_*")) if self._memory else ()
    return {str(path) for path in (*self.temporary.iterdir(), *near, *memory)}


def is_of_dead(path: pathlib.Path) -> bool:
  """Returns whether no live process owns an object in shared memory."""
  owner = re.search(exchange.PREFIX + leftovers.TOKEN, path.name)
  try:
    with open(MEMORY / owner[0]) as file:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    return False
  except FileNotFoundError:
    return path.exists()
  return True


def is_half_written(result: pathlib.Path) -> bool:
  """Returns whether something of a result is being written, in it or next to it."""
  with contextlib.suppress(FileNotFoundError):  # a folder gets its final name meanwhile
    return any([*result.parent.glob(f"{result.name}.*.partial"), *result.rglob("*.partial")])
  return False


def kill(process: subprocess.Popen, way: str) -> bool:
  """Kills a process in one of WAYS; returns False if it is too late or has no worker yet."""
  if process.poll() is not None:
    return False
  if way == "KILL to a worker":
    children = pathlib.Path(f"/proc/{process.pid}/task").glob("*/children")
    pids = " ".join(path.read_text() for path in children).split()
    commands = {pid: pathlib.Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids}
    workers = [int(pid) for pid, command in commands.items() if b"spawn_main" in command]
    if workers:
      os.kill(workers[0], signal.SIGKILL)
    return bool(workers)
  if way == "KILL to the group":
    os.killpg(process.pid, signal.SIGKILL)
  elif way == "stopped, then KILL":
    process.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    process.kill()
  else:
    process.send_signal(getattr(signal, f"SIG{way}"))
  return True


def wait_for_moment(process, rng, seconds, half_written) -> None:
  """Waits until a random moment, or, if `half_written` is given, until shortly after it returns true."""
  deadline = time.time() + (3 * seconds if half_written else rng.uniform(0, seconds))
  while time.time() < deadline and process.poll() is None:
    if half_written and half_written():
      time.sleep(rng.uniform(0, 0.03))
      return
    time.sleep(0.002)


def without_effect(rows) -> list[str]:
  """Returns the ways of which no kill had an effect, although there were several: they show nothing."""
  codes = collections.defaultdict(list)
  for _, way, code, _ in rows:
    codes[way].append(code)
  return [way for way, ended in codes.items() if len(ended) > 1 and not any(ended)]


def study(
  commands: Commands, name: str, kills: int, rng: random.Random, aimed: int = 2
) -> list[tuple[str, str, int, list[str]]]:
  """Kills a command a number of times; returns (command, way, exit code, what was wrong) of each kill.

  Args:
    commands: the commands.
    name: name of the command.
    kills: number of kills.
    rng: draws ways and moments.
    aimed: of a command that writes files, each `aimed`-th kill waits until one is half-written.
  """
  whole, disturbed, rows = commands.out / f"{name}-whole", commands.out / f"{name}-disturbed", []
  begun = time.time()
  expected = commands.result(name, whole, commands.finish(commands.start(commands.words(name, whole))))
  seconds = (time.time() - begun) / (1 if name != "train" else max(kills / 2, 1))
  ways = [way for way in WAYS if name in ("train", "evaluate") or way != "KILL to a worker"]
  # Every way in turn, in a new order each round, so that every way meets random and aimed moments.
  order = [(way, turn) for turn in range(-(-kills // len(ways))) for way in rng.sample(ways, len(ways))]
  order, rounds = zip(*order[:kills], strict=True)

  def check(problems):
    # a kill between the last write and the end leaves a complete model, which is not written again
    codes = (0, 2) if name in ("weights", "export") and disturbed.exists() else (0,)
    output = commands.finish(commands.start(commands.words(name, disturbed)), codes)
    if (result := commands.result(name, disturbed, output)) != expected:
      problems.append("another result" + f": {result}, not {expected}" * (name == "evaluate"))
    if left := commands.left_over(disturbed):
      problems.append(f"left after a complete run: {sorted(left)}")

  for n in range(kills):
    way = order[n]
    before = commands.left_over(disturbed)
    process = commands.start(commands.words(name, disturbed))
    watched = name not in ("train", "evaluate") and rounds[n] % aimed == aimed - 1
    partial = (lambda: is_half_written(disturbed)) if watched else None
    wait_for_moment(process, rng, seconds, partial)
    while not kill(process, way) and process.poll() is None:
      time.sleep(0.05)
    codes = [0, *([BY_SIGNAL[way], -getattr(signal, f"SIG{way}")] if way in BY_SIGNAL else [-9, 74])]
    output, problems = commands.finish(process, codes), []
    if process.returncode < 0 and way in BY_SIGNAL and "swin_jax: " in output:
      problems.append(f"{way} ended it without a line")
    if way in BY_SIGNAL and (new := commands.left_over(disturbed) - before):
      problems.append(f"left after {way}: {sorted(new)}")
    if name != "train" or process.returncode == 0:  # a finished training cannot be killed again
      check(problems)
      shutil.rmtree(disturbed, ignore_errors=True)
    rows.append((name, way, process.returncode, problems))
    print(f"{name} {n + 1}: {way}, exit code {process.returncode} {problems or ''}", flush=True)
  if name == "train":
    check(rows[-1][3])
  rows[-1][3].extend(f"no {way} had an effect" for way in without_effect(rows))
  return rows


def table(rows) -> str:
  """Returns the kills as a table: command × way, with their number and exit codes."""
  cells = collections.defaultdict(collections.Counter)
  for name, way, code, _ in rows:
    cells[name, way][code] += 1
  names = list(dict.fromkeys(name for name, *_ in rows))
  lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
  for way in WAYS:
    texts = (", ".join(f"{n} × {code}" for code, n in sorted(cells[name, way].items())) for name in names)
    lines.append(f"| {way} | " + " | ".join(texts) + " |")
  return "\n".join(lines)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--kills", type=int, default=120, help="of all commands together")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--only", default=",".join(Commands.names), help="commands, separated by commas")
  args = parser.parse_args()
  shutil.rmtree(args.out, ignore_errors=True)
  names, rows = args.only.split(","), []
  commands = Commands(args.out.absolute())
  commands.make_inputs(names)
  for name in names:
    rows += study(commands, name, args.kills // len(names), random.Random(f"{args.seed} {name}"))
    with contextlib.suppress(OSError):
      (args.out / "rows.json").write_text(json.dumps(rows, indent=1))
  print(table(rows))
  wrong = [row for row in rows if row[3]]
  print(f"{len(rows)} kills, {len(wrong)} with something wrong: {wrong}")
  sys.exit(bool(wrong))


if __name__ == "__main__":
  main()
