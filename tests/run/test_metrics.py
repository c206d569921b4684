"""Rows of examples, from batches to metrics."""

import jax.numpy as jnp
import numpy as np
import pytest

from swin_jax.mesh import distributed
from swin_jax.run import metrics
from swin_jax.tasks.task import RowMetrics

pytestmark = pytest.mark.every_python


def added(gathered, index, weight):
  """Adds the rows of a batch in two pieces: the row of example i is the number 10 i; examples of weight 0
  have no row.
  """
  index = np.asarray(index, np.int32)
  value = np.where(weight, np.float32(10) * index, np.nan)
  rows = {"index": [index], "weight": [np.float32(weight)], "value": [value[:1], value[1:]]}
  gathered.add(rows)


@pytest.mark.parametrize("copies", [1, 2])
def test_every_example_counts_once_in_the_order_of_the_set(monkeypatch, copies):
  """Example 3 pads a batch, and 4 also replaces a damaged example; two processes may hold the same rows."""
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


def test_rows_that_are_too_many_are_not_read(monkeypatch):
  monkeypatch.setattr(metrics, "MOST_NUMBERS", 14)
  rows = {"logits": jnp.zeros((4, 2)), "label": jnp.zeros(4, jnp.int32)}
  host_batch = {"index": np.arange(4), "weight": np.ones(4)}
  assert metrics.Gathered(None, 5).own(host_batch, rows) == {}
  assert metrics.Gathered(None, 4).own(host_batch, rows).keys() == {"index", "weight", "logits", "label"}


def test_a_task_without_rows_has_no_such_metrics():
  gathered = metrics.Gathered(None, 2**40)
  gathered.add(gathered.own({"index": np.zeros(3), "weight": np.ones(3)}, {}))
  assert gathered.compute("eval/") == {}
