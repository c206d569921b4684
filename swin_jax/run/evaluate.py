"""Runs an evaluation set. The result depends on no batch size and no number of devices or hosts: sums are
divided once, and rows are put in the order of the set.
"""

from collections.abc import Callable, Sequence

import jax
import numpy as np

from swin_jax.data.feed import pipeline
from swin_jax.mesh import sharding
from swin_jax.run import compilation, metrics
from swin_jax.run.program import Program
from swin_jax.run.state import TrainState
from swin_jax.run.writer import Writer
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import Progress

_SECONDS_WORTH_A_LINE = 5  # of compiling


def evaluate(
  program: Program,
  data: pipeline.Input,
  state: TrainState,
  class_names: Sequence[str],
  writer: Writer | None = None,
  stop: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
  """Evaluates the average, or the parameters where there is none.

  Args:
    program: model and shardings.
    data: its evaluation set.
    state: whose parameters are evaluated.
    class_names: by which means of single classes are called.
    writer: gets pictures of the first batch.
    stop: asked before every batch, on all processes alike.

  Returns:
    What the metrics compute, as eval/NAME; None if it was stopped.

  Raises:
    BadInput: there is nothing to score.
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
    values = mean.compute("eval/", class_names)
    if program.task.best[0] not in values:
      raise BadInput(
        "the evaluation data holds nothing that could be scored: no pixel of it holds data, or nothing is"
        " known of any"
      )
    if program.pictures and writer:
      # a batch that is not full repeats some
      pictures = np.asarray(program.pictures(state.eval_params, first))[:num_examples]
      writer.pictures(
        int(state.step),
        program.task.pictures_show,
        pictures,
        lambda grid: program.task.legend(grid, class_names),
      )
  return values | gathered.compute("eval/")
