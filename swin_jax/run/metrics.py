"""Metrics of many batches: `add` takes one batch, `compute` gives the values at the end. `Mean` keeps sums,
`Gathered` keeps a row for every example.
"""

from collections.abc import Mapping, Sequence
import math
from typing import Any

import numpy as np

from swin_jax.mesh import distributed
from swin_jax.tasks.task import RowMetrics, Rows, Undefined
from swin_jax.terminal.progress import say

# Numbers that the rows of an evaluation may have: 64 MB of float32 on every host, and seconds to sort.
MOST_NUMBERS = 2**24


class Mean:
  """Sums and counts by name, added up and divided once; numbers, or arrays [classes]."""

  def __init__(self, sums: Mapping[str, tuple[float, float]] = ()):
    self.sums = {name: tuple(pair) for name, pair in dict(sums).items()}

  def add(self, sums: Mapping[str, tuple[Any, Any]]) -> None:
    for name, pair in sums.items():
      # In float64: float32 would lose single pixels from 16 million on.
      pair = [np.asarray(each, np.float64) if np.ndim(each) else float(each) for each in pair]
      old = self.sums.get(name, (0.0, 0.0))
      self.sums[name] = (old[0] + pair[0], old[1] + pair[1])

  def compute(self, prefix: str, class_names: Sequence[str] = ()) -> dict[str, float]:
    """The means; of an array, mean_NAME over the classes that were there, and NAME/CLASS of each."""
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
        means[prefix + name] = value / count
    return means


class Gathered:
  """Rows of every example: those of this process until all batches are added, then those of all processes.

  An example that several processes hold, or that fills up a batch, counts once: by its index.

  Args:
    metrics: computed from the rows; None where a batch has none.
    num_examples: of the set.
  """

  def __init__(self, metrics: RowMetrics | None, num_examples: int):
    self._metrics, self._num_examples = metrics, num_examples
    self._parts: list[dict[str, np.ndarray]] = []
    self._excess = ""

  def own(self, host_batch: Mapping[str, np.ndarray], rows: Rows) -> dict[str, list]:
    """Returns what `add` takes of a batch, before it is read from the devices.

    Args:
      host_batch: the part of a batch that this process supplied, with index [b] and weight [b].
      rows: of the whole batch.
    """
    width = sum(math.prod(array.shape[1:]) for array in rows.values())
    if self._num_examples * width > MOST_NUMBERS:
      self._excess = f"{self._num_examples:,} examples × {width:,} numbers are more than {MOST_NUMBERS:,}"
    if self._excess or not rows:
      return {}
    known = {name: [host_batch[name]] for name in ("index", "weight")}
    return known | {name: distributed.own_rows(array) for name, array in rows.items()}

  def add(self, rows: Mapping[str, Sequence[np.ndarray]]) -> None:
    """Takes the rows of one batch, each in one or several pieces."""
    if rows:
      self._parts.append({name: np.concatenate(pieces) for name, pieces in rows.items()})

  def compute(self, prefix: str) -> dict[str, float]:
    """Returns the metrics. Where they have no value, or rows would be too many, prints why and returns none.

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
    """Returns every example's rows once, in the order of the set."""
    rows = {
      name: distributed.gather_rows(np.concatenate([part[name] for part in self._parts]))
      for name in self._parts[0]
    }
    counted = rows.pop("weight") > 0
    _, first = np.unique(rows.pop("index")[counted], return_index=True)
    return {name: values[counted][first] for name, values in rows.items()}
