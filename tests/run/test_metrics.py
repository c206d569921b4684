"""Rows of examples, from batches to metrics."""

import numpy as np
import pytest

from swin_jax.mesh import distributed
from swin_jax.run import metrics
from swin_jax.tasks.task import RowMetrics

pytestmark = pytest.mark.every_python


def added(gathered, index, weight):
  """Adds the rows of a batch: of example i the number 10 i, in two pieces."""
  index = np.asarray(index, np.int32)
  value = np.float32(10) * index
  rows = {"index": [index], "weight": [np.float32(weight)], "value": [value[:1], value[1:]]}
  gathered.add(rows)


@pytest.mark.parametrize("copies", [1, 2])
def test_every_example_counts_once_in_the_order_of_the_set(monkeypatch, copies):
  """Example 3 fills up a batch, and 4 also replaces a damaged one; two processes may hold the same
  rows.
  """
  monkeypatch.setattr(distributed, "gather_rows", lambda rows: np.concatenate([rows] * copies))
  received = []
  gathered = metrics.Gathered(
    RowMetrics(("mean", "largest"), lambda rows: (received.append(rows), rows["value"].mean(), 7)[1:]), 5
  )
  added(gathered, [4, 0, 4], [0, 1, 1])
  added(gathered, [3, 1, 3], [1, 1, 0])
  assert gathered.compute("eval/") == {"eval/mean": 20.0, "eval/largest": 7}
  (rows,) = received
  assert rows.keys() == {"value"} and rows["value"].tolist() == [0, 10, 30, 40]


def test_a_task_without_rows_has_no_such_metrics():
  gathered = metrics.Gathered(None, 2**40)
  gathered.add(gathered.own({"index": np.zeros(3), "weight": np.ones(3)}, {}))
  assert gathered.compute("eval/") == {}
