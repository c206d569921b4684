"""Classifiers on frozen features, without training: ridge regression in closed form, and nearest neighbours.

Letters: n examples, d features, c classes. Everything is float64 numpy on the host.
"""

from collections.abc import Sequence

import numpy as np

# Regularisations that are tried, relative to the variance of a standardised feature.
STRENGTHS = tuple(10.0**power for power in np.arange(-5, 3.5, 0.5))
_UNCHOSEN = 1.0  # where no class has a second example to choose by
_HELD_OUT = 0.2  # of the examples of a class, to choose the regularisation
_ROWS = 1024  # queries that are compared at once


class Ridge:
  """One-against-rest ridge regression on standardised features, for every strength at once.

  The weights W = (XᵀX / n + λ)⁻¹ XᵀY / n come from one eigendecomposition of XᵀX / n.

  Args:
    features: [n, d].
    labels: int [n].
    num_classes: c.
  """

  def __init__(self, features: np.ndarray, labels: np.ndarray, num_classes: int):
    self._mean = features.mean(axis=0)
    self._scale = np.maximum(features.std(axis=0), 1e-6)
    x, targets = self._standardised(features), np.eye(num_classes)[labels]
    self._share = targets.mean(axis=0)
    self._values, self._vectors = np.linalg.eigh(x.T @ x / len(x))
    self._product = self._vectors.T @ (x.T @ (targets - self._share)) / len(x)

  def predict(self, features: np.ndarray, strength: float) -> np.ndarray:
    """Returns the class of each example, int [n], for one regularisation."""
    weights = self._vectors @ (self._product / (np.maximum(self._values, 0) + strength)[:, None])
    return (self._standardised(features) @ weights + self._share).argmax(axis=1)

  def _standardised(self, features: np.ndarray) -> np.ndarray:
    return (features.astype(np.float64) - self._mean) / self._scale


def ridge(
  features: np.ndarray,
  labels: np.ndarray,
  queries: np.ndarray,
  num_classes: int,
  rng: np.random.Generator,
) -> tuple[np.ndarray, float]:
  """Predicts by ridge regression, whose regularisation is chosen on a part of the training examples.

  Returns:
    The classes of the queries, int [n], and the regularisation.
  """
  strength, held_out = _UNCHOSEN, hold_out(labels, rng)
  if held_out.any():
    part = Ridge(features[~held_out], labels[~held_out], num_classes)
    right = [np.mean(part.predict(features[held_out], each) == labels[held_out]) for each in STRENGTHS]
    strength = STRENGTHS[len(right) - 1 - int(np.argmax(right[::-1]))]  # the strongest of the best
  return Ridge(features, labels, num_classes).predict(queries, strength), strength


def hold_out(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
  """Returns which examples are held out, bool [n]: a fifth of each class, at least one if it has two."""
  chosen = np.zeros(len(labels), bool)
  for label in np.unique(labels):
    places = rng.permutation(np.flatnonzero(labels == label))
    if len(places) > 1:
      chosen[places[: max(1, round(_HELD_OUT * len(places)))]] = True
  return chosen


def subset(labels: np.ndarray, per_class: int, rng: np.random.Generator) -> np.ndarray:
  """Returns the places of at most `per_class` random examples of each class, in order."""
  places = [rng.permutation(np.flatnonzero(labels == label))[:per_class] for label in np.unique(labels)]
  return np.sort(np.concatenate(places))


def nearest(
  features: np.ndarray, labels: np.ndarray, queries: np.ndarray, num_classes: int, ks: Sequence[int]
) -> dict[int, np.ndarray]:
  """Predicts by the votes of the k nearest examples in cosine similarity; of classes with as many votes, the
  more similar one wins.

  Returns:
    k → the classes of the queries, int [n].
  """
  examples, predictions = _unit(features), {k: [] for k in ks}
  for start in range(0, len(queries), _ROWS):
    similarity = _unit(queries[start : start + _ROWS]) @ examples.T
    order = np.argsort(-similarity, axis=1, kind="stable")[:, : max(ks)]
    similar = np.take_along_axis(similarity, order, axis=1)
    for k in ks:
      votes = np.zeros((len(order), num_classes))
      rows = np.arange(len(order))[:, None]
      # a vote is worth more than all similarities together
      np.add.at(votes, (rows, labels[order[:, :k]]), 1 + similar[:, :k] / (4 * k))
      predictions[k].append(votes.argmax(axis=1))
  return {k: np.concatenate(each) for k, each in predictions.items()}


def _unit(features: np.ndarray) -> np.ndarray:
  features = features.astype(np.float64)
  return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
