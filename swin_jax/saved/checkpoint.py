"""Orbax, and only here: saving and restoring a run's state, data position and config; reading another run's
parameters.

A checkpoint is a folder `<workdir>/checkpoints/<step>`. Orbax commits it by a rename but neither verifies nor
notices damage, so once it is committed checksums are written into it (`manifest.py`), and checked before it
is read. One that is damaged, or whose checksums were never written, is moved aside and the one before is
used.
"""

from collections.abc import Mapping, Sequence
import concurrent.futures
import contextlib
import json
import pathlib
import shutil
import time
from typing import Any, NamedTuple

from absl import logging
import flax
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from swin_jax.mesh import distributed
from swin_jax.saved import manifest
from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput, Fault

EVALUATION = "evaluation.json"
# Orbax reports through absl what is no matter to a user, and the tracebacks of its threads besides raising
# their errors here.
logging.get_absl_logger().addFilter(lambda record: "orbax" not in record.pathname)


class Restored(NamedTuple):
  """A checkpoint read back: the state, the position in the data, and the evaluation of that step if it was
  made.
  """

  step: int
  state: Any
  data: dict[str, Any]
  evaluation: dict[str, float] | None


def stored_config(workdir: str) -> dict[str, Any] | None:
  """The config of the run in a workdir, from its newest committed checkpoint that has one to read; None if
  there is none.
  """
  folder = pathlib.Path(workdir).absolute() / "checkpoints"
  for step in _steps(folder):
    with contextlib.suppress(OSError, ValueError):  # damage is dealt with when the checkpoint is restored
      return json.loads((folder / str(step) / "config" / "metadata").read_text())
  return None


class Checkpoints:
  """The checkpoints of one run. All processes call every method.

  Args:
    workdir: the run's folder.
    keep_latest: how many of the newest to keep; of two one is whole, whatever happens to the save of the
      other.
    keep_every_steps: keep, for good, those of multiples of this step; 0 for none.
    keep_best: how many of the best to keep besides.
    best: (metric, whether more is better) that ranks them.
  """

  def __init__(
    self, workdir: str, keep_latest: int, keep_every_steps: int, keep_best: int, best: tuple[str, bool]
  ):
    self.folder = pathlib.Path(workdir).absolute() / "checkpoints"
    keep = [ocp.checkpoint_managers.LatestN(keep_latest), _Best(self.folder, keep_best, *best)]
    if keep_every_steps:
      keep.append(ocp.checkpoint_managers.EveryNSteps(keep_every_steps))
    self._remove_unfinished()
    self._manager = ocp.CheckpointManager(
      self.folder,
      options=ocp.CheckpointManagerOptions(
        preservation_policy=ocp.checkpoint_managers.AnyPreservationPolicy(keep),
        enable_async_checkpointing=True,
      ),
      item_names=("state", "data", "config"),
    )
    # Orbax would ask jax's preemption service as well, with steps, and spoil the count by which
    # `preemption.requested` asks it.
    self._manager.reached_preemption = lambda step: False
    self._hashing = concurrent.futures.ThreadPoolExecutor(1)
    self._saving: int | None = None  # step of the save that runs
    self._hashed: tuple[int, concurrent.futures.Future] | None = None  # step, and its checksums
    self._failed = False

  def save(self, step: int, state: Any, data: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Starts a save; it runs on beside the next steps.

    Raises:
      Fault: this save or the one before failed: the disk is full, say.
    """
    self.wait()
    if jax.default_backend() == "cpu":
      # There Orbax writes from the arrays themselves, and the next step, which takes their place, would wait
      # until it has.
      state = jax.tree.map(jnp.copy, state)
    items = ocp.args.Composite(
      state=ocp.args.StandardSave(_plain(state)),
      data=ocp.args.JsonSave(dict(data)),
      config=ocp.args.JsonSave(dict(config)),
    )
    with self._failure_of(step):
      if not self._manager.save(step, args=items, force=True):
        raise OSError(f"is {self.folder / str(step)} already there?")
    self._saving = step

  def poll(self) -> None:
    """Looks after a running save; cheap, to be called every step.

    Raises:
      Fault: the save failed.
    """
    if self._hashed is not None and self._hashed[1].done():
      (step, hashed), self._hashed = self._hashed, None
      with self._failure_of(step):
        hashed.result()
    if self._saving is None or self._manager.is_saving_in_progress():
      return
    step, self._saving = self._saving, None
    with self._failure_of(step):
      self._manager.check_for_errors()
      self._manager.wait_until_finished()  # over already; some errors come out only here
      if not (self.folder / str(step)).exists():
        raise OSError("it was not committed")
    self._hashed = step, self._hashing.submit(manifest.write, self.folder / str(step), leave_out=EVALUATION)

  def wait(self) -> None:
    """Returns when the last save is committed and this process's share of its checksums written.

    Raises:
      Fault: the save failed.
    """
    if self._saving is not None:
      with self._failure_of(self._saving):
        self._manager.wait_until_finished()
    self.poll()
    if self._hashed is not None:
      concurrent.futures.wait([self._hashed[1]])
      self.poll()

  def add_evaluation(self, step: int, values: Mapping[str, float]) -> None:
    """Adds the evaluation to the checkpoint of a step: it ranks it, and says that it was made."""
    self.wait()
    if jax.process_index() == 0:
      files.write(self.folder / str(step) / EVALUATION, json.dumps(dict(values)))

  def close(self) -> None:
    """Waits for the last save, unless one has failed, and releases the threads."""
    with contextlib.ExitStack() as stack:  # the later also if the earlier fail
      stack.callback(self._hashing.shutdown)
      if self._failed:
        for _ in range(10):  # threads of that save may make their folder anew until they notice
          time.sleep(0.1)
          self._remove_unfinished()
      else:
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
      newest, folder = steps[-1], self.folder / str(steps[-1])
      damage = manifest.find_damage(folder)
      if damage:
        self._move_aside(newest, damage)
        continue
      _compare(_shapes(_saved_tree(folder)), _shapes(_plain(abstract)), f"{self.folder}/{newest}")
      items = ocp.args.Composite(
        state=ocp.args.StandardRestore(_plain(abstract)), data=ocp.args.JsonRestore()
      )
      restored = self._manager.restore(newest, args=items)
      evaluation = distributed.gather(_evaluation(folder) or "")[0]
      state = type(abstract)(**{"ema": None} | restored["state"])
      return Restored(newest, state, restored["data"], json.loads(evaluation) if evaluation else None)

  def _move_aside(self, step: int, damage: str) -> None:
    aside = self.folder / f"damaged-{step}"
    if jax.process_index() == 0:
      left = [other for other in _steps(self.folder) if other < step]
      then = "going on from the one before" if left else "no other is left, so the run starts anew"
      logging.warning("the checkpoint of step %d is damaged (%s); moved to %s, %s", step, damage, aside, then)
      for before in self.folder.glob("damaged-*"):  # one is enough to look into; they must not fill the disk
        shutil.rmtree(before, ignore_errors=True)
      (self.folder / str(step)).rename(aside)
    distributed.gather("")  # nobody looks before it is moved
    self._manager.reload()

  @contextlib.contextmanager
  def _failure_of(self, step: int):
    try:
      yield
    except (OSError, ValueError, RuntimeError) as error:
      self._failed = True
      self._remove_unfinished()
      whole = [other for other in _steps(self.folder) if other != step]
      before = f"the one of step {whole[0]} is whole" if whole else "there is none before it"
      reason = "no space left on the disk" if "No space left" in str(error) else " ".join(str(error).split())
      raise Fault(
        f"the checkpoint of step {step} could not be saved in {self.folder}: {reason}; {before}. Mend that,"
        " and the same command goes on"
      ) from error

  def _remove_unfinished(self) -> None:
    if jax.process_index() == 0 and self.folder.is_dir():
      for path in self.folder.glob("*.orbax-checkpoint-tmp*"):
        for _ in range(50):  # other threads of a save that has failed may be writing into it still
          shutil.rmtree(path, ignore_errors=True)
          if not path.exists():
            break
          time.sleep(0.1)


class _Best:
  """Orbax preservation policy: the n best of those that were evaluated. Orbax's own knows only what was known
  when it saved.
  """

  def __init__(self, folder: pathlib.Path, n: int, metric: str, more_is_better: bool):
    self._folder, self._n, self._metric, self._more_is_better = folder, n, metric, more_is_better

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    del context
    values = {}
    for info in checkpoints:
      if text := _evaluation(self._folder / str(info.step)):
        values[info.step] = json.loads(text)[self._metric]
    best = sorted(values, key=values.get, reverse=self._more_is_better)[: self._n]
    return [info.step in best for info in checkpoints]


class SavedParameters:
  """The parameters of a finished or running run, to evaluate or to start another from; nothing there is
  changed.

  Args:
    source: the workdir of that run, for its newest whole checkpoint; or one checkpoint in it,
      `WORKDIR/checkpoints/STEP`.

  Raises:
    BadInput: there is no whole checkpoint.
  """

  def __init__(self, source: str):
    path = pathlib.Path(source).absolute()
    folder, steps = path / "checkpoints", _steps(path / "checkpoints")
    if path.parent.name == "checkpoints" and path.name.isdigit():
      folder, steps = path.parent, [step for step in _steps(path.parent) if step == int(path.name)]
    damage = {}
    for step in steps:
      damage[step] = manifest.find_damage(folder / str(step))
      if not damage[step]:
        break
      logging.warning("the checkpoint of step %d in %s is damaged (%s)", step, folder, damage[step])
    else:
      found = "holds no checkpoint" if not steps else "holds no whole checkpoint"
      raise BadInput(
        f"{source} {found}; it must be the workdir of a run, one of its checkpoints/STEP, or a model folder"
      )
    self.step = step
    self._path = folder / str(step)
    self.source = f"{source}, step {step}"
    self.config = json.loads((self._path / "config" / "metadata").read_text())
    tree = _saved_tree(self._path)
    self._root = "ema" if tree.get("ema") else "params"
    if self._root == "ema":
      self.source += ", the average"
    self.shapes = {
      path: tuple(leaf.shape)
      for path, leaf in flax.traverse_util.flatten_dict(tree[self._root], sep="/").items()
    }

  def read(self, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Reads the parameters of these paths into these shardings; shapes are the saved ones."""
    target = {self._root: flax.traverse_util.unflatten_dict(dict(wanted), sep="/")}
    restore_args = ocp.checkpoint_utils.construct_restore_args(target)
    with ocp.PyTreeCheckpointer() as reader:
      args = ocp.args.PyTreeRestore(item=target, restore_args=restore_args, partial_restore=True)
      restored = reader.restore(self._path / "state", args=args)
    return flax.traverse_util.flatten_dict(restored[self._root], sep="/")


def _evaluation(folder: pathlib.Path) -> str | None:
  """The evaluation of a checkpoint as JSON; None if there is none or it cannot be read."""
  try:
    text = (folder / EVALUATION).read_text()
    return text if isinstance(json.loads(text), dict) else None
  except (OSError, ValueError):
    return None


def _steps(folder: pathlib.Path) -> list[int]:
  """Committed steps, newest first."""
  return (
    sorted((int(path.name) for path in folder.glob("*") if path.name.isdigit()), reverse=True)
    if folder.is_dir()
    else []
  )


def _plain(state: Any) -> dict[str, Any]:
  """The state as a dict without what is None."""
  return {name: value for name, value in vars(state).items() if value is not None}


def _saved_tree(folder: pathlib.Path) -> Any:
  """Shapes and dtypes of a checkpoint's state."""
  with ocp.PyTreeCheckpointer() as reader:
    found = reader.metadata(folder / "state").item_metadata
  if found is None:
    raise ValueError(f"{folder}/state says nothing of what it holds")
  return found.tree


def _shapes(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): (tuple(leaf.shape), str(leaf.dtype))
    for path, leaf in leaves
  }


def _compare(saved: dict, wanted: dict, where: str) -> None:
  parts = []
  for title, paths in (
    ("only in the checkpoint", saved.keys() - wanted.keys()),
    ("only in the config's model", wanted.keys() - saved.keys()),
    ("of another shape", {p for p in saved.keys() & wanted.keys() if saved[p] != wanted[p]}),
  ):
    if paths:
      shown = [
        f"{p} {saved[p][0]} ≠ {wanted[p][0]}" if p in saved and p in wanted else p for p in sorted(paths)[:3]
      ]
      parts.append(f"{title}: {', '.join(shown)}" + (f" and {len(paths) - 3} more" if len(paths) > 3 else ""))
  if parts:
    raise BadInput(f"the checkpoint {where} is of another model or optimizer; " + "; ".join(parts))
