"""The order of devices in the mesh when several processes own them."""

import jax
from jax.sharding import AxisType, Mesh
import numpy as np
import pytest

from swin_jax.mesh import sharding
from tests.support import meshes

pytestmark = pytest.mark.every_python


class Device:
  """A device owned by one of several processes."""

  platform = device_kind = "cpu"

  def __init__(self, number, process):
    self.id, self.process_index = number, process


def order(monkeypatch, owners, sizes):
  """Returns the owning processes in mesh order, given the owners of eight devices in jax's
  preferred order.
  """
  devices = [Device(i, process) for i, process in enumerate(owners)]
  best = Mesh(np.array(devices).reshape(sizes), meshes.AXES, axis_types=(AxisType.Auto,) * 3)
  monkeypatch.setattr(jax, "make_mesh", lambda *args, **kwargs: best)
  mesh = meshes.make(*sizes, devices=devices)
  assert mesh.devices.shape == sizes and mesh.axis_names == meshes.AXES
  assert set(mesh.axis_types) == {AxisType.Auto}
  return [device.process_index for device in mesh.devices.flat]


@pytest.mark.parametrize(
  "owners, sizes",
  [
    ((0, 1, 0, 1, 0, 1, 0, 1), (8, 1, 1)),
    ((0, 0, 1, 1, 0, 0, 1, 1), (1, 8, 1)),
    ((0, 0, 1, 1, 0, 0, 1, 1), (2, 2, 2)),
  ],
)
def test_a_process_gets_consecutive_rows_of_the_batch(monkeypatch, owners, sizes):
  assert order(monkeypatch, owners, sizes) == [0, 0, 0, 0, 1, 1, 1, 1]


@pytest.mark.parametrize(
  "owners, sizes",
  [
    ((1, 1, 1, 1, 0, 0, 0, 0), (8, 1, 1)),
    ((0, 1, 0, 1, 0, 1, 0, 1), (1, 1, 8)),  # both own parts of the single row, which all devices share
    ((0, 1, 1, 0, 2, 3, 3, 2), (2, 1, 4)),
  ],
)
def test_the_best_order_stays_where_rows_are_consecutive(monkeypatch, owners, sizes):
  assert order(monkeypatch, owners, sizes) == list(owners)


def test_devices_that_share_a_row_through_space_and_model(monkeypatch):
  """Each process holds half of both rows, so jax's order stays."""
  devices = [Device(i, process) for i, process in enumerate((0, 0, 1, 1, 0, 0, 1, 1))]
  sizes = {"data": 2, "space": 2, "model": 2}
  best = Mesh(np.array(devices).reshape(2, 2, 2), tuple(sizes), axis_types=(AxisType.Auto,) * 3)
  monkeypatch.setattr(jax, "make_mesh", lambda *args, **kwargs: best)
  processes = [device.process_index for device in sharding.make_mesh(sizes, devices).devices.flat]
  assert processes == [0, 0, 1, 1, 0, 0, 1, 1]
