"""Draws the metrics of runs over their steps: loss, learning rate, and the metrics of the evaluations."""

from collections.abc import Mapping, Sequence
import math

import numpy as np

from swin_jax.drawing import chart

Entries = Sequence[Mapping[str, float]]  # lines of a metrics file, by step

_MOST_POINTS = 300  # of a line; more are averaged
_MOST_DOTS = 40  # of a line whose points are marked
_MOST_METRICS = 10
_LOSS, _RATE, _EVALUATED = "train/loss", "train/learning_rate", "eval/"
_NO_CURVE = ("eval/majority_share",)  # constant
_COLUMNS = 2


def draw(runs: Mapping[str, Entries]) -> np.ndarray:
  """Returns charts of the metrics of one or several runs: uint8 [height, width, 3].

  Args:
    runs: name → the entries of its metrics file; one of them has a finite metric.

  Raises:
    ValueError: no entry has a metric to draw.
  """
  colours = {name: chart.COLOURS[i % len(chart.COLOURS)] for i, name in enumerate(runs)}
  charts, last = [], max(entry["step"] for entries in runs.values() for entry in entries)
  for title, names in _charts(runs).items():
    lines = []
    for metric in names:
      for run, entries in runs.items():
        x, y = series(entries, metric)
        if x:
          is_trained = metric == _LOSS
          dots = metric.startswith(_EVALUATED) and len(x) <= _MOST_DOTS
          lines.append(chart.Line(x, y, colours[run], is_faint=is_trained, has_dots=dots))
    if lines:
      charts.append(chart.draw(title, "step", (0, last), lines, may_be_log=_LOSS in names))
  if not charts:
    raise ValueError("there is no metric to draw")
  picture = chart.grid(charts, min(_COLUMNS, len(charts)))
  entries = [
    (f"{run}, {word}", colours[run], word == "training")
    for run, entries in runs.items()
    for word, prefix in (("training", "train/"), ("evaluation", _EVALUATED))
    if any(name.startswith(prefix) for entry in entries for name in entry)
  ]
  return chart.with_names(picture, entries)


def series(entries: Entries, metric: str) -> tuple[list[float], list[float]]:
  """Returns the steps and the finite values of a metric; of more than `_MOST_POINTS`, means of neighbours."""
  points = [
    (entry["step"], entry[metric])
    for entry in entries
    if isinstance(entry.get(metric), (int, float)) and math.isfinite(entry[metric])
  ]
  if not points:
    return [], []
  parts = np.array_split(np.asarray(points, np.float64), min(_MOST_POINTS, len(points)))
  x, y = np.stack([part.mean(axis=0) for part in parts], axis=1).tolist()
  return x, y


def _charts(runs: Mapping[str, Entries]) -> dict[str, list[str]]:
  """Returns the charts in order: title → the metrics in it."""
  names = dict.fromkeys(name for entries in runs.values() for entry in entries for name in entry)
  metrics = [
    name
    for name in names
    if name.startswith(_EVALUATED) and name.count("/") == 1 and name not in ("eval/loss", *_NO_CURVE)
  ]
  charts = {"loss": [_LOSS, "eval/loss"], "learning rate": [_RATE]}
  return charts | {
    name.removeprefix(_EVALUATED).replace("_", " "): [name] for name in metrics[:_MOST_METRICS]
  }
