"""Saves and restores a run's state, data position and config with Orbax.

Only this module and `parameters.py` import Orbax.

A checkpoint is a folder `<workdir>/checkpoints/<step>`. Orbax commits it by renaming it, but neither verifies
it nor detects damage. After the commit, the checkpoint is therefore opened again as for a restore, and
checksums are written into the folder (`manifest.py`), which are checked before anything in it is believed. A
checkpoint that is damaged, or whose checksums were never written, is moved aside and the previous one used.
"""

from collections.abc import Mapping, Sequence
import concurrent.futures
import contextlib
import json
import math
import pathlib
import shutil
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from swin_jax.mesh import distributed
from swin_jax.saved import manifest, parameters, workdir
from swin_jax.terminal.errors import Fault
from swin_jax.terminal.progress import warn


class Restored(NamedTuple):
  """A restored checkpoint.

  Attributes:
    step: the step it was saved at.
    state: the state, sharded as requested.
    data: the position in the data.
    evaluation: metrics of that step; None if it was not evaluated.
  """

  step: int
  state: Any
  data: dict[str, Any]
  evaluation: dict[str, float] | None


def stored_config(path: str) -> dict[str, Any] | None:
  """Returns the config of the run in a workdir; None if there is none.

  It is read from the newest checkpoint that is complete and whose config is intact.
  """
  folder = pathlib.Path(path).absolute() / workdir.CHECKPOINTS
  for step in parameters.steps_in(folder):
    if manifest.is_trusted(folder / str(step), parameters.CONFIG):
      return parameters.read_config(folder / str(step))
  return None


class Checkpoints:
  """The checkpoints of one run. All processes call every method.

  Args:
    path: the run's folder.
    keep_latest: number of newest checkpoints to keep. With two, one stays intact whatever happens while the
      other is saved.
    keep_every_steps: checkpoints at multiples of this step are kept permanently; 0 for none.
    keep_best: number of best checkpoints to keep in addition.
    best: (metric, whether higher is better), the ranking criterion.
  """

  def __init__(
    self, path: str, keep_latest: int, keep_every_steps: int, keep_best: int, best: tuple[str, bool]
  ):
    workdir.check(path)
    self.folder = pathlib.Path(path).absolute() / workdir.CHECKPOINTS
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
    # Orbax would also query jax's preemption service, with steps, and so disturb the query count on which
    # `preemption.requested` relies.
    self._manager.reached_preemption = lambda step: False
    self._hashing = concurrent.futures.ThreadPoolExecutor(1)
    self._saving: tuple[int, dict] | None = None  # step of the save in progress, and the shapes of its state
    self._hashed: tuple[int, concurrent.futures.Future] | None = None  # step, and its checksums
    self._failed = False

  def save(self, step: int, state: Any, data: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Starts a save, which continues in the background during the next steps.

    Raises:
      Fault: this save or the previous one failed, for example because the disk is full.
    """
    self.wait()
    if jax.default_backend() == "cpu":
      # On CPUs, Orbax writes from the arrays themselves, and the next step, which reuses their buffers, would
      # wait for the write to finish.
      state = jax.tree.map(jnp.copy, state)
    items = ocp.args.Composite(
      state=ocp.args.StandardSave(_plain(state)),
      data=ocp.args.JsonSave(dict(data)),
      config=ocp.args.JsonSave(dict(config)),
    )
    with self._failure_of(step):
      if not self._manager.save(step, args=items, force=True):
        raise OSError(f"does {self.folder / str(step)} already exist?")
    self._saving = step, parameters.shapes(_plain(state))

  def is_saving(self) -> bool:
    """Returns whether a save is in progress."""
    return self._manager.is_saving_in_progress()

  def poll(self) -> None:
    """Checks on a save in progress. Cheap; meant to be called every step.

    Raises:
      Fault: the save failed.
    """
    if self._hashed is not None and self._hashed[1].done():
      (step, hashed), self._hashed = self._hashed, None
      with self._failure_of(step):
        hashed.result()
    if self._saving is None or self.is_saving():
      return
    (step, shapes), self._saving = self._saving, None
    with self._failure_of(step):
      self._manager.check_for_errors()
      self._manager.wait_until_finished()  # already finished, but some errors surface only here
      if not (self.folder / str(step)).exists():
        raise OSError("it was not committed")
    self._hashed = step, self._hashing.submit(self._seal, step, shapes)

  def _seal(self, step: int, shapes: dict) -> None:
    """Opens a committed save again, as a restore does, and writes its checksums: only then does it count.

    Raises:
      ValueError: its metadata does not describe the state that was saved.
    """
    if parameters.shapes(parameters.saved_tree(self.folder / str(step))) != shapes:
      raise ValueError("opened again, it describes another state")
    manifest.write(self.folder / str(step), step)

  def wait(self) -> None:
    """Waits until the last save is committed and this process's share of its checksums is written.

    Raises:
      Fault: the save failed.
    """
    if self._saving is not None:
      with self._failure_of(self._saving[0]):
        self._manager.wait_until_finished()
    self.poll()
    if self._hashed is not None:
      concurrent.futures.wait([self._hashed[1]])
      self.poll()

  def add_evaluation(self, step: int, values: Mapping[str, float]) -> None:
    """Adds the evaluation to the checkpoint of a step: it ranks the checkpoint and marks it as evaluated."""
    self.wait()
    if jax.process_index() == 0:
      manifest.write_evaluation(self.folder / str(step), step, values)

  def close(self) -> None:
    """Waits for the last save, unless a save has failed, and releases the threads."""
    with contextlib.ExitStack() as stack:  # later callbacks run even if earlier ones fail
      stack.callback(self._hashing.shutdown)
      if self._failed:
        for _ in range(10):  # threads of the failed save may recreate their folder until they notice
          time.sleep(0.1)
          self._remove_unfinished()
      else:
        stack.callback(self._manager.close)
        self.wait()

  def restore(self, abstract: Any) -> Restored | None:
    """Restores the newest intact checkpoint with the shapes, dtypes and shardings of `abstract`.

    Returns:
      The checkpoint; None if there is none.

    Raises:
      BadInput: the checkpoint holds a different model; the message names the parameters.
    """
    while True:
      steps = sorted(self._manager.all_steps())
      if not steps:
        return None
      newest, folder = steps[-1], self.folder / str(steps[-1])
      tree, damage = parameters.open_tree(folder)
      if damage:
        self._move_aside(newest, damage)
        continue
      parameters.compare(
        parameters.shapes(tree), parameters.shapes(_plain(abstract)), f"{self.folder}/{newest}"
      )
      items = ocp.args.Composite(
        state=ocp.args.StandardRestore(_plain(abstract)), data=ocp.args.JsonRestore()
      )
      restored = self._manager.restore(newest, args=items)
      state = type(abstract)(**{"ema": None} | restored["state"])
      if state.step != newest:  # checksums of older versions do not name the step
        self._move_aside(newest, f"it holds step {int(state.step)}")
        continue
      evaluation, wrong = manifest.read_evaluation(folder)
      if wrong and jax.process_index() == 0:
        warn(f"{wrong}; step {newest} counts as not evaluated")
      evaluation = distributed.gather("" if evaluation is None else json.dumps(evaluation))[0]
      return Restored(newest, state, restored["data"], json.loads(evaluation) if evaluation else None)

  def _move_aside(self, step: int, damage: str) -> None:
    aside = self.folder / f"damaged-{step}"
    if jax.process_index() == 0:
      left = [other for other in parameters.steps_in(self.folder) if other < step]
      then = "continuing from the one before" if left else "no other is left, so the run starts over"
      warn(f"the checkpoint of step {step} is damaged ({damage}); moved to {aside}, {then}")
      for before in self.folder.glob("damaged-*"):  # one is enough to inspect; they must not fill the disk
        shutil.rmtree(before, ignore_errors=True)
      (self.folder / str(step)).rename(aside)
    distributed.gather("")  # no process reloads before the folder has moved
    self._manager.reload()

  @contextlib.contextmanager
  def _failure_of(self, step: int):
    try:
      yield
    except (OSError, ValueError, RuntimeError) as error:
      self._failed = True
      self._remove_unfinished()
      steps = [other for other in parameters.steps_in(self.folder) if other != step]
      whole = [other for other in steps if manifest.is_written(self.folder / str(other))]
      before = f"the one of step {whole[0]} is intact" if whole else "there is no earlier one"
      reason = "no space left on the disk" if "No space left" in str(error) else " ".join(str(error).split())
      raise Fault(
        f"the checkpoint of step {step} could not be saved in {self.folder}: {reason}; {before}. Solve that, "
        "and the same command continues"
      ) from error

  def _remove_unfinished(self) -> None:
    if jax.process_index() == 0 and self.folder.is_dir():
      for path in self.folder.glob("*.orbax-checkpoint-tmp*"):
        for _ in range(50):  # other threads of a failed save may still be writing into it
          shutil.rmtree(path, ignore_errors=True)
          if not path.exists():
            break
          time.sleep(0.1)


class _Best:
  """Orbax preservation policy: keeps the n best of the evaluated checkpoints.

  Orbax's own policy knows only the metrics that were available when it saved.
  """

  def __init__(self, folder: pathlib.Path, n: int, metric: str, more_is_better: bool):
    self._folder, self._n, self._metric, self._more_is_better = folder, n, metric, more_is_better

  def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
    del context
    values = {}
    for info in checkpoints:
      evaluation, _ = manifest.read_evaluation(self._folder / str(info.step))
      value = (evaluation or {}).get(self._metric, math.nan)  # rows may have left it out
      if not math.isnan(value):
        values[info.step] = value
    best = sorted(values, key=values.get, reverse=self._more_is_better)[: self._n]
    return [info.step in best for info in checkpoints]


def _plain(state: Any) -> dict[str, Any]:
  """Returns the fields of a state as a dict, without those that are None."""
  return {name: value for name, value in vars(state).items() if value is not None}
