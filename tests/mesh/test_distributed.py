"""The rows of an array that a process holds."""

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
import pytest

from swin_jax.mesh import distributed

pytestmark = [pytest.mark.devices(8), pytest.mark.every_python]


@pytest.mark.parametrize(
  "partition, pieces",
  [(("data", "model"), 8), (("model", "data"), 8), (("data",), 4), (("model",), 2), ((), 1)],
  ids=str,
)
def test_rows_come_once_and_in_order(partition, pieces):
  """This holds for any order of the devices, and where several of them hold the same rows."""
  mesh = Mesh(np.asarray(jax.devices()[::-1]).reshape(4, 2), ("data", "model"))
  rows = np.arange(32, dtype=np.float32).reshape(16, 2)
  array = jax.device_put(rows, NamedSharding(mesh, PartitionSpec(partition)))
  own = distributed.own_rows(array)
  assert len(own) == pieces
  np.testing.assert_array_equal(np.concatenate(own), rows)
