"""Metrics of many batches."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


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
