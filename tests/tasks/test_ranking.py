"""AUROC and average precision compared with scikit-learn's averages and with counting pairs."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.preprocessing import label_binarize

from swin_jax.tasks import ranking
from swin_jax.tasks.task import Undefined

pytestmark = pytest.mark.every_python


def scores(logits, label):
  return ranking.one_vs_rest({"logits": np.asarray(logits, np.float32), "label": np.asarray(label)})


def by_pairs(positive, score):
  """Computes AUROC by definition: how often a positive ranks above a negative, with a tie counting half."""
  higher, lower = score[positive][:, None], score[~positive][None]
  return float(np.mean((higher > lower) + 0.5 * (higher == lower)))


def with_ties(classes, examples=60):
  """Returns logits with only eight distinct values for many more examples, so that there are ties."""
  rng = np.random.default_rng(classes)
  kinds = rng.normal(size=(8, classes)).astype(np.float32)
  return kinds[rng.integers(0, 8, examples)], rng.permutation(examples) % classes


def test_by_hand():
  """Scores of class 1: 0.9 for a positive, 0.5 for one positive and one negative, 0.1 for a negative."""
  logits = [[0.0, 2.0], [0.0, 0.0], [0.0, 0.0], [0.0, -2.0]]
  assert scores(logits, [1, 1, 0, 0]) == pytest.approx(((1 + 1 + 1 + 0.5) / 4, 1 / 2 * 1 + 1 / 2 * 2 / 3))


def test_of_two_classes_the_second_is_positive():
  logits, label = with_ties(2)
  auroc, average_precision = scores(logits, label)
  probability = softmax(logits.astype(np.float64), axis=1)[:, 1]
  assert auroc == pytest.approx(roc_auc_score(label, probability), rel=1e-12)
  assert auroc == pytest.approx(by_pairs(label == 1, probability), rel=1e-12)
  assert average_precision == pytest.approx(average_precision_score(label, probability), rel=1e-12)
  assert average_precision != pytest.approx(average_precision_score(1 - label, 1 - probability), rel=1e-3)


def test_of_more_classes_it_is_the_mean_of_one_against_the_rest():
  logits, label = with_ties(3)
  auroc, average_precision = scores(logits, label)
  probability = softmax(logits.astype(np.float64), axis=1)
  assert auroc == pytest.approx(roc_auc_score(label, probability, multi_class="ovr"), rel=1e-12)
  one_hot = label_binarize(label, classes=range(3))
  assert average_precision == pytest.approx(average_precision_score(one_hot, probability), rel=1e-12)


def test_a_class_that_no_example_has_is_left_out():
  logits, label = with_ties(4)
  label = np.where(label == 2, 3, label)
  probability = softmax(logits.astype(np.float64), axis=1)
  each = [(label == i, probability[:, i]) for i in (0, 1, 3)]
  expected = (np.mean([function(*pair) for pair in each]) for function in (by_pairs, average_precision_score))
  assert scores(logits, label) == pytest.approx(tuple(expected), rel=1e-12)


def test_probabilities_near_one_are_no_ties():
  """In float32 all four have the probability 1."""
  logits = [[0.0, 20.0], [0.0, 21.0], [0.0, 22.0], [0.0, 23.0]]
  assert (softmax(np.float32(logits), axis=1)[:, 1] == 1.0).all()
  assert scores(logits, [0, 0, 1, 1]) == (1.0, 1.0) and scores(logits, [1, 1, 0, 0])[0] == 0.0


@pytest.mark.parametrize("classes", [2, 5])
def test_a_constant_output_ranks_nothing(classes):
  auroc, average_precision = scores(np.ones((20, classes)), np.arange(20) % classes)
  assert auroc == 0.5 and average_precision == pytest.approx(1 / classes)


@pytest.mark.parametrize(
  "label, broken, reason",
  [
    ([1, 1, 1], 0.0, r"examples of two classes.*\[1\]"),
    ([0, 1, 1], np.nan, "not finite"),
    ([], 0.0, r"\[\]"),
  ],
)
def test_where_there_is_nothing_to_rank(label, broken, reason):
  with pytest.raises(Undefined, match=reason):
    scores(np.full((len(label), 3), broken), np.asarray(label, int))
