"""The rows of a batch that a process reads follow from the mesh; any number of processes creates the same
global arrays.
"""

import json
import pathlib
import socket
import subprocess
import sys

import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import pytest

from swin_jax.data.feed import pipeline
from swin_jax.mesh import sharding
from swin_jax.terminal.errors import BadInput
from tests.support import meshes
from tests.support.batches import make_input
from tests.support.opened import open_source
from tests.support.paths import ROOT

pytestmark = [pytest.mark.devices(8), pytest.mark.every_python]

RULES = (("batch", ("data", "fsdp")),)
MESHES = [(8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 1, 8), (2, 1, 4)]


def rows(mesh, owners, batch=16):
  """Returns process and rows of every device in mesh order, spelled out: `model` is the innermost axis and
  holds copies.
  """
  data, fsdp, model = mesh
  size = batch // (data * fsdp)
  return [(owner, range(i // model * size, (i // model + 1) * size)) for i, owner in enumerate(owners)]


@pytest.mark.parametrize(
  "mesh, parts",
  [  # for 1, 2 and 4 processes: (index, count) of each
    ((8, 1, 1), [[(0, 1)], [(0, 2), (1, 2)], [(0, 4), (1, 4), (2, 4), (3, 4)]]),
    ((1, 8, 1), [[(0, 1)], [(0, 2), (1, 2)], [(0, 4), (1, 4), (2, 4), (3, 4)]]),
    ((2, 2, 2), [[(0, 1)], [(0, 2), (1, 2)], [(0, 4), (1, 4), (2, 4), (3, 4)]]),
    ((1, 1, 8), [[(0, 1)], [(0, 1)] * 2, [(0, 1)] * 4]),
    ((2, 1, 4), [[(0, 1)], [(0, 2), (1, 2)], [(0, 2), (0, 2), (1, 2), (1, 2)]]),
  ],
)
def test_parts(mesh, parts):
  for expected in parts:
    owners = np.repeat(range(len(expected)), 8 // len(expected))
    assert [pipeline.part_of(process, rows(mesh, owners), "") for process in range(len(expected))] == expected


@pytest.mark.parametrize("mesh", MESHES)
def test_the_rows_are_those_of_the_sharding(mesh):
  spec = sharding.shard_batch(meshes.make(*mesh), RULES, 16)
  places = spec.devices_indices_map((16,))
  assert [range(*places[device][0].indices(16)) for device in spec.mesh.devices.flat] == [
    part for _, part in rows(mesh, [0] * 8)
  ]
  assert pipeline.own_part(16, spec) == (0, 1)


@pytest.mark.parametrize(
  "mesh, owners",
  [
    ((8, 1, 1), [0, 1, 0, 1, 2, 3, 2, 3]),  # processes alternate
    ((8, 1, 1), [0, 0, 0, 0, 0, 0, 1, 1]),  # one process has more rows than the other
    ((2, 1, 4), [0, 0, 0, 1, 1, 1, 2, 2]),  # the second process spans two copies of the model
    ((8, 1, 2), [0, 1, 1, 1, 1, 1, 1, 0] + [2] * 8),  # the first surrounds the second
  ],
)
def test_devices_that_lie_apart_are_refused(mesh, owners):
  for process in set(owners):
    with pytest.raises(
      BadInput,
      match="mesh 2×4: the rows of a batch cannot be .* the mesh must list a process's devices together",
    ):
      pipeline.part_of(process, rows(mesh, owners), "2×4")


def test_devices_that_take_turns_in_one_copy_of_the_model_are_fine():
  assert {pipeline.part_of(process, rows((2, 1, 4), [0, 0, 1, 1, 0, 0, 1, 1]), "") for process in (0, 1)} == {
    (0, 1)
  }


def test_a_batch_that_does_not_divide_is_refused():
  data = make_input(open_source("digits", "", "train"), batch=12)
  for batches in (data.train, data.evaluation):
    with pytest.raises(BadInput, match="'fsdp': 8.*: a batch of 12 does not divide"):
      batches(
        *([0] if batches == data.train else []),
        NamedSharding(meshes.make(1, 8, 1), PartitionSpec(("data", "fsdp"))),
      )


def test_batches_are_on_the_devices_before_they_are_asked_for():
  drawn = []

  def batches():
    for i in range(6):
      drawn.append(i)
      yield {"image": np.full((8, 2), i, np.uint8), "index": np.arange(8), "bad": np.zeros(8, np.int32)}

  source, spec = open_source("digits", "", "val"), sharding.shard_batch(meshes.make(1, 8, 1), RULES, 8)
  count = 0
  for count, (host, device) in enumerate(
    pipeline.to_device(batches(), spec, pipeline.BadRecords(source, 0.0)), 1
  ):
    assert len(drawn) == min(count + 2, 6)
    assert device.keys() == {"image"} and device["image"].sharding == spec
    assert np.array_equal(device["image"], host["image"]) and (host["image"] == count - 1).all()
  assert count == 6


# Arrays that several processes put on their devices. This file is also the program that each process runs.


def global_batches():
  """Returns {mesh: global arrays of training batch 3 and of the last evaluation batch}, as one process would
  have them.
  """
  from jax.experimental import multihost_utils

  arrays = {}
  for mesh in [(1, 8, 1), (1, 1, 8), (2, 2, 2)]:
    data = make_input(open_source("digits", "", "val"), batch=16)
    spec = sharding.shard_batch(meshes.make(*mesh), RULES, 16)
    (_, train), *_, (_, evaluation) = next(data.train(3, spec)), *data.evaluation(spec)
    for name, batch in (("train", train), ("eval", evaluation)):
      for key, value in batch.items():
        assert value.sharding == spec and len(value) == 16
        arrays[f"{mesh} {name} {key}"] = np.asarray(
          multihost_utils.process_allgather(value, tiled=True)
        ).tolist()
  return arrays


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_several_processes_make_the_batches_of_one(count, tmp_path):
  with socket.create_server(("localhost", 0)) as server:
    port = server.getsockname()[1]
  arguments = [[str(port), str(i), str(count), str(tmp_path / f"{i}.json")] for i in range(count)]
  processes = [
    subprocess.Popen([sys.executable, "-m", "tests.data.test_pipeline", *words], cwd=ROOT)
    for words in arguments
  ]
  try:
    assert [process.wait(timeout=200) for process in processes] == [0] * count
  finally:
    for process in processes:
      process.kill()
  one = global_batches()
  assert one["(1, 8, 1) train image"] == one["(2, 2, 2) train image"]
  for i in range(count):
    several = json.loads((tmp_path / f"{i}.json").read_text())
    assert several.keys() == one.keys()
    assert [key for key in one if several[key] != one[key]] == []


if __name__ == "__main__":
  _port, _index, _count, _path = sys.argv[1:]
  jax.config.update("jax_num_cpu_devices", 8 // int(_count))
  jax.distributed.initialize(f"localhost:{_port}", int(_count), int(_index))
  pathlib.Path(_path).write_text(json.dumps(global_batches()))
