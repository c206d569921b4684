"""Training: config → input pipeline → mesh and sharding → model → train step → checkpoint and metrics."""

from collections.abc import Collection
import contextlib
import dataclasses
import time

import flax
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from swin_jax.mesh import distributed
from swin_jax.run import (
  agreement,
  best,
  checks,
  classes,
  compatibility,
  contents,
  curves,
  fit,
  source_model,
  summary,
  weights_and_biases,
)
from swin_jax.run import config as run_config
from swin_jax.run.clock import Clock
from swin_jax.run.inputs import connect, open_sources
from swin_jax.run.log import TrainLog, in_short
from swin_jax.run.loop import Run, loop
from swin_jax.run.profiler import Profiler
from swin_jax.run.program import build
from swin_jax.run.schedule import Schedule
from swin_jax.run.writer import Writer
from swin_jax.saved import checkpoint, folder, transfer
from swin_jax.saved import workdir as saved_workdir
from swin_jax.tasks import kind_of
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import duration, say, waiting


def train(config: ConfigDict, workdir: str, given: Collection[str] = ()) -> dict[str, float]:
  """Trains a model in `workdir`, or continues the run there.

  Args:
    config: of the run.
    workdir: folder of the run.
    given: keys of the config that flags set; data.fit_to_set leaves them alone.

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
  saved_workdir.check(workdir)
  folder.check_no_model(workdir)
  stored = checkpoint.stored_config(workdir)
  start = None if stored else source_model.open_start(config)
  if config.model_of_source:
    weights = (stored, workdir) if stored else (start.config, start.source)
    config = source_model.adopt(config, *weights, given)
  file_config = config
  config = run_config.with_statistics(config, stored if config.data.fit_to_set else None)
  fitted = fit.kept(config, stored, given) if stored else fit.by_size(config, given)
  config = fit.apply(config, fitted)
  checks.check(config)
  weights_and_biases.check(config)
  best.ranking_of(config)  # fails early if the task has no such metric
  distributed.check_shared(workdir)
  # 2. Input pipeline.
  with waiting("opening the data"):
    sources = open_sources(config)
  num_examples = len(sources[0])
  if not stored:
    by_number = fit.by_number(config, num_examples, given)
    config, fitted = fit.apply(config, by_number), fitted | by_number
  data = connect(config, *sources)
  agreement.check_data(data, config)
  names = data.train_source.class_names
  if kind_of(config).needs.has_classes and names:
    data = classes.match_evaluation(data, names, "the training data")
  config = run_config.resolve(config, names, names, stored=stored, source=start and start.config)
  if stored:
    compatibility.check_same_run(config, stored, workdir)
    num_examples = _examples_at_start(workdir, num_examples, config)
  elif start:
    compatibility.check_same_encoder(config, start.config)
    if config.model_of_source:
      say(*source_model.describe(config, start))
    elif note := compatibility.other_normalisation(config, start.config):
      say(note)
  steps_per_epoch, total_steps = run_config.count_steps(config, num_examples)
  schedule = Schedule(steps_per_epoch, total_steps, run_config.intervals(config, steps_per_epoch))
  if fitted:
    say(fit.describe(fitted, num_examples, stored is not None))
  changed = fit.changes(file_config, fitted).union(given)
  largest = contents.largest_image(config)
  for warning in fit.warnings(config, steps_per_epoch, total_steps, changed, largest):
    say(f"warning: {warning}")
  # 3.-5. Mesh and sharding, model, train step.
  with waiting("preparing the model"):
    program = build(config, steps_per_epoch, total_steps)
  ranking = best.ranking_of(config)
  best.check_rows(program, ranking, len(data.eval_source))
  if start:  # fails early if the weights do not fit
    shapes = {
      path: leaf.shape
      for path, leaf in flax.traverse_util.flatten_dict(program.state.params, sep="/").items()
    }
    transfer.plan(start, shapes, _transfer_rules(config))
  with contextlib.ExitStack() as stack:
    stack.enter_context(waiting("finishing the run"))
    stack.enter_context(run_config.own(workdir))  # only now: a refused run leaves nothing behind
    if not stored and checkpoint.stored_config(workdir):
      raise BadInput(f"another process has just trained in --workdir={workdir}; give the command again")
    # 6. Checkpoint: (1) this workdir, (2) init_from, (3) scratch.
    c = config.checkpoint
    checkpoints = checkpoint.Checkpoints(workdir, c.keep_latest, schedule.every["keep"], c.keep_best, ranking)
    stack.callback(checkpoints.close)
    with waiting("reading the checkpoint"):
      restored = checkpoints.restore(program.state)
    if restored:
      if restored.step > total_steps:
        o = config.optim
        length = "total_steps" if o.total_steps else "total_epochs"
        raise BadInput(
          f"{workdir} is at step {restored.step}, but optim.{length} = {o[length]} ends at step {total_steps}"
        )
      say(f"continuing {workdir} from step {restored.step}")
    else:
      with waiting("initialising the model"):
        state = program.init()
      if config.init_from:
        start = start or source_model.open_start(config)  # None if all checkpoints in workdir are damaged
        with waiting(f"reading the weights in {config.init_from}"):
          params, report = transfer.start_from(start, state.params, _transfer_rules(config), workdir)
        state = dataclasses.replace(state, params=params, ema=state.ema and jax.tree.map(jnp.copy, params))
        say(f"{report.lines()[0]}; every name is in {workdir}/{saved_workdir.TRANSFER}")
      restored = checkpoint.Restored(0, state, {"interval": {}, "nonfinite_steps": 0}, None)
    run_config.write(config, workdir)
    say(*summary.describe(config, data, program, schedule, workdir))
    if lines := contents.describe(config):
      say(*lines)
    # 7. Loop.
    written = restored.data.get("written", {})  # old checkpoints have none
    also = weights_and_biases.sinks(workdir, config)
    writer = Writer(workdir, restored.step, restored.evaluation is not None, written, also)
    stack.callback(writer.close)
    clock = Clock(config.data.batch_size, program.train_flops)
    log = TrainLog(
      writer,
      clock,
      schedule,
      first=restored.step,
      best=ranking.metric,
      eval_batches=len(data.eval_source) / config.data.batch_size,
      sums=restored.data["interval"],
      evaluation=restored.evaluation,
      started=started,
    )
    profiler = Profiler(workdir, **config.profile)
    stack.callback(profiler.close)
    run = Run(config, data, num_examples, program, schedule, ranking, checkpoints, log, profiler)
    with waiting(log.position):
      ended = loop(run, restored)
  took = duration(time.perf_counter() - started)
  say(f"done in {took}  {in_short(ended.evaluation)}  checkpoint {checkpoints.folder}/{ended.step}")
  if lines := best.describe(ended.best, ended.step, total_steps, checkpoints.folder):
    say(*lines)
  curves.draw(workdir)
  return ended.evaluation


def _examples_at_start(workdir: str, now: int, config: ConfigDict) -> int:
  """Returns the number of training examples when the run in `workdir` began, which its schedule goes by.

  Raises:
    BadInput: it is not that of the data, which may only have grown, and only with data.fit_to_set.
  """
  before = (checkpoint.stored_data(workdir) or {"num_examples": now})["num_examples"]
  compatibility.check_same_data(before, now, config.data.train_split, config.data.fit_to_set)
  if before < now:
    say(f"split '{config.data.train_split}' has grown from {before:,} to {now:,} images; the schedule stays")
  return before


def _transfer_rules(config: ConfigDict) -> transfer.Rules:
  return transfer.Rules(**config.transfer, class_names=tuple(config.data.class_names))
