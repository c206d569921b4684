"""The auxiliary loss of the tasks on UPerNet, and evaluation without the examples that pad a batch, both on
given predictions.
"""

import types

import jax
import numpy as np
import pytest

from swin_jax.tasks import dense, masked_pixels, pixel_regression, segmentation

pytestmark = pytest.mark.every_python

SIZE, CLASSES = 8, 3
NORMAL = dict(mean=(0.0,) * CLASSES, std=(1.0,) * CLASSES)
VIEWS = dense.TestTimeViews((), (1.0,), False)


class Given:
  """A model whose scores per pixel are the image, and whose auxiliary scores are twice that."""

  num_classes = CLASSES
  encoder = types.SimpleNamespace(flops=None, levels=[types.SimpleNamespace(stride=(4, 4))])

  def __init__(self, outputs=CLASSES):
    self._outputs = outputs

  def apply(self, variables, images, *inputs, train=False, rngs=None):
    scores = images[..., : self._outputs]
    return ((scores, 2 * scores), {}) if train else scores


def tasks():
  regression = dict(value_mean=10.0, value_std=4.0, views=VIEWS, **NORMAL)
  return {
    "segmentation": segmentation.make_task(Given(), views=VIEWS, **NORMAL),
    "pixel_regression": pixel_regression.make_task(Given(1), **regression),
    "masked_pixels": masked_pixels.make_task(Given(), target_norm_window=3, **NORMAL),
  }


def batch(examples=4, seed=0):
  rng = np.random.default_rng(seed)
  size = (examples, SIZE, SIZE)
  return {
    "image": rng.normal(size=(*size, CLASSES)).astype(np.float32),
    "label_map": rng.integers(0, CLASSES, size).astype(np.uint8),
    "value_map": rng.normal(10, 4, size).astype(np.float32),
    "mask": rng.random((examples, SIZE // 4, SIZE // 4)) < 0.7,
    "weight": np.ones(examples, np.float32),
  }


@pytest.mark.parametrize("name", ["segmentation", "pixel_regression"])
def test_the_auxiliary_loss_weighs_0_4(name):
  """The weight is that of the recipes of Swin V1 (section A2.3)."""
  examples = batch()
  value, sums, _ = tasks()[name].loss({}, examples, jax.random.key(0))
  if name == "segmentation":
    target = np.eye(CLASSES)[examples["label_map"]]

    def loss(scores):
      return np.mean(np.log(np.exp(scores).sum(-1)) - np.sum(target * scores, axis=-1))
  else:

    def loss(scores):
      return np.mean(np.abs(scores[..., 0] - (examples["value_map"] - 10) / 4))

  main, auxiliary = (loss(factor * examples["image"].astype(np.float64)) for factor in (1, 2))
  assert abs(main - auxiliary) > 0.1
  expected = {"loss": main + 0.4 * auxiliary, "main_loss": main, "auxiliary_loss": auxiliary}
  np.testing.assert_allclose(value, expected["loss"], rtol=1e-5)
  assert {key: float(total / count) for key, (total, count) in sums.items()} == pytest.approx(
    expected, rel=1e-5
  )


@pytest.mark.parametrize("name", ["segmentation", "pixel_regression", "masked_pixels"])
def test_examples_of_weight_zero_do_not_count(name):
  task, examples, padding = tasks()[name], batch(), batch(3, seed=1)
  padding |= {"weight": np.zeros(3, np.float32), "image": 5 * padding["image"]}
  both = {key: np.concatenate([padding[key], value]) for key, value in examples.items()}
  alone, padded = (jax.jit(task.measure)({}, each).sums for each in (examples, both))
  assert alone.keys() == padded.keys() and "loss" in alone
  jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5), alone, padded)
