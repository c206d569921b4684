"""Orbax, and only here: saving and restoring a run's state, data position and config; reading another run's parameters.

A checkpoint is a folder `<workdir>/checkpoints/<step>`. Orbax commits it by a rename but neither verifies nor notices damage, so once
it is committed a manifest of checksums is written into it, and checked before it is read. A damaged one is moved aside and the one
before is used.
"""

from collections.abc import Mapping
import concurrent.futures
import contextlib
import hashlib
import json
import logging as std_logging
import os
import pathlib
import shutil
from typing import Any, NamedTuple

from absl import logging
import flax
import jax
import orbax.checkpoint as ocp

from swin_jax.errors import BadInput

MANIFEST = "manifest.json"
# Orbax reports through absl what is no matter to a user, among it a file "missing" that params-only reads do not need.
logging.get_absl_logger().addFilter(lambda record: record.levelno >= std_logging.ERROR or "orbax" not in record.pathname)


class Restored(NamedTuple):
  """A checkpoint read back: the state and the position in the data."""

  step: int
  state: Any
  data: dict[str, Any]


def stored_config(workdir: str) -> dict[str, Any] | None:
  """The config of the run in a workdir, from its newest committed checkpoint; None if it holds none."""
  folder = pathlib.Path(workdir).absolute() / "checkpoints"
  steps = [step for step in _steps(folder) if (folder / str(step) / "config" / "metadata").exists()]
  return json.loads((folder / str(steps[0]) / "config" / "metadata").read_text()) if steps else None


class Checkpoints:
  """The checkpoints of one run. All processes call every method.

  Args:
    workdir: the run's folder.
    keep_latest: how many of the newest to keep.
    keep_best: how many of the best to keep besides.
    best: (metric, whether more is better) that ranks them.
  """

  def __init__(self, workdir: str, keep_latest: int, keep_best: int, best: tuple[str, bool]):
    self.folder = pathlib.Path(workdir).absolute() / "checkpoints"
    name, more_is_better = best
    policies = ocp.checkpoint_managers
    preservation = policies.AnyPreservationPolicy([
        policies.LatestN(keep_latest),
        policies.BestN(
            get_metric_fn=lambda metrics: metrics[name],
            reverse=not more_is_better,
            n=keep_best,
            keep_checkpoints_without_metrics=False,
        ),
    ])
    _remove_unfinished(self.folder)
    self._manager = ocp.CheckpointManager(
        self.folder,
        options=ocp.CheckpointManagerOptions(preservation_policy=preservation, enable_async_checkpointing=True),
        item_names=("state", "data", "config"),
    )
    self._hashing = concurrent.futures.ThreadPoolExecutor(1)
    self._unhashed: int | None = None
    self._hashed: concurrent.futures.Future | None = None

  def save(self, step: int, state: Any, data: Mapping[str, Any], config: Mapping[str, Any], metrics: Mapping[str, float] | None):
    """Starts a save; it runs on beside the next steps. `metrics` rank it, None for none.

    Raises:
      OSError: this save or the one before failed.
    """
    self.wait()
    saved = self._manager.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(_plain(state)), data=ocp.args.JsonSave(dict(data)), config=ocp.args.JsonSave(dict(config))
        ),
        metrics=metrics,
        force=True,
    )
    if not saved:
      raise OSError(f"the checkpoint of step {step} was not saved; is {self.folder / str(step)} already there?")
    self._unhashed = step

  def poll(self) -> None:
    """Looks after a running save; cheap, to be called every step.

    Raises:
      OSError: the save failed.
    """
    if self._unhashed is None or self._manager.is_saving_in_progress():
      return
    step, self._unhashed = self._unhashed, None
    self._manager.check_for_errors()
    if not (self.folder / str(step)).exists():
      raise OSError(f"the checkpoint of step {step} was not written to {self.folder}")
    if jax.process_index() == 0:
      self._hashed = self._hashing.submit(write_manifest, self.folder / str(step))

  def wait(self) -> None:
    """Returns when the last save is committed and its manifest written."""
    self._manager.wait_until_finished()
    self.poll()
    if self._hashed is not None:
      self._hashed.result()
      self._hashed = None

  def close(self) -> None:
    """Waits for the last save and releases the threads."""
    with contextlib.ExitStack() as stack:  # the later also if the earlier fail
      stack.callback(self._hashing.shutdown)
      stack.callback(self._manager.close)
      self.wait()

  def restore(self, abstract: Any) -> Restored | None:
    """Reads the newest whole checkpoint into the shapes, dtypes and shardings of `abstract`.

    Returns:
      None if there is no checkpoint.

    Raises:
      BadInput: a checkpoint is there but holds another model; the message names the parameters.
    """
    while True:
      steps = sorted(self._manager.all_steps())
      if not steps:
        return None
      newest = steps[-1]
      damage = find_damage(self.folder / str(newest))
      if damage:
        self._move_aside(newest, damage)
        continue
      _compare(_shapes(_saved_tree(self.folder / str(newest))), _shapes(_plain(abstract)), f"{self.folder}/{newest}")
      items = ocp.args.Composite(state=ocp.args.StandardRestore(_plain(abstract)), data=ocp.args.JsonRestore())
      restored = self._manager.restore(newest, args=items)
      return Restored(newest, type(abstract)(**{"ema": None} | restored["state"]), restored["data"])

  def _move_aside(self, step: int, damage: str) -> None:
    aside = self.folder / f"damaged-{step}"
    logging.warning("the checkpoint of step %d is damaged (%s); moved to %s, going on from the one before", step, damage, aside)
    if jax.process_index() == 0:
      shutil.rmtree(aside, ignore_errors=True)
      (self.folder / str(step)).rename(aside)
    self._manager.reload()


class SavedParameters:
  """The parameters of a finished or running run, to evaluate or to start another from; nothing there is changed.

  Args:
    source: the workdir of that run, for its newest whole checkpoint; or one checkpoint in it, `WORKDIR/checkpoints/STEP`.

  Raises:
    BadInput: there is no whole checkpoint.
  """

  def __init__(self, source: str):
    path = pathlib.Path(source).absolute()
    folder, steps = path / "checkpoints", _steps(path / "checkpoints")
    if path.parent.name == "checkpoints" and path.name.isdigit():
      folder, steps = path.parent, [int(path.name)]
    damage = {}
    for step in steps:
      damage[step] = find_damage(folder / str(step))
      if not damage[step]:
        break
      logging.warning("the checkpoint of step %d in %s is damaged (%s)", step, folder, damage[step])
    else:
      found = "holds no checkpoint" if not steps else "holds no whole checkpoint"
      raise BadInput(f"{source} {found}; it must be the --workdir of a run, or one of its checkpoints/STEP")
    self.step = step
    self._path = folder / str(step)
    self.source = f"{source}, step {step}"
    self.config = json.loads((self._path / "config" / "metadata").read_text())
    tree = _saved_tree(self._path)
    self._root = "ema" if tree.get("ema") else "params"
    self.shapes = {path: tuple(leaf.shape) for path, leaf in flax.traverse_util.flatten_dict(tree[self._root], sep="/").items()}

  def read(self, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Reads the parameters of these paths into these shardings; shapes are the saved ones."""
    target = {self._root: flax.traverse_util.unflatten_dict(dict(wanted), sep="/")}
    restore_args = ocp.checkpoint_utils.construct_restore_args(target)
    with ocp.PyTreeCheckpointer() as reader:
      args = ocp.args.PyTreeRestore(item=target, restore_args=restore_args, partial_restore=True)
      restored = reader.restore(self._path / "state", args=args)
    return flax.traverse_util.flatten_dict(restored[self._root], sep="/")


def write_manifest(folder: pathlib.Path) -> None:
  """Writes the checksum of every file of a committed checkpoint into it."""
  sums = {str(path.relative_to(folder)): _checksum(path) for path in sorted(folder.rglob("*")) if path.is_file()}
  partial = folder / (MANIFEST + ".partial")
  partial.write_text(json.dumps(sums, indent=1))
  os.replace(partial, folder / MANIFEST)


def find_damage(folder: pathlib.Path) -> str | None:
  """What is wrong with a checkpoint, in words; None if it is whole."""
  manifest = folder / MANIFEST
  if not manifest.exists():
    # Committed by Orbax, then the process died before the checksums: whole, as far as a rename can tell.
    return None if (folder / "_CHECKPOINT_METADATA").exists() and (folder / "state").exists() else "not all of it is there"
  try:
    sums = json.loads(manifest.read_text())
  except ValueError:
    return f"{MANIFEST} cannot be read"
  for name, checksum in sums.items():
    path = folder / name
    if not path.exists():
      return f"{name} is missing"
    if _checksum(path) != checksum:
      return f"{name} has changed"
  return None


def _steps(folder: pathlib.Path) -> list[int]:
  """Committed steps, newest first."""
  return sorted((int(path.name) for path in folder.glob("*") if path.name.isdigit()), reverse=True) if folder.is_dir() else []


def _checksum(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_unfinished(folder: pathlib.Path) -> None:
  if jax.process_index() == 0 and folder.is_dir():
    for path in folder.glob("*.orbax-checkpoint-tmp*"):
      shutil.rmtree(path, ignore_errors=True)


def _plain(state: Any) -> dict[str, Any]:
  """The state as a dict without what is None."""
  return {name: value for name, value in vars(state).items() if value is not None}


def _saved_tree(folder: pathlib.Path) -> Any:
  """Shapes and dtypes of a checkpoint's state."""
  with ocp.PyTreeCheckpointer() as reader:
    return reader.metadata(folder / "state").item_metadata.tree


def _shapes(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {jax.tree_util.keystr(path, simple=True, separator="/"): (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in leaves}


def _compare(saved: dict, wanted: dict, where: str) -> None:
  parts = []
  for title, paths in (("only in the checkpoint", saved.keys() - wanted.keys()), ("only in the config's model", wanted.keys() - saved.keys()),
                       ("of another shape", {p for p in saved.keys() & wanted.keys() if saved[p] != wanted[p]})):  # fmt: skip
    if paths:
      shown = [f"{p} {saved[p][0]} ≠ {wanted[p][0]}" if p in saved and p in wanted else p for p in sorted(paths)[:3]]
      parts.append(f"{title}: {', '.join(shown)}" + (f" and {len(paths) - 3} more" if len(paths) > 3 else ""))
  if parts:
    raise BadInput(f"the checkpoint {where} is of another model or optimizer; " + "; ".join(parts))
