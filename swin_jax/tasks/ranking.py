"""Metrics of how well scores rank the examples of a class above the others: AUROC and average precision."""

from collections.abc import Mapping

import numpy as np

from swin_jax.tasks.task import RowMetrics, Undefined


def one_vs_rest(rows: Mapping[str, np.ndarray]) -> tuple[float, float]:
  """Computes AUROC and average precision from the class probabilities; equal probabilities share their rank.

  With two classes, class 1 is the positive class. With more, each class is the positive class in turn, and
  the result is the mean over the classes that occur.

  Args:
    rows: "logits" [examples, classes] and "label" [examples].

  Returns:
    AUROC and average precision.

  Raises:
    Undefined: all examples have the same class, or a logit is not finite.
  """
  from scipy.special import log_softmax  # late, because it takes long to import

  logits, label = rows["logits"], rows["label"]
  present = np.unique(label)
  if len(present) < 2:
    raise Undefined(
      f"ranking needs examples of two classes, but the evaluation set only has class {present.tolist()}"
    )
  if not np.isfinite(logits).all():
    raise Undefined("the model's output is not finite")
  # In float64, because float32 rounds different probabilities near 1 to 1.
  scores = log_softmax(logits.astype(np.float64), axis=1)
  positives = [1] if logits.shape[1] == 2 else present
  values = [_of_class(label == each, scores[:, each]) for each in positives]
  auroc, average_precision = np.mean(values, axis=0)
  return float(auroc), float(average_precision)


def _of_class(positive: np.ndarray, score: np.ndarray) -> tuple[float, float]:
  """Returns AUROC and average precision of one class.

  Args:
    positive: bool [examples], with examples of both kinds.
    score: float64 [examples].
  """
  order = np.argsort(-score)
  score, positive = score[order], positive[order]
  # Every distinct score is a threshold: the last of the examples that share it.
  last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
  true_positives = np.cumsum(positive)[last]
  selected = last + 1
  recall = np.append(0.0, true_positives / true_positives[-1])
  average_precision = np.sum(np.diff(recall) * true_positives / selected)
  false_positives = selected - true_positives
  # Points inside a straight piece of the curve add nothing to the area but rounding.
  bends = (np.diff(false_positives, 2) != 0) | (np.diff(true_positives, 2) != 0)
  kept = np.append(np.append(True, bends), True)[: len(last)]
  false_positive_rate = np.append(0.0, false_positives[kept] / false_positives[-1])
  return np.trapezoid(np.append(0.0, recall[1:][kept]), false_positive_rate), average_precision


ONE_VS_REST = RowMetrics(("auroc", "average_precision"), one_vs_rest)
