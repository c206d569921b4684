"""Training: config → input pipeline → mesh and sharding → model → train step → checkpoint and metrics."""

import contextlib
import dataclasses
import time
from typing import NamedTuple

import flax
import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np

from swin_jax.data.feed import pipeline
from swin_jax.mesh import distributed, sharding
from swin_jax.run import agreement, checks, compatibility, compilation, contents
from swin_jax.run import config as run_config
from swin_jax.run.clock import Clock
from swin_jax.run.evaluate import evaluate
from swin_jax.run.inputs import open_input
from swin_jax.run.log import TrainLog, in_short
from swin_jax.run.profiler import Profiler
from swin_jax.run.program import Program, build
from swin_jax.run.state import TrainState
from swin_jax.run.step import FORWARD_PASSES
from swin_jax.run.writer import Writer
from swin_jax.saved import checkpoint, folder, transfer
from swin_jax.saved import workdir as saved_workdir
from swin_jax.saved.saved import Saved
from swin_jax.terminal import preemption
from swin_jax.terminal.errors import BadInput, Preempted
from swin_jax.terminal.progress import duration, say


def train(config: ConfigDict, workdir: str) -> dict[str, float]:
  """Trains a model in `workdir`, or continues the run there.

  Returns:
    The metrics of the last evaluation.

  Raises:
    BadInput: config, data or weights are unusable, or too many losses or gradients are not finite.
    Fault: saving failed, the storage failed, or a worker process died.
    Preempted: the run was asked to stop and has saved its progress.
  """
  started = time.perf_counter()
  # 1. Config.
  agreement.check_config(config)
  config = run_config.with_statistics(config)
  checks.check(config)
  saved_workdir.check(workdir)
  folder.check_no_model(workdir)
  distributed.check_shared(workdir)
  stored = checkpoint.stored_config(workdir)
  start = _open_start(config.init_from) if config.init_from and not stored else None
  # 2. Input pipeline.
  data = open_input(config)
  agreement.check_data(data, config)
  classes = data.train_source.class_names, data.eval_source.class_names
  config = run_config.resolve(config, *classes, stored=stored, source=start and start.config)
  if stored:
    compatibility.check_same_run(config, stored, workdir)
  elif start:
    compatibility.check_same_encoder(config, start.config)
    if note := compatibility.other_normalisation(config, start.config):
      say(note)
  steps_per_epoch, total_steps = run_config.count_steps(config, len(data.train_source))
  every = run_config.intervals(config, steps_per_epoch)
  # 3.-5. Mesh and sharding, model, train step.
  program = build(config, steps_per_epoch, total_steps)
  if start:  # fails early if the weights do not fit
    shapes = {
      path: leaf.shape
      for path, leaf in flax.traverse_util.flatten_dict(program.state.params, sep="/").items()
    }
    transfer.plan(start, shapes, transfer.Rules(**config.transfer))
  with contextlib.ExitStack() as stack:
    stack.enter_context(run_config.own(workdir))  # only now: a refused run leaves nothing behind
    if not stored and checkpoint.stored_config(workdir):
      raise BadInput(f"another process has just trained in --workdir={workdir}; give the command again")
    # 6. Checkpoint: (1) this workdir, (2) init_from, (3) scratch.
    c = config.checkpoint
    checkpoints = checkpoint.Checkpoints(
      workdir, c.keep_latest, every["keep"], c.keep_best, program.task.best
    )
    stack.callback(checkpoints.close)
    restored = checkpoints.restore(program.state)
    if restored:
      compatibility.check_same_data(
        restored.data["num_examples"], len(data.train_source), config.data.train_split
      )
      if restored.step > total_steps:
        raise BadInput(
          f"{workdir} is at step {restored.step}, but optim.total_epochs = {config.optim.total_epochs} ends"
          f" at step {total_steps}"
        )
      say(f"continuing {workdir} from step {restored.step}")
    else:
      state = program.init()
      if config.init_from:
        start = start or _open_start(config.init_from)  # None if all checkpoints in workdir are damaged
        params, report = transfer.start_from(start, state.params, transfer.Rules(**config.transfer), workdir)
        state = dataclasses.replace(state, params=params, ema=state.ema and jax.tree.map(jnp.copy, params))
        say(f"{report.lines()[0]}; every name is in {workdir}/{saved_workdir.TRANSFER}")
      restored = checkpoint.Restored(0, state, {"interval": {}, "nonfinite_steps": 0}, None)
    run_config.write(config, workdir)
    say(*run_config.describe(config, data, program, total_steps, workdir))
    if lines := contents.describe(config):
      say(*lines)
    # 7. Loop.
    written = restored.data.get("written", {})  # old checkpoints have none
    writer = Writer(workdir, restored.step, restored.evaluation is not None, written)
    stack.callback(writer.close)
    clock = Clock(config.data.batch_size, FORWARD_PASSES * program.flops)
    log = TrainLog(
      writer, clock, restored.step, total_steps, config.log.every_steps, restored.data["interval"]
    )
    profiler = Profiler(workdir, **config.profile)
    stack.callback(profiler.close)
    evaluation = _loop(_Run(config, data, program, every, total_steps, checkpoints, log, profiler), restored)
  took = duration(time.perf_counter() - started)
  say(
    f"done in {took}  {in_short(evaluation)}  checkpoint"
    f" {checkpoints.folder}/{max(restored.step, total_steps)}"
  )
  return evaluation


def _open_start(init_from: str) -> Saved:
  try:
    return folder.open_saved(init_from)
  except BadInput as error:
    raise BadInput(f"config.init_from: {error}; --config.init_from= starts from scratch") from error


class _Run(NamedTuple):
  """The arguments of the training loop; for `every` see `config.intervals`."""

  config: ConfigDict
  data: pipeline.Input
  program: Program
  every: dict[str, int]
  total_steps: int
  checkpoints: checkpoint.Checkpoints
  log: TrainLog
  profiler: Profiler

  def is_due(self, what: str, step: int) -> bool:
    return step > 0 and (step % self.every[what] == 0 or step == self.total_steps)


def _loop(run: _Run, restored: checkpoint.Restored) -> dict[str, float]:
  program, clock, state = run.program, run.log.clock, restored.state
  nonfinite_steps, evaluation = restored.data["nonfinite_steps"], restored.evaluation
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
      "num_examples": len(run.data.train_source),
      "interval": run.log.sums,
      "nonfinite_steps": nonfinite_steps,
      "written": run.log.writer.digests,
    }
    with clock.measure("checkpoint"):
      run.checkpoints.save(step, state, rest, run.config.to_dict())
    saved_step = step

  def stop(step):
    with clock.measure("checkpoint"):
      run.checkpoints.wait()
    raise Preempted(f"stopped, saved at step {step}; the same command continues")

  if preemption.requested():
    stop(saved_step)
  if evaluation is None and run.is_due("evaluate", restored.step):  # the run was stopped while evaluating
    evaluation = _evaluate(run, restored.step, state) or stop(saved_step)
  for step in range(restored.step + 1, run.total_steps + 1):
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
      with sharding.trace_on(program.mesh, program.rules), compilation.reported("train step"):
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
    if stopping or run.is_due("save", step) or run.is_due("evaluate", step):
      read()  # before the next batch is drawn, so that model and data position agree
      save(step)
      if stopping:
        stop(step)
      if run.is_due("evaluate", step):
        evaluation = _evaluate(run, step, state) or stop(step)
  return evaluation


def _evaluate(run: _Run, step: int, state: TrainState) -> dict[str, float] | None:
  """Evaluates a step that is saved or being saved, and adds the result to the log and the checkpoint.

  Returns:
    The metrics; None if the run was asked to stop.
  """

  def stop():
    run.checkpoints.poll()
    return preemption.requested()

  with run.log.clock.measure("evaluation"):
    start = time.perf_counter()
    try:
      evaluation = evaluate(run.program, run.data, state, run.config.data.class_names, run.log.writer, stop)
    except BadInput:
      if preemption.signalled():  # the step is saved, and the next run repeats the evaluation
        return None
      raise
    if evaluation:
      run.log.write(step, evaluation | {"perf/evaluation_seconds": time.perf_counter() - start})
  if evaluation:
    with run.log.clock.measure("checkpoint"):
      run.checkpoints.add_evaluation(step, evaluation)
  return evaluation


def _is_finite(sums: dict[str, tuple]) -> bool:
  return bool(np.isfinite(sums["loss"][0]) and np.isfinite(sums["grad_norm"][0]))


def _report_nonfinite(run: _Run, step: int, sums: dict[str, tuple], index: np.ndarray, count: int) -> None:
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
