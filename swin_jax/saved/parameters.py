"""Reads the parameters of a run's checkpoints."""

from collections.abc import Mapping
import json
import pathlib
from typing import Any

from absl import logging
import flax
import jax
import orbax.checkpoint as ocp

from swin_jax.saved import manifest
from swin_jax.terminal.errors import BadInput

# Orbax logs messages through absl that do not concern the user, and tracebacks of its threads although their
# errors are also raised in this module and in `checkpoint.py`, which imports it.
logging.get_absl_logger().addFilter(lambda record: "orbax" not in record.pathname)


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
    folder, steps = path / "checkpoints", steps_in(path / "checkpoints")
    if path.parent.name == "checkpoints" and path.name.isdigit():
      folder, steps = path.parent, [step for step in steps_in(path.parent) if step == int(path.name)]
    damage = {}
    for step in steps:
      damage[step] = manifest.find_damage(folder / str(step))
      if not damage[step]:
        break
      logging.warning("the checkpoint of step %d in %s is damaged (%s)", step, folder, damage[step])
    else:
      problem = "holds no checkpoint" if not steps else "holds no intact checkpoint"
      raise BadInput(
        f"{source} {problem}; it must be the workdir of a run, one of its checkpoints/STEP, or a model folder"
      )
    self.step = step
    self._path = folder / str(step)
    self.source = f"{source}, step {step}"
    self.config = json.loads((self._path / "config" / "metadata").read_text())
    tree = saved_tree(self._path)
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
  return (
    sorted((int(path.name) for path in folder.glob("*") if path.name.isdigit()), reverse=True)
    if folder.is_dir()
    else []
  )


def saved_tree(folder: pathlib.Path) -> Any:
  """Returns the shapes and dtypes of a checkpoint's state.

  Raises:
    ValueError: the state does not describe its contents.
  """
  with ocp.PyTreeCheckpointer() as reader:
    metadata = reader.metadata(folder / "state").item_metadata
  if metadata is None:
    raise ValueError(f"{folder}/state does not describe its contents")
  return metadata.tree
