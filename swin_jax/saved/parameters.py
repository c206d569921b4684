"""Reads the parameters of a run's checkpoints."""

from collections.abc import Callable, Mapping
import logging as python_logging
import os
import pathlib
import sys
from typing import Any

from absl import logging
import flax
import jax
import orbax.checkpoint as ocp

from swin_jax.mesh import distributed, sharding
from swin_jax.saved import manifest, workdir
from swin_jax.terminal import json_files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed
from swin_jax.terminal.progress import warn

# Files of a checkpoint that hold the config of its run, and the position in the data.
CONFIG, DATA = "config/metadata", "data/metadata"

# Orbax logs messages through absl that do not concern the user, and tracebacks of its threads although their
# errors are also raised in this module and in `checkpoint.py`, which imports it.
logging.get_absl_logger().addFilter(lambda record: "orbax" not in record.pathname)
python_logging.getLogger("asyncio").addFilter(lambda record: "orbax" not in record.getMessage())


def _without_late_writes(hook: Callable[[Any], None]) -> Callable[[Any], None]:
  """Returns a hook for exceptions in callbacks that ignores writes which end after their save has failed.

  They report to an event loop that Orbax has closed, and TensorStore passes each such error to the hook.
  """

  def show(raised: Any) -> None:
    error = raised.exc_value
    if not (isinstance(error, RuntimeError) and str(error) == "Event loop is closed"):
      hook(raised)

  return show


sys.unraisablehook = _without_late_writes(sys.unraisablehook)


class SavedParameters:
  """The parameters of a finished or running run, to evaluate them or to initialise another run.

  Nothing in that run's folder is changed.

  Args:
    source: the workdir of that run, to use its newest intact checkpoint; or one of its checkpoints,
      `WORKDIR/checkpoints/STEP`.

  Raises:
    BadInput: there is no intact checkpoint.
  """

  def __init__(self, source: str):
    path = pathlib.Path(source).absolute()
    folder = path / workdir.CHECKPOINTS
    steps = steps_in(folder)
    if path.parent.name == workdir.CHECKPOINTS and path.name.isdecimal():
      folder, steps = path.parent, [step for step in steps_in(path.parent) if step == int(path.name)]
    damage = {}
    for step in steps:
      tree, damage[step] = open_tree(folder / str(step))
      if not damage[step]:
        break
      warn(f"the checkpoint of step {step} in {folder} is damaged ({damage[step]})")
    else:
      problem = "holds no checkpoint" if not steps else "holds no intact checkpoint"
      raise BadInput(
        f"{source} {problem}; it must be the workdir of a run, one of its checkpoints/STEP, or a model folder"
      )
    self.step = step
    self._path = folder / str(step)
    self.source = f"{source}, step {step}"
    self.config = read_config(self._path)
    self._root = "ema" if tree.get("ema") else "params"
    if self._root == "ema":
      self.source += ", the average"
    self.shapes = {
      path: tuple(leaf.shape)
      for path, leaf in flax.traverse_util.flatten_dict(tree[self._root], sep="/").items()
    }

  def read(self, expected: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Reads parameters by path, with the given dtypes and shardings; the given shapes must be those saved."""
    target = {self._root: flax.traverse_util.unflatten_dict(dict(expected), sep="/")}
    restore_args = ocp.checkpoint_utils.construct_restore_args(target)
    with ocp.PyTreeCheckpointer() as reader:
      args = ocp.args.PyTreeRestore(item=target, restore_args=restore_args, partial_restore=True)
      restored = reader.restore(self._path / "state", args=args)
    return flax.traverse_util.flatten_dict(restored[self._root], sep="/")


def steps_in(folder: pathlib.Path) -> list[int]:
  """Returns the committed steps, newest first."""
  if not os.path.isdir(folder):  # unlike Path.is_dir, also for a name that is too long
    return []
  names = [path.name for path in folder.glob("*") if path.is_dir()]
  return sorted((int(name) for name in names if name.isdecimal() and str(int(name)) == name), reverse=True)


def read_config(folder: pathlib.Path, name: str = CONFIG) -> dict[str, Any]:
  """Reads the config of the run in a checkpoint, or its position in the data (`DATA`).

  Raises:
    BadInput: the file cannot be read.
  """
  return json_files.read(folder / name, dict, nan=True)


def open_tree(folder: pathlib.Path) -> tuple[Any, str | None]:
  """Returns the shapes and dtypes of an intact checkpoint's state, and a description of its damage or None.

  All processes call this.
  """
  tree, damage = None, manifest.find_damage(folder)
  if not damage:
    try:
      tree = saved_tree(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
      damage = " ".join(str(error).split())
    damage = next(filter(None, distributed.gather(damage or "")), None)
  return tree, damage


def saved_tree(folder: pathlib.Path) -> Any:
  """Returns the shapes and dtypes of a checkpoint's state.

  Raises:
    ValueError: the state does not describe its contents, or holds no parameters.
  """
  with ocp.PyTreeCheckpointer() as reader:
    metadata = reader.metadata(folder / "state").item_metadata
  if metadata is None:
    raise ValueError("its state does not describe its contents")
  if not isinstance(metadata.tree, Mapping) or "params" not in metadata.tree:
    raise ValueError("its state holds no parameters")
  return metadata.tree


def shapes(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
  """Returns the shape and dtype of every array in a tree, by path."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {sharding.path_name(path): (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in leaves}


def compare(saved: dict, expected: dict, where: str) -> None:
  """Checks that the shapes of a saved state are those expected, both as returned by `shapes`.

  Raises:
    BadInput: they differ; the message begins with `where` and names the arrays.
  """
  parts = []
  for title, paths in (
    ("only in the checkpoint", saved.keys() - expected.keys()),
    ("only in the config's model", expected.keys() - saved.keys()),
    ("of another shape", {p for p in saved.keys() & expected.keys() if saved[p] != expected[p]}),
  ):
    if paths:
      shown = [
        f"{p} {saved[p][0]} ≠ {expected[p][0]}" if p in saved and p in expected else p for p in sorted(paths)
      ]
      parts.append(f"{title}: {listed(shown, 3)}")
  if parts:
    raise BadInput(f"the checkpoint {where} belongs to another model or optimizer; " + "; ".join(parts))
