"""Which checkpoint counts as the best, and which of its parameters are loaded."""

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import numpy as np
import pytest

from swin_jax.run.best import ranking_of
from swin_jax.run.state import TrainState
from swin_jax.saved import checkpoint, parameters
from tests.support import meshes, tiny

pytestmark = pytest.mark.every_python


def place():
  return NamedSharding(meshes.make(1, 1, 1, devices=jax.devices()[:1]), PartitionSpec())


def state(step, average=None):
  """Returns a state whose parameters all equal the step, and whose average is another number."""
  tree = lambda value: {"encoder": {"kernel": jnp.full((2, 3), float(value))}}
  ema = None if average is None else tree(average)
  return jax.device_put(TrainState(jnp.int32(step), tree(step), (), ema), place())


def write(folder, values, best, average=None):
  checkpoints = checkpoint.Checkpoints(folder, 1, 0, 1, best)
  for step, value in enumerate(values, 1):
    checkpoints.save(step, state(step, average), {}, {"seed": 0})
    checkpoints.add_evaluation(step, {best[0]: value})
  checkpoints.close()
  return sorted(int(path.name) for path in (folder / "checkpoints").glob("*"))


@pytest.mark.parametrize("higher_is_better, kept", [(True, 3), (False, 2)])
def test_the_best_is_the_largest_or_the_smallest(tmp_path, higher_is_better, kept):
  """The latest checkpoint, 5, is kept too."""
  values = [0.5, 0.1, 0.9, 0.4, 0.3]
  assert write(tmp_path, values, ("eval/metric", higher_is_better)) == [kept, 5]


def test_an_evaluation_without_the_metric_ranks_nothing(tmp_path):
  """Rows may leave it out."""
  checkpoints = checkpoint.Checkpoints(tmp_path, 1, 0, 1, ("eval/rows", True))
  for step, values in enumerate(({"eval/rows": 0.5}, {"eval/loss": 9.0}, {}), 1):
    checkpoints.save(step, state(step), {}, {"seed": 0})
    checkpoints.add_evaluation(step, values)
  checkpoints.close()
  assert sorted(int(path.name) for path in (tmp_path / "checkpoints").glob("*")) == [1, 3]


@pytest.mark.parametrize(
  "name, best",
  [
    ("classification", ("eval/top1", True)),
    ("masked_pixels", ("eval/loss", False)),
    ("segmentation", ("eval/mean_iou", True)),
    ("pixel_regression", ("eval/mean_absolute_error", False)),
  ],
)
def test_accuracies_are_better_the_higher_and_errors_the_lower(name, best):
  assert ranking_of(tiny.config(task=name)) == best


@pytest.mark.parametrize("average, value", [(7.0, 7.0), (None, 1.0)])
def test_the_average_is_read_where_there_is_one(tmp_path, average, value):
  write(tmp_path, [0.5], ("eval/loss", False), average)
  saved = parameters.SavedParameters(str(tmp_path))
  assert saved.source.endswith("the average") == (average is not None)
  shape = jax.ShapeDtypeStruct((2, 3), jnp.float32, sharding=place())
  np.testing.assert_array_equal(
    saved.read({"encoder/kernel": shape})["encoder/kernel"], np.full((2, 3), value)
  )
