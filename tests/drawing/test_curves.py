"""Charts of the metrics of runs, and the ticks of their axes."""

import numpy as np
import pytest

from swin_jax.drawing import chart, curves, ticks


@pytest.mark.parametrize(
  "values, labels, unit",
  [
    ((0, 2000), ["0", "500", "1,000", "1,500", "2,000"], ""),
    ((0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"], ""),
    ((0.0, 0.00015), ["0.00", "0.25", "0.50", "0.75", "1.00", "1.25", "1.50"], "1e-4"),
    ((0, 400_000), ["0", "1", "2", "3", "4"], "1e5"),
    ((-1.0, 1.0), ["-1.0", "-0.5", "0.0", "0.5", "1.0"], ""),
  ],
)
def test_ticks_are_round_numbers(values, labels, unit):
  scale = ticks.linear(values, pad=0.0)
  assert (list(scale.labels), scale.unit) == (labels, unit)
  assert all(scale.low - 1e-9 <= tick <= scale.high + 1e-9 for tick in scale.ticks)


def test_one_value_has_an_axis():
  for value in (0.0, 3.0, -2e-9):
    scale = ticks.linear([value])
    assert scale.low < value < scale.high and len(scale.ticks) > 1


def test_ratios_have_ticks_at_powers_of_ten():
  scale = ticks.logarithmic([0.3, 250.0])
  assert scale.labels == ("1", "10", "100") and scale.place(scale.low) == 0
  assert scale.place(10) - scale.place(1) == pytest.approx(scale.place(100) - scale.place(10))


def entries(steps=20, loss=2.0):
  lines = [
    {"step": i, "train/loss": loss, "train/learning_rate": 1e-3, "perf/images_per_second": 9.0}
    for i in range(1, steps + 1)
  ]
  return lines + [{"step": steps, "eval/loss": loss / 2, "eval/top1": 0.5, "eval/iou/road": 0.1}]


def coloured(picture, colour):
  """Returns the number of pixels of a colour."""
  return int((picture == np.asarray(colour, np.uint8)).all(-1).sum())


def test_a_line_goes_through_its_points():
  """A rising line: its pixels at the left are low, those at the right high, in the area of the axes."""
  picture = chart.draw("rising", "step", (0, 10), [chart.Line([0, 10], [1.0, 2.0], chart.COLOURS[0])])
  values = picture.astype(int)
  rows, columns = np.nonzero(values[:, :, 2] - values[:, :, 0] > 60)  # blue, smoothed
  assert picture.shape == (chart.SIZE[1], chart.SIZE[0], 3)
  assert np.corrcoef(columns, rows)[0, 1] < -0.99
  assert columns.min() - chart._LEFT < 8 and chart.SIZE[0] - chart._RIGHT - columns.max() < 8


def test_there_is_a_chart_for_loss_rate_and_each_metric_of_an_evaluation():
  """Metrics of single classes and of speed have none."""
  names = list(curves._charts({"a": entries()}))
  assert names == ["loss", "learning rate", "top1"]
  picture = curves.draw({"a": entries()})
  assert picture.shape[1] == 2 * chart.SIZE[0]
  assert picture.shape[0] > 2 * chart.SIZE[1]


def test_each_run_has_a_colour():
  picture = curves.draw({"a": entries(), "b": entries(30, loss=1.0)})
  for colour in chart.COLOURS[:2]:
    assert coloured(picture, colour) > 100
  assert not coloured(picture, chart.COLOURS[2])


def test_many_points_are_averaged_and_what_is_not_finite_is_left_out():
  x, y = curves.series([{"step": i, "m": float(i)} for i in range(3000)], "m")
  assert len(x) == len(y) == 300 and np.mean(y) == pytest.approx(1499.5) and x == y
  points = [{"step": 1, "m": float("nan")}, {"step": 2, "m": 3}, {"step": 3, "m": "text"}, {"step": 4}]
  assert curves.series(points, "m") == ([2.0], [3.0])


def test_without_metrics_there_is_nothing_to_draw():
  with pytest.raises(ValueError, match="no metric"):
    curves.draw({"a": [{"step": 1, "perf/images_per_second": 9.0}]})
