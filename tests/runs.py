"""What tests of whole runs share: the command as a process, and what a checkpoint holds."""

import pathlib
import subprocess
import sys

import jax
import numpy as np

from swin_jax import checkpoint

ROOT = pathlib.Path(__file__).parents[1]


def saved(workdir, step):
  """Everything a checkpoint holds, as {path: array}."""
  tree = checkpoint.ocp.PyTreeCheckpointer().restore(pathlib.Path(workdir) / "checkpoints" / str(step) / "state")
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def command(*arguments, **kwargs):
  words = [sys.executable, "-m", "swin_jax.main", *arguments]
  return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs)
