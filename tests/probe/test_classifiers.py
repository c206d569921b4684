"""The classifiers on frozen features equal plain definitions of them."""

import numpy as np
import pytest

from swin_jax.probe import classifiers

RNG = np.random.default_rng(0)


def blobs(per_class, num_classes=3, spread=0.5, features=6, seed=0):
  """Returns features around one centre per class, and labels."""
  rng = np.random.default_rng(seed)
  labels = np.repeat(np.arange(num_classes), per_class)
  centres = np.random.default_rng(7).normal(size=(num_classes, features))
  return (centres[labels] + spread * rng.normal(size=(len(labels), features))).astype(np.float32), labels


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_ridge_minimises_the_regularised_squared_error(strength):
  """The gradient of the error vanishes at its weights; here it solves the normal equations directly."""
  (x, labels), (queries, _) = blobs(20, spread=2.0), blobs(15, spread=2.0, seed=1)
  x, labels = x[6:], labels[6:]  # classes of different sizes
  mean, std = x.mean(0), x.std(0)
  z, y = (x - mean) / std, np.eye(3)[labels]
  # minimises |z w - (y - ȳ)|² / n + strength · |w|²
  weights = np.linalg.solve(z.T @ z + strength * len(z) * np.eye(6), z.T @ (y - y.mean(0)))
  expected = ((queries - mean) / std @ weights + y.mean(0)).argmax(1)
  np.testing.assert_array_equal(classifiers.Ridge(x, labels, 3).predict(queries, strength), expected)


def test_the_regularisation_is_chosen_on_training_examples_that_are_left_out():
  """With as many noise features as examples, little regularisation fits the noise."""
  x, labels = blobs(12, spread=1.5)
  queries, truth = blobs(100, spread=1.5, seed=1)
  noise = np.random.default_rng(2)
  x, queries = (np.concatenate([each, noise.normal(size=(len(each), 60))], 1) for each in (x, queries))
  predicted, strength = classifiers.ridge(x, labels, queries, 3, np.random.default_rng(0))
  least = classifiers.Ridge(x, labels, 3).predict(queries, classifiers.STRENGTHS[0])
  assert strength > classifiers.STRENGTHS[0]
  assert np.mean(predicted == truth) > np.mean(least == truth)


def test_one_example_per_class_needs_no_choice():
  x, labels = blobs(1)
  predicted, strength = classifiers.ridge(x, labels, x, 3, np.random.default_rng(0))
  assert strength == 1.0 and predicted.tolist() == [0, 1, 2]


def test_a_fifth_of_each_class_is_held_out():
  labels = np.repeat([0, 1, 2], [10, 2, 1])
  held_out = classifiers.hold_out(labels, np.random.default_rng(0))
  assert [int(held_out[labels == label].sum()) for label in range(3)] == [2, 1, 0]
  assert (held_out != classifiers.hold_out(labels, np.random.default_rng(1))).any()


def test_a_subset_has_as_many_of_each_class():
  labels = np.repeat([0, 1, 2], [10, 4, 2])
  places = classifiers.subset(labels, 3, np.random.default_rng(0))
  assert np.bincount(labels[places]).tolist() == [3, 3, 2] and len(set(places)) == len(places)


@pytest.mark.parametrize("rows", [4, 1024])
def test_neighbours_vote_as_in_a_loop(monkeypatch, rows):
  monkeypatch.setattr(classifiers, "_ROWS", rows)
  (x, labels), (queries, _) = blobs(9, spread=2.0), blobs(5, spread=2.0, seed=1)
  predictions = classifiers.nearest(x, labels, queries, 3, (1, 5, 20))
  for i, query in enumerate(queries):
    similar = [float(query @ each / np.linalg.norm(query) / np.linalg.norm(each)) for each in x]
    order = sorted(range(len(x)), key=lambda j: -similar[j])
    for k in (1, 5, 20):
      votes = [[similar[j] for j in order[:k] if labels[j] == label] for label in range(3)]
      assert predictions[k][i] == max(range(3), key=lambda label: (len(votes[label]), sum(votes[label]))), k


def test_more_neighbours_than_examples_are_all():
  x, labels = blobs(1)
  assert classifiers.nearest(x, labels, x, 3, (20,))[20].tolist() == [0, 1, 2]
