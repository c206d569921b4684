"""Accuracies of the classifiers on frozen features, over seeds and numbers of examples, and their table."""

from collections.abc import Sequence
import statistics
from typing import Any

import numpy as np

from swin_jax.probe import classifiers
from swin_jax.probe.features import Features
from swin_jax.terminal.progress import Progress

KS = (1, 5, 20)


def measure(
  train: Features, test: Features, num_classes: int, examples: Sequence[int], seeds: int
) -> list[dict[str, Any]]:
  """Returns the accuracies of every classifier, for the given numbers of examples per class and for all.

  A seed draws the examples, and the part of them that the regularisation is chosen on.

  Returns:
    One dict for each number of examples (None for all) and each classifier: top1, one for each seed, its mean
    and std; for ridge regression also the regularisations.
  """
  progress, results = Progress("classifying", (len(examples) + 1) * seeds), []
  for count in (*examples, None):
    names = ("ridge", *(f"{k}-NN" for k in KS))
    top1, strengths = {name: [] for name in names}, []
    for seed in range(seeds):
      rng = np.random.default_rng(seed)
      places = slice(None) if count is None else classifiers.subset(train.labels, count, rng)
      features, labels = train.values[places], train.labels[places]
      predicted, strength = classifiers.ridge(features, labels, test.values, num_classes, rng)
      strengths.append(strength)
      near = classifiers.nearest(features, labels, test.values, num_classes, KS)
      for name, each in zip(names, (predicted, *(near[k] for k in KS)), strict=True):
        top1[name].append(float(np.mean(each == test.labels)))
      progress.step()
    for name, values in top1.items():
      spread = statistics.stdev(values) if seeds > 1 else 0.0
      result = {"examples": count, "classifier": name, "top1": values, "mean": statistics.fmean(values)}
      results.append(result | {"std": spread} | ({"strengths": strengths} if name == "ridge" else {}))
  return results


def table(results: Sequence[dict[str, Any]], seeds: int) -> list[str]:
  """Returns the lines of a table of the accuracies in per cent: a row for each number of examples."""
  names = list(dict.fromkeys(result["classifier"] for result in results))
  spread = f", mean ± standard deviation over {seeds} seeds" if seeds > 1 else ""
  lines = [f"top-1 accuracy in %{spread}", "examples per class" + "".join(f"{name:>14}" for name in names)]
  for count in dict.fromkeys(result["examples"] for result in results):
    row = f"{'all' if count is None else count:>18}"
    for result in results:
      if result["examples"] == count:
        text = f"{100 * result['mean']:.1f}"
        # nothing is drawn where all examples vote
        text += f" ± {100 * result['std']:.1f}" if seeds > 1 and (count or result["std"]) else ""
        row += f"{text:>14}"
    lines.append(row)
  return lines
