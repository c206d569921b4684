"""Land cover per pixel on a date without labels: a classifier fitted on one clear Sentinel-2 date is applied
to the two others.

  python experiments/multispectral/across_dates.py RUN s2_l1c_13band.npz

Folds, gap and score are those of `probe.py`, with 2,000 labelled pixels. The result is the mean over the six
ordered pairs of dates.
"""

import sys

import numpy as np
import probe
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

import swin_jax

DATES, SEEDS = 3, 2


def score(x: np.ndarray, labels: np.ndarray, classes: list[int], seed: int) -> float:
  """Returns the mean IoU in per cent for features [dates, height, width, channels]."""
  rng, fold, scores = np.random.default_rng(seed), probe.folds(labels.shape, seed), []
  for one, other in ((i, j) for i in range(DATES) for j in range(DATES) if i != j):
    predicted = np.zeros_like(labels)
    for k in range(probe.FOLDS):
      test = fold == k
      train = rng.permutation(np.flatnonzero((np.isin(labels, classes) & ~probe.near(test)).ravel()))[:2000]
      labelled, new = (x[date].reshape(-1, x.shape[-1]) for date in (one, other))
      scale = StandardScaler().fit(labelled[train])
      model = LinearDiscriminantAnalysis(
        solver="lsqr", shrinkage="auto", priors=np.full(len(classes), 1 / len(classes))
      )
      model.fit(scale.transform(labelled[train]), labels.ravel()[train])
      predicted[test] = model.predict(scale.transform(new[test.ravel()]))
    scores.append(probe.mean_iou(predicted, labels, classes))
  return float(np.mean(scores))


def main():
  run, data = sys.argv[1:]
  bands, labels, classes = probe.load_scene(data)
  model, trained = swin_jax.load(run, image_size=(128, 128))

  def report(name, sets):
    scores = [score(sets[seed % len(sets)], labels, classes, seed) for seed in range(SEEDS)]
    print(f"{name:34} {np.mean(scores):5.1f} ± {np.std(scores):3.1f}", flush=True)

  report("bands themselves", [bands])
  for name, params_by_seed in {
    "SimMIM": [trained],
    "random": [probe.random_params(model, seed, False) for seed in range(SEEDS)],
    "random, live blocks": [probe.random_params(model, seed, True) for seed in range(SEEDS)],
  }.items():
    maps = [
      [
        m.reshape(*labels.shape, DATES, -1).transpose(2, 0, 1, 3)
        for m in probe.features(model, params, bands)
      ]
      for params in params_by_seed
    ]
    report(f"{name}, stages 0 and 1", [np.concatenate(each, -1) for each in maps])
    for stage in (0, 1):
      report(f"{name}, stage {stage}", [each[stage] for each in maps])


if __name__ == "__main__":
  main()
