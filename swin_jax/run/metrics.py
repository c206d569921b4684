"""Accumulates metrics over batches: `add` takes one batch, `compute` returns the values at the end.

`Mean` keeps sums, `Gathered` keeps a row for every example.
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any

import numpy as np

from swin_jax.mesh import distributed
from swin_jax.tasks.task import RowMetrics, Rows, Undefined
from swin_jax.terminal.progress import say

# Largest number of values in the rows of an evaluation: 64 MB of float32 on every host, and seconds to sort.
MOST_NUMBERS = 2**24


def rows_width(rows: Rows) -> int:
  """Returns the number of values in the rows of one example."""
  return sum(math.prod(array.shape[1:]) for array in rows.values())


class Mean:
  """Accumulates sums and counts by name and divides them once. Each is a number, or an array [classes]."""

  def __init__(self, sums: Mapping[str, tuple[float, float]] = ()):
    self.sums = {name: tuple(pair) for name, pair in dict(sums).items()}

  def add(self, sums: Mapping[str, tuple[Any, Any]]) -> None:
    for name, pair in sums.items():
      # In float64: above 16 million, float32 would lose single pixels.
      pair = [np.asarray(each, np.float64) if np.ndim(each) else float(each) for each in pair]
      old = self.sums.get(name, (0.0, 0.0))
      self.sums[name] = (old[0] + pair[0], old[1] + pair[1])

  def compute(self, prefix: str, class_names: Sequence[str] = ()) -> dict[str, float]:
    """Returns the means, with `prefix` before each name.

    Two arrays give NAME/CLASS for each class that occurred, and mean_NAME, the mean over these classes. An
    array and a number give the largest share.
    """
    means = {}
    for name, (value, count) in self.sums.items():
      if np.ndim(count):
        each = {i: value[i] / count[i] for i in np.flatnonzero(count)}
        means[f"{prefix}mean_{name}"] = float(np.mean(list(each.values()))) if each else 0.0
        means |= {
          f"{prefix}{name}/{class_names[i] if i < len(class_names) else i}": float(mean)
          for i, mean in each.items()
        }
      elif count:
        means[prefix + name] = float(np.max(value)) / count
    return means


class Gathered:
  """Collects one row per example; `compute` gathers the rows of all processes.

  Each index counts once, even if several processes hold the example or it also pads the last batch.

  Args:
    metrics: metrics to compute from the rows; None if batches have no rows.
    num_examples: size of the evaluation set.
  """

  def __init__(self, metrics: RowMetrics | None, num_examples: int):
    self._metrics, self._num_examples = metrics, num_examples
    self._parts: list[dict[str, np.ndarray]] = []
    self._excess = ""

  def own(self, host_batch: Mapping[str, np.ndarray], rows: Rows) -> dict[str, list]:
    """Returns this process's rows of a batch as input of `add`, still on the devices.

    Args:
      host_batch: the part of a batch that this process supplied, with index [b] and weight [b].
      rows: rows of the whole batch.
    """
    width = rows_width(rows)
    if self._num_examples * width > MOST_NUMBERS:
      self._excess = f"{self._num_examples:,} examples × {width:,} numbers are more than {MOST_NUMBERS:,}"
    if self._excess or not rows:
      return {}
    known = {name: [host_batch[name]] for name in ("index", "weight")}
    return known | {name: distributed.own_rows(array) for name, array in rows.items()}

  def add(self, rows: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Adds the rows of one batch; each array is given in one or several pieces."""
    if rows:
      self._parts.append({name: np.concatenate(pieces) for name, pieces in rows.items()})

  def compute(self, prefix: str) -> dict[str, float]:
    """Returns the metrics. If they are undefined or there are too many rows, prints why and returns {}.

    All processes must call this.
    """
    try:
      if self._excess:
        raise Undefined(self._excess)
      if not self._parts:
        return {}
      values = self._metrics.compute(self._rows())
    except Undefined as reason:
      say(f"{' and '.join(prefix + name for name in self._metrics.names)} left out: {reason}")
      return {}
    return {prefix + name: value for name, value in zip(self._metrics.names, values, strict=True)}

  def _rows(self) -> dict[str, np.ndarray]:
    """Returns the rows of every example once, in the order of the evaluation set."""
    rows = {
      name: distributed.gather_rows(np.concatenate([part[name] for part in self._parts]))
      for name in self._parts[0]
    }
    counted = rows.pop("weight") > 0
    _, first = np.unique(rows.pop("index")[counted], return_index=True)
    return {name: values[counted][first] for name, values in rows.items()}
