"""Evaluates a model on the evaluation set.

The result does not depend on the batch size or the number of devices or hosts: sums are divided only once,
and rows are put in the order of the set.
"""

from collections.abc import Callable, Collection, Sequence
import dataclasses
from typing import NamedTuple

import flax
import jax
from ml_collections import ConfigDict
import numpy as np

from swin_jax.data.feed import pipeline
from swin_jax.mesh import sharding
from swin_jax.models import backbone_of
from swin_jax.run import (
  agreement,
  best,
  checks,
  classes,
  compatibility,
  compilation,
  contents,
  fit,
  metrics,
  source_model,
)
from swin_jax.run import config as run_config
from swin_jax.run.inputs import open_input
from swin_jax.run.log import in_short
from swin_jax.run.program import Program, build
from swin_jax.run.state import TrainState
from swin_jax.run.writer import Writer
from swin_jax.saved import description, folder, transfer
from swin_jax.saved.saved import Saved
from swin_jax.tasks import kind_of
from swin_jax.terminal import preemption
from swin_jax.terminal.errors import BadInput, Preempted
from swin_jax.terminal.progress import Progress, say, waiting

_SECONDS_WORTH_A_LINE = 5  # shorter compilations are not reported


def evaluate(
  program: Program,
  data: pipeline.Input,
  state: TrainState,
  class_names: Sequence[str],
  writer: Writer | None = None,
  stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
  """Evaluates the averaged parameters of a state or, if it has no average, its parameters.

  Args:
    program: model and shardings.
    data: input pipeline with the evaluation set.
    state: state to evaluate.
    class_names: names used in the metrics of single classes, by label.
    writer: writes pictures of the first batch; None for no pictures.
    stop: called before every batch; true to stop. All processes must get the same answer.

  Returns:
    eval/NAME → value of each metric; None if the evaluation was stopped.
  """
  num_examples = len(data.eval_source)
  mean, gathered = metrics.Mean(), metrics.Gathered(program.task.row_metrics, num_examples)
  progress = Progress("evaluating", -(-num_examples // data.eval_batch_size), "batches")
  first = unread = None

  def read():
    if unread is not None:
      sums, rows = jax.device_get(unread)
      mean.add(sums)
      gathered.add(rows)

  with sharding.trace_on(program.mesh, program.rules):
    for host_batch, batch in data.evaluation(program.eval_batch_sharding):
      if stop():
        return None
      first = batch if first is None else first
      with compilation.reported("evaluation", _SECONDS_WORTH_A_LINE):
        measured = program.eval_step(state.eval_params, batch)
      read()  # one batch late: the device never waits for the host
      unread = measured.sums, gathered.own(host_batch, measured.rows)
      progress.step()
    read()
    values = mean.compute("eval/", class_names) | gathered.compute("eval/")
    if program.pictures and writer:
      # an incomplete batch is padded with repeated images
      pictures = np.asarray(program.pictures(state.eval_params, first))[:num_examples]
      writer.pictures(
        int(state.step),
        program.task.pictures_show,
        pictures,
        lambda grid: program.task.annotate(grid, class_names, int(state.step)),
      )
  return values


def _with_classes_of(
  saved: Saved, data: pipeline.Input, config: ConfigDict, scored: bool
) -> tuple[pipeline.Input, Sequence[str]]:
  """Returns the input pipeline with the labels of a saved model, and the names of its classes.

  Classes go by number if the model has no names, or if `transfer.class_map` chooses rows of its head. Labels
  that are not `scored` do not matter.

  Raises:
    BadInput: see `classes.match_evaluation`; or classes go by number, but their numbers differ.
  """
  kind, of_data = kind_of(config), data.eval_source.class_names
  if not kind.needs.has_classes or kind_of(saved.config) is not kind or config.transfer.class_map:
    return data, of_data
  described = description.describe(saved.config, saved.source)
  of_model, count = described["data"]["class_names"], kind.num_classes(described)
  if not scored:
    return data, of_model or tuple(map(str, range(count)))
  if of_model:
    return classes.match_evaluation(data, of_model, saved.source), of_model
  if of_data and (kind.num_classes(config) or len(of_data)) != count:
    raise BadInput(
      f"{saved.source} has {count:,} classes without names, so classes go by number, but the data has"
      f" {len(of_data):,}: give --config.transfer.class_map=FILE, one line per class of the data with the"
      " number, from 0, of the class of the model"
    )
  say(f"classes by number: {saved.source} has no names of classes")
  return data, of_data


class Opened(NamedTuple):
  """A saved model and the data to evaluate it on."""

  config: ConfigDict
  program: Program
  data: pipeline.Input
  state: TrainState


def open_checkpoint(
  config: ConfigDict, workdir: str, given: Collection[str] = (), *, scored: bool = True
) -> Opened:
  """Opens the newest checkpoint in `workdir`, or `workdir` itself if it is a model folder, and describes it.

  Args:
    config: of the run; windows, image size and data may be others.
    workdir: folder of the run, or a model folder.
    given: keys of the config that flags set; data.fit_to_set leaves them alone.
    scored: whether the predictions are compared with labels.

  Raises:
    BadInput: there is no checkpoint, it belongs to another model, or the data does not fit it.
  """
  agreement.check_config(config)
  saved = folder.open_saved(workdir)
  if config.model_of_source:
    config = source_model.adopt(config, saved.config, saved.source, given)
  config = run_config.with_statistics(config, saved.config)
  config = fit.apply(config, fit.by_size(config, given) | fit.kept(config, saved.config, given))
  checks.check(config)
  config.data.train_split = config.data.eval_split  # the training images need not exist
  with waiting("opening the data"):
    data = open_input(config)
  agreement.check_data(data, config)
  data, names = _with_classes_of(saved, data, config, scored)
  config = run_config.resolve(config, names, names, source=saved.config)
  compatibility.check_same_model(config, saved.config, workdir)
  with waiting("preparing the model"):
    program = build(config, steps_per_epoch=1, total_steps=1)
  expected = flax.traverse_util.flatten_dict(program.state.params, sep="/")
  with waiting(f"reading the weights in {workdir}"):
    arrays, report = transfer.read_all(saved, expected, transfer.Rules(**config.transfer))
  state = dataclasses.replace(
    program.state, params=flax.traverse_util.unflatten_dict(arrays, sep="/"), ema=None
  )
  evaluation = kind_of(config).evaluation(config)
  images = (
    f"{len(data.eval_source):,} images at {evaluation.size[0]} × {evaluation.size[1]} px{evaluation.note}"
  )
  adapted = (
    f", {len(report.adapted)} bias tables by the {config.transfer.bias_tables} rule" if report.adapted else ""
  )
  backbone = backbone_of(config)
  used, own = (
    backbone.summarise(settings).geometry
    for settings in (config.to_dict() | {"data": {"image_size": evaluation.size}}, saved.config)
  )
  say(
    f"{'evaluating' if scored else 'predicting with'} {saved.source} on {images}"
    + (f", {used}" if used else "")
    + (f" (its own: {own})" if used != own else "")
    + adapted
  )
  if lines := contents.describe(config):
    say(*lines)
  return Opened(config, program, data, state)


def evaluate_checkpoint(config: ConfigDict, workdir: str, given: Collection[str] = ()) -> dict[str, float]:
  """Evaluates a saved model, see `open_checkpoint`.

  Returns:
    The metrics, see `evaluate`.

  Raises:
    BadInput: see `open_checkpoint`.
    Preempted: the evaluation was asked to stop.
  """
  config, program, data, state = open_checkpoint(config, workdir, given)
  with waiting("evaluating"):
    values = evaluate(program, data, state, config.data.class_names, stop=preemption.requested)
  if values is None:
    raise Preempted("stopped while evaluating; the same command starts again")
  best.ranking_of(config).check(values)
  say(
    in_short(values),
    *(f"  {name} {value:.4f}" for name, value in values.items() if name.count("/") > 1),
  )
  return values
