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
  from scipy.special import log_softmax  # late, as both take a second or more to import
  from sklearn.metrics import average_precision_score, roc_auc_score

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
  values = [
    [score(label == each, scores[:, each]) for score in (roc_auc_score, average_precision_score)]
    for each in positives
  ]
  auroc, average_precision = np.mean(values, axis=0)
  return float(auroc), float(average_precision)


ONE_VS_REST = RowMetrics(("auroc", "average_precision"), one_vs_rest)
