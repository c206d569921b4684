"""The rows of an array that a process holds, and what launchers say."""

import sys

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np
import pytest

from swin_jax.mesh import distributed
from swin_jax.terminal.errors import BadInput, Fault

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


@pytest.mark.parametrize("ids, devices", [(None, [3]), ("0,1", [0, 1])])
def test_settings_of_open_mpi(monkeypatch, ids, devices):
  environment = {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.0.0.7,192.168.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "8",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_LOCAL_RANK": "3",
  }
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  if ids:
    monkeypatch.setenv("JAX_LOCAL_DEVICE_IDS", ids)
  coordinator, *numbers = distributed._settings_of_launcher()
  assert coordinator.startswith("10.0.0.7:") and numbers == [8, 5, devices]


def test_a_launcher_that_says_too_little_is_named(monkeypatch):
  monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "8")
  with (
    pytest.raises(Fault, match="as described by Open MPI; --coordinator.* override it.*where process 0 is"),
    distributed.processes(None, None, None),
  ):
    pass


def test_a_jax_that_detects_no_launcher_asks_for_the_flags(monkeypatch):
  """The detection is a private part of jax."""
  monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "8")
  monkeypatch.setitem(sys.modules, "jax._src.clusters", None)
  monkeypatch.delattr("jax._src.clusters")
  with (
    pytest.raises(Fault, match="Open MPI; --coordinator.* override it.*jax .* cannot detect its settings"),
    distributed.processes(None, None, None),
  ):
    pass


@pytest.mark.parametrize("kind", [BadInput, Fault])
def test_the_error_of_process_0_keeps_its_kind(kind):
  distributed.raise_first(None)
  with pytest.raises(BadInput, match="^the disk is full$") as error:
    distributed.raise_first(kind("the disk is full"))
  assert type(error.value) is kind
