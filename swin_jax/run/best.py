"""Which evaluation of a run is the best: the metric that ranks evaluations (`checkpoint.best_by`), and early
stopping (`checkpoint.patience`).
"""

from collections.abc import Mapping
import difflib
import math
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from swin_jax.mesh import sharding
from swin_jax.run.metrics import MOST_NUMBERS, rows_width
from swin_jax.run.program import Program
from swin_jax.tasks import kind_of
from swin_jax.terminal.errors import BadInput

_PREFIX = "eval/"  # of a metric in the log


class Ranking(NamedTuple):
  """The metric that ranks evaluations, as logged, and whether higher is better."""

  metric: str
  higher_is_better: bool

  def check(self, values: Mapping[str, float]) -> None:
    """Checks that an evaluation has the metric.

    Raises:
      BadInput: no example of the evaluation data defines it.
    """
    if self.metric not in values:
      raise BadInput(
        f"the evaluation data has nothing to score: no example defines {self.metric}, by which checkpoints"
        " are ranked"
      )

  def is_better(self, value: float, than: float | None) -> bool:
    """Returns whether a value is better than the best so far, None if there is none; NaN never is."""
    if than is None:
      return not math.isnan(value)
    return value > than if self.higher_is_better else value < than


def ranking_of(config: ConfigDict) -> Ranking:
  """Returns the ranking of a config, by default that of its task.

  Raises:
    BadInput: the task has no such metric; the message names those that it has.
  """
  metrics, name = kind_of(config).metrics(config), config.checkpoint.best_by.removeprefix(_PREFIX)
  if not name:
    name = next(iter(metrics))
  group, slash, label = name.partition("/")
  of_classes = config.data.class_names
  if f"{group}{slash}" not in metrics or (slash and of_classes and label not in of_classes):
    names = [f"{each}CLASS" if each.endswith("/") else each for each in metrics]
    near = difflib.get_close_matches(name, names, 1, 0.6)
    raise BadInput(
      f"config.checkpoint.best_by = '{name}' is not a metric of task={config.task}"
      + (f"; did you mean {near[0]}?" if near else "")
      + f"; it has {', '.join(names)}"
    )
  return Ranking(_PREFIX + name, metrics[f"{group}{slash}"])


def check_rows(program: Program, ranking: Ranking, num_examples: int) -> None:
  """Checks that a metric that needs a row of numbers for every example will not be left out for their number.

  Raises:
    BadInput: there would be too many numbers.
  """
  task = program.task
  if task.row_metrics is None or ranking.metric.removeprefix(_PREFIX) not in task.row_metrics.names:
    return
  count = next(iter(program.batch.values())).shape[0]
  batch = program.batch | {"weight": jax.ShapeDtypeStruct((count,), jnp.float32)}
  with sharding.trace_on(program.mesh, program.rules):
    width = rows_width(jax.eval_shape(task.measure, program.state.params, batch).rows)
  if num_examples * width > MOST_NUMBERS:
    raise BadInput(
      f"{ranking.metric} cannot rank checkpoints: {num_examples:,} examples × {width:,} numbers are more than"
      f" {MOST_NUMBERS:,}, so it is left out of evaluations; choose another config.checkpoint.best_by"
    )


class Best(NamedTuple):
  """The best evaluation of a run so far.

  Attributes:
    metric: that ranks evaluations.
    value: its best value; None if there is none.
    step: of the best evaluation.
    since: number of evaluations after it.
  """

  metric: str
  value: float | None = None
  step: int = 0
  since: int = 0

  def after(self, ranking: Ranking, step: int, values: Mapping[str, float]) -> "Best":
    """Returns the best evaluation once another one, of this step, is known."""
    value = values.get(self.metric, math.nan)
    if ranking.is_better(value, self.value):
      return Best(self.metric, value, step)
    return self._replace(since=self.since + 1)

  def is_over(self, patience: int) -> bool:
    """Returns whether a run ends early: as many evaluations as `checkpoint.patience` were not better."""
    return 0 < patience <= self.since


def describe(best: Best, step: int, total: int, folder: pathlib.Path) -> list[str]:
  """Returns lines that say why a run ended at this step, if it did so early, and where its best model is.

  Args:
    best: the best evaluation.
    step: last step of the run.
    total: last step of its schedule.
    folder: of its checkpoints.
  """
  lines = []
  if step < total:
    lines.append(
      f"stopped early at step {step:,} of {total:,}: {best.since} evaluations in a row were not better; a"
      " larger --config.checkpoint.patience continues"
    )
  if best.value is not None and best.step < step:
    path = folder / str(best.step)
    kept = f": {path}" if path.is_dir() else ", whose checkpoint was not kept (checkpoint.keep_best)"
    lines.append(f"best {best.metric} {best.value:.4f} at step {best.step:,}{kept}")
  return lines


def restored(stored: Mapping[str, Any], ranking: Ranking) -> Best:
  """Returns the best evaluation that a checkpoint stores; none if it ranked by another metric, or is of an
  older run.
  """
  best = Best(**stored) if stored else Best(ranking.metric)
  return best if best.metric == ranking.metric else Best(ranking.metric)
