"""The training loop: data → train step → log → checkpoint and evaluation."""

import time
from typing import NamedTuple

import jax
from jax.experimental import multihost_utils
from ml_collections import ConfigDict
import numpy as np

from swin_jax.data.feed import pipeline
from swin_jax.mesh import sharding
from swin_jax.run import best, compilation
from swin_jax.run.best import Ranking
from swin_jax.run.evaluate import evaluate
from swin_jax.run.log import TrainLog
from swin_jax.run.profiler import Profiler
from swin_jax.run.program import Program
from swin_jax.run.schedule import Schedule
from swin_jax.run.state import TrainState
from swin_jax.saved import checkpoint
from swin_jax.terminal import preemption
from swin_jax.terminal.errors import BadInput, Preempted
from swin_jax.terminal.progress import say, waiting


class Run(NamedTuple):
  """The arguments of the training loop; for `num_examples` see `train._examples_at_start`."""

  config: ConfigDict
  data: pipeline.Input
  num_examples: int
  program: Program
  schedule: Schedule
  ranking: Ranking
  checkpoints: checkpoint.Checkpoints
  log: TrainLog
  profiler: Profiler


class Ended(NamedTuple):
  """How a run ended: its last step, the metrics of its last evaluation, and its best evaluation."""

  step: int
  evaluation: dict[str, float]
  best: best.Best


def loop(run: Run, restored: checkpoint.Restored) -> Ended:
  """Trains from a restored state to the last step, or until `checkpoint.patience` is exhausted; saves,
  evaluates and logs at the run's intervals.

  Raises:
    BadInput, Fault, Preempted: see `train.train`.
  """
  program, clock, state = run.program, run.log.clock, restored.state
  nonfinite_steps, evaluation = restored.data["nonfinite_steps"], restored.evaluation
  so_far = best.restored(restored.data.get("best"), run.ranking)  # without the evaluation of the saved step
  batches = train_step = last = None
  saved_step = restored.step

  def read():
    """Waits for the sums of the last step and logs them."""
    nonlocal last, nonfinite_steps
    if last is None:
      return
    (step, sums, index), last = last, None
    sums = jax.device_get(sums)
    if not _is_finite(sums):
      nonfinite_steps += 1
      _report_nonfinite(run, step, sums, index, nonfinite_steps)
      sums = {}  # the step changed nothing
    run.log.add(step, sums)

  def save(step):
    nonlocal saved_step
    # The step gives the position in the data; with interval and nonfinite_steps, a resumed run logs as if it
    # had not been interrupted; with written, it notices changes to the log.
    rest = {
      "num_examples": run.num_examples,
      "interval": run.log.sums,
      "nonfinite_steps": nonfinite_steps,
      "best": so_far._asdict(),
      "written": run.log.writer.digests,
    }
    with clock.measure("checkpoint"), waiting(f"saving step {step}"):
      run.checkpoints.save(step, state, rest, run.config.to_dict())
    saved_step = step

  def stop(step):
    with clock.measure("checkpoint"):
      run.checkpoints.wait()
    raise Preempted(f"stopped, saved at step {step}; the same command continues")

  if preemption.requested():
    stop(saved_step)
  # the run was stopped while evaluating
  if evaluation is None and run.schedule.is_due("evaluate", restored.step):
    evaluation = _evaluate(run, restored.step, state) or stop(saved_step)
  if evaluation is not None:
    so_far = so_far.after(run.ranking, restored.step, evaluation)
  for step in range(restored.step + 1, run.schedule.total + 1):
    if so_far.is_over(run.config.checkpoint.patience):
      return Ended(step - 1, evaluation, so_far)
    if train_step is None:
      batches = run.data.train(restored.step, program.batch_sharding)
    try:
      with clock.measure("data"):
        host_batch, batch = next(batches)
    except BadInput:
      # several processes cannot: they save together, and the others do not know of this error
      if step - 1 > saved_step and jax.process_count() == 1:
        read()
        save(step - 1)
      if preemption.signalled():
        stop(step - 1)
      raise
    if train_step is None:
      say("compiling the train step ...")
      with (
        waiting("compiling the train step"),
        compilation.reported("train step"),
        sharding.trace_on(program.mesh, program.rules),
      ):
        train_step = program.step.lower(state, batch).compile()
      preemption.protect()
      clock.restart()
    with run.profiler.step(step):
      state, sums = train_step(state, batch)
    read()  # one step late: the device never waits for the host
    last = step, sums, host_batch["index"]
    run.profiler.after(step, sums)
    run.checkpoints.poll()

    stopping = preemption.requested()
    if stopping or run.schedule.is_due("save", step) or run.schedule.is_due("evaluate", step):
      read()  # before the next batch is drawn, so that model and data position agree
      save(step)
      if stopping:
        stop(step)
      if run.schedule.is_due("evaluate", step):
        evaluation = _evaluate(run, step, state) or stop(step)
        so_far = so_far.after(run.ranking, step, evaluation)
  return Ended(max(restored.step, run.schedule.total), evaluation, so_far)


def _evaluate(run: Run, step: int, state: TrainState) -> dict[str, float] | None:
  """Evaluates a step that is saved or being saved, and adds the result to the log and the checkpoint.

  Returns:
    The metrics; None if the run was asked to stop.
  """

  def stop():
    run.checkpoints.poll()
    return preemption.requested()

  with run.log.clock.measure("evaluation"), waiting("evaluating"), compilation.timed() as compile_seconds:
    start = time.perf_counter()
    try:
      evaluation = evaluate(run.program, run.data, state, run.config.data.class_names, run.log.writer, stop)
    except BadInput:
      if preemption.signalled():  # the step is saved, and the next run repeats the evaluation
        return None
      raise
    if evaluation:
      run.ranking.check(evaluation)
      run.log.add_evaluation(step, evaluation, time.perf_counter() - start, compile_seconds())
  if evaluation:
    with run.log.clock.measure("checkpoint"):
      run.checkpoints.add_evaluation(step, evaluation)
  return evaluation


def _is_finite(sums: dict[str, tuple]) -> bool:
  return bool(np.isfinite(sums["loss"][0]) and np.isfinite(sums["grad_norm"][0]))


def _report_nonfinite(run: Run, step: int, sums: dict[str, tuple], index: np.ndarray, count: int) -> None:
  """Records the examples of a step whose loss or gradient is not finite.

  Raises:
    BadInput: the run has had more such steps than optim.skip_nonfinite_steps.
  """
  if jax.process_count() > 1:
    index = multihost_utils.process_allgather(index, tiled=True)
  records = np.unique(index).tolist()
  loss, grad_norm = float(sums["loss"][0] / sums["loss"][1]), float(sums["grad_norm"][0])
  run.log.writer.nonfinite(step, records)
  what = (
    f"step {step}: loss {loss}, gradient norm {grad_norm}; its records are in {run.log.writer.nonfinite_path}"
  )
  most = run.config.optim.skip_nonfinite_steps
  if count > most:
    raise BadInput(
      f"{what}. It is non-finite step number {count}, but optim.skip_nonfinite_steps = {most}. The earlier "
      "checkpoints are intact. A smaller optim.lr, a longer warm-up or model.dtype=float32 may help, in a "
      "new --workdir, from scratch or with --config.init_from set to this one"
    )
  say(f"{what}; skipped, number {count} of at most {most}")
