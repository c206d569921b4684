"""Meshes of the three axes that every config names."""

from collections.abc import Sequence

import jax
from jax.sharding import AbstractMesh, AxisType, Mesh

from swin_jax.mesh import sharding

AXES = ("data", "fsdp", "model")


def make(data: int, fsdp: int, model: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Returns a mesh of the given devices, by default all."""
  return sharding.make_mesh(dict(data=data, fsdp=fsdp, model=model), devices)


def abstract(*sizes: int) -> AbstractMesh:
  """Returns a mesh without devices."""
  return AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3)
