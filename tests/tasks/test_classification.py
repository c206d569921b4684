"""Targets, losses and accuracies of classification, compared with numpy on given logits."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from swin_jax.models.swin import Swin, SwinConfig
from swin_jax.ops import mixing
from swin_jax.run import metrics
from swin_jax.tasks import KINDS, classification
from tests.support import tiny

pytestmark = pytest.mark.every_python

CLASSES, SIZE = 7, 16
LABEL = np.array([2, 0, 6, 3], np.int32)


class Given:
  """A model whose logits are the first pixel of the image, with one band per class."""

  num_classes = CLASSES
  encoder = types.SimpleNamespace(flops=None)

  def apply(self, variables, images, train=False, rngs=None):
    logits = images[:, 0, 0]
    return (logits, {}) if train else logits


def given(**changes):
  settings = dict(label_smoothing=0.0, mixup_alpha=0.0, cutmix_alpha=0.0, erase_probability=0.0)
  return classification.make_task(Given(), mean=(0.0,) * CLASSES, std=(1.0,) * CLASSES, **settings | changes)


def configured(**changes):
  """Returns a config's task, with mixing and erasing off."""
  off = dict(mixup_alpha=0.0, cutmix_alpha=0.0, erase_probability=0.0, num_classes=CLASSES)
  config = tiny.config("finetune")
  config.classification.update(off | changes)
  backbone = Swin(SwinConfig(embed_dim=16, depths=(1,), num_heads=(2,), window_sizes=((4, 4),)))
  return KINDS["classification"].make(backbone, config)


def logits(examples=4, seed=0):
  return np.random.default_rng(seed).normal(size=(examples, CLASSES)).astype(np.float32)


def batch(scores, label=LABEL, weight=None):
  weight = np.ones(len(label), np.float32) if weight is None else np.float32(weight)
  return {"image": scores[:, None, None].astype(np.float32), "label": np.asarray(label), "weight": weight}


def cross_entropy(scores, targets):
  scores = scores.astype(np.float64)
  return -np.sum(targets * (scores - np.log(np.exp(scores).sum(1, keepdims=True))), axis=1)


def measured(scores, label, weight=None):
  mean = metrics.Mean()
  mean.add(given().measure({}, batch(scores, label, weight)).sums)
  return mean.compute("")


# Training.


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
def test_label_smoothing_is_what_the_config_says(smoothing):
  """The target is 1 - ε + ε / n for the true class and ε / n for each of the others."""
  images = np.zeros((4, SIZE, SIZE, 1), np.uint8)
  target = configured(label_smoothing=smoothing).prepare({"image": images, "label": LABEL}, jax.random.key(0))
  expected = np.full((4, CLASSES), smoothing / CLASSES)
  expected[np.arange(4), LABEL] += 1 - smoothing
  np.testing.assert_allclose(target["target"], expected, rtol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_loss_is_the_mean_cross_entropy_with_the_smoothed_targets(smoothing):
  scores = logits()
  value, sums, losses = given(label_smoothing=smoothing).loss({}, batch(scores), jax.random.key(0))
  targets = (1 - smoothing) * np.eye(CLASSES)[LABEL] + smoothing / CLASSES
  expected = cross_entropy(scores, targets).mean()
  np.testing.assert_allclose(value, expected, rtol=1e-5)
  assert losses == {} and sums.keys() == {"loss"}
  np.testing.assert_allclose(sums["loss"][0] / sums["loss"][1], expected, rtol=1e-5)


@pytest.mark.parametrize("probability, share", [(0.0, 0), (0.5, 0.5), (1.0, 1)])
def test_erasing_is_what_the_config_says(probability, share):
  """Some pixels of an erased image become noise; the target and the other pixels stay."""
  images = np.full((400, SIZE, SIZE, 1), 90, np.uint8)
  task = configured(erase_probability=probability)
  out = jax.jit(task.prepare)({"image": images, "label": np.resize(LABEL, 400)}, jax.random.key(0))
  plain = np.asarray(mixing.normalise(images[:1], (0.3,), (0.35,)))
  changed = np.abs(out["image"] - plain) > 1e-5
  erased = changed.any((1, 2, 3))
  assert erased.mean() == pytest.approx(share, abs=0.1 * (0 < share < 1))
  assert not changed.all((1, 2, 3)).any()
  np.testing.assert_array_equal(np.argmax(out["target"], axis=1), np.resize(LABEL, 400))


def test_the_loss_gets_the_batch_that_prepare_shows():
  """The images and targets are the same, erased with the same random numbers."""
  task = given(label_smoothing=0.1, erase_probability=0.7)
  images = np.random.default_rng(0).normal(size=(4, SIZE, SIZE, CLASSES)).astype(np.float32)
  examples = {"image": images, "label": LABEL}

  @jax.jit
  def both(rng):
    prepared = task.prepare(examples, rng)
    expected = jnp.mean(optax.softmax_cross_entropy(prepared["image"][:, 0, 0], prepared["target"]))
    return task.loss({}, examples, rng)[0], expected

  for seed in range(4):
    np.testing.assert_allclose(*both(jax.random.key(seed)), rtol=1e-6)


# Evaluation.


def test_accuracies_by_counting():
  """Class c has rank c + 1 in every example: top-1 counts class 0, top-5 the classes 0 to 4."""
  label = np.arange(CLASSES)
  scores = np.tile(-np.arange(CLASSES, dtype=np.float32), (CLASSES, 1))
  assert measured(scores, label) == pytest.approx(
    {
      "loss": cross_entropy(scores, np.eye(CLASSES)).mean(),
      "top1": 1 / CLASSES,
      "top5": 5 / CLASSES,
      "majority_share": 1 / CLASSES,
    }
  )


def test_the_share_of_the_most_frequent_class_is_that_of_all_batches():
  """Class 1 is the most frequent, although not in the first batch; two examples pad the second."""
  mean = metrics.Mean()
  for label, weight in (([0, 0, 1], [1, 1, 1]), ([1, 1, 6, 6, 6], [1, 1, 1, 0, 0])):
    mean.add(given().measure({}, batch(logits(len(label)), np.asarray(label, np.int32), weight)).sums)
  assert mean.compute("eval/")["eval/majority_share"] == 3 / 6


@pytest.mark.parametrize("classes, named", [(2, False), (5, False), (6, True)])
def test_top5_needs_six_classes(classes, named, monkeypatch):
  monkeypatch.setattr(Given, "num_classes", classes)
  monkeypatch.setattr(Given, "apply", lambda self, variables, images: images[:, 0, 0, :classes])
  values = measured(logits(), np.array([0, 1, 1, 0], np.int32))
  assert ("top5" in values) == named and values["majority_share"] == 0.5


@pytest.mark.parametrize("equal, top1, top5", [(1, 1, 1), (2, 0, 1), (5, 0, 1), (6, 0, 0), (7, 0, 0)])
def test_of_equal_scores_the_true_class_comes_last(equal, top1, top5):
  """So a model with a constant output is never correct."""
  scores = np.where(np.arange(CLASSES) < equal, 2.0, -1.0)[None]
  values = measured(scores, np.array([0], np.int32))
  assert (values["top1"], values["top5"]) == (top1, top5)


def test_an_output_that_is_nan_is_wrong():
  values = measured(np.full((4, CLASSES), np.nan), LABEL)
  assert (values["top1"], values["top5"]) == (0, 0)


def test_examples_of_weight_zero_do_not_count():
  """These examples pad the last batch; their absurd scores would change every value if they counted."""
  scores, padding = logits(), np.where(np.arange(CLASSES) == 1, 50.0, 0.0)[None].repeat(3, 0)
  scores[:2] += 9 * np.eye(CLASSES)[LABEL[:2]]
  expected = measured(scores, LABEL)
  assert expected["top1"] == 0.5
  both, label = np.concatenate([padding, scores]), np.concatenate([[1, 5, 5], LABEL]).astype(np.int32)
  assert measured(both, label, [0, 0, 0, 1, 1, 1, 1]) == pytest.approx(expected, rel=1e-6)


def test_evaluation_smooths_no_labels():
  scores = logits()
  sums = given(label_smoothing=0.3).measure({}, batch(scores)).sums
  np.testing.assert_allclose(sums["loss"][0], cross_entropy(scores, np.eye(CLASSES)[LABEL]).sum(), rtol=1e-5)
