"""Helpers for tests of whole runs: the command as one or several processes, the contents of checkpoints, and
the log.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import jax
import numpy as np

from swin_jax.saved import checkpoint
from tests.support.paths import ROOT

# A small version of the quickstart's pre-training, as flags: one block, 16 images a step, 89 steps an epoch.
SMALL = (
  "--config=configs/quickstart.py:pretrain",
  "--config.model.embed_dim=16",
  "--config.model.depths=(1,)",
  "--config.model.num_heads=(2,)",
  "--config.model.window_sizes=(4,)",
  "--config.model.unroll=False",
  "--config.data.batch_size=16",
  "--config.data.num_threads=1",
  "--config.log.num_pictures=2",
)


def steps(total, warmup=5, save=10, evaluate=None):
  """Returns flags for a run of `total` steps of 16 images that saves and evaluates at the given intervals of
  steps.
  """
  return (
    f"--config.optim.total_epochs={total / 89}",
    f"--config.optim.warmup_epochs={warmup / 89}",
    f"--config.checkpoint.every_epochs={save / 89}",
    f"--config.log.eval_every_epochs={(evaluate or total) / 89}",
  )


def changed(flags, *changes):
  """Returns flags in which the changes replace those of the same name, or are added."""
  names = {flag.partition("=")[0] for flag in changes}
  return (*(flag for flag in flags if flag.partition("=")[0] not in names), *changes)


def saved(workdir, step):
  """Returns everything in a checkpoint as {path: array}, regardless of the devices it was saved on."""
  ocp, path = checkpoint.ocp, pathlib.Path(workdir) / "checkpoints" / str(step) / "state"
  with ocp.PyTreeCheckpointer() as reader:
    as_numpy = jax.tree.map(
      lambda _: ocp.RestoreArgs(restore_type=np.ndarray), reader.metadata(path).item_metadata.tree
    )
    tree = reader.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_numpy))
  return {
    jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def flip_a_byte(folder):
  """Damages a checkpoint the way a failing disk does."""
  path = max(
    (p for p in folder.rglob("*") if p.is_file() and "ocdbt" in str(p)), key=lambda p: p.stat().st_size
  )
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def assert_same(one, other):
  """Compares two results of `saved` bit for bit."""
  assert one.keys() == other.keys()
  for path in one:
    np.testing.assert_array_equal(one[path], other[path], err_msg=path)


def lines(workdir, prefix=("train/", "eval/")):
  """Returns the lines of the metrics file without the values that depend on the clock."""
  entries = [json.loads(line) for line in (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()]
  return [{k: v for k, v in entry.items() if k == "step" or k.startswith(prefix)} for entry in entries]


def command(*arguments, module="swin_jax.main", **environment):
  """Runs the command as a process; returns its output as lines of text."""
  return subprocess.Popen(
    [sys.executable, "-m", module, *arguments],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=os.environ | environment,
  )


def processes(count, devices, *arguments):
  """Starts the command as `count` processes with `devices` CPU devices each; the arguments are flags, or one
  tuple of flags per process.
  """
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  several = (f"--coordinator=localhost:{port}", f"--num_processes={count}") if count > 1 else ()
  each = arguments if isinstance(arguments[0], tuple) else (arguments,) * count
  return [
    command(
      *each[i],
      *several,
      *((f"--process_id={i}",) if several else ()),
      JAX_PLATFORMS="cpu",
      JAX_NUM_CPU_DEVICES=str(devices),
    )
    for i in range(count)
  ]


def finish(started, code=0, seconds=300):
  """Waits for processes, which must all end with this exit code; returns what each printed."""
  deadline = time.time() + seconds
  outputs = []
  try:
    for process in started:
      outputs.append(process.communicate(timeout=max(deadline - time.time(), 1))[0])
  finally:
    for process in started:
      process.kill()
  for process, output in zip(started, outputs, strict=True):
    assert process.returncode == code, (process.returncode, output[-3000:])
  return outputs


def read_until(process, *texts):
  """Reads a process's output up to a line that contains one of the texts; returns what was read."""
  read = ""
  for line in process.stdout:
    read += line
    if any(text in line for text in texts):
      return read
  raise AssertionError(f"it ended before saying {texts}: {read[-3000:]}")
