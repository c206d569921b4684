"""A head whose classes are taken by name from a saved one stays divided over the devices as it was."""

import types

import flax
import jax
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import pytest

from swin_jax.saved import transfer
from tests.support import meshes, tiny

pytestmark = pytest.mark.devices(8)


@pytest.mark.parametrize("kernel", [(), ("fsdp",), (None, "model"), ("fsdp", "model")])
@pytest.mark.parametrize("classes", [4, 8])
def test_a_head_by_class_names_keeps_its_sharding(kernel, classes, tmp_path):
  names, of_saved = [f"class {i}" for i in range(classes)], ["class 2", "other", "class 0", "class 1"]
  held = {"head/kernel": np.arange(64.0).reshape(16, 4), "head/bias": np.arange(4.0)}
  saved = types.SimpleNamespace(
    source="saved",
    config=tiny.config("finetune", data__class_names=tuple(of_saved)).to_dict(),
    shapes={path: value.shape for path, value in held.items()},
    read=lambda expected: {
      path: jax.device_put(held[path].astype(leaf.dtype), leaf.sharding) for path, leaf in expected.items()
    },
  )
  mesh, fresh = (
    meshes.make(1, 4, 2),
    {"head/kernel": np.full((16, classes), -1.0), "head/bias": np.zeros(classes)},
  )
  specs = {"head/kernel": kernel, "head/bias": kernel[1:]}
  params = {
    path: jax.device_put(value.astype(np.float32), NamedSharding(mesh, PartitionSpec(*specs[path])))
    for path, value in fresh.items()
  }
  rules = transfer.Rules(class_names=tuple(names))
  tree = flax.traverse_util.unflatten_dict(params, sep="/")
  result, _ = transfer.start_from(saved, tree, rules, str(tmp_path))
  for path, leaf in flax.traverse_util.flatten_dict(result, sep="/").items():
    assert leaf.sharding == params[path].sharding and leaf.dtype == params[path].dtype
    for name, column, before in zip(names, leaf.T, fresh[path].T, strict=True):
      expected = held[path][..., of_saved.index(name)] if name in of_saved else before
      np.testing.assert_array_equal(column, expected)
