"""Land cover per pixel, predicted from frozen features (of SimMIM or of random weights) or from the bands.

  python experiments/multispectral/probe.py RUN DATA.npz [--json=FILE]

RUN is the workdir of a run of `run_on_two_cores.sh`. A scene is divided into blocks, which are distributed
over four folds. A linear classifier (discriminant analysis with Ledoit and Wolf's shrinkage, which has
nothing to tune) predicts the classes in one fold from labelled pixels of the others, all of them more than
GAP pixels away. Every pixel is predicted once, and the mean IoU over classes is computed on the whole scene.
Pre-training uses no labels, but it does use the pixels of all folds, as one would to map this scene.
"""

import argparse
import json

import flax
import jax
import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.preprocessing import StandardScaler

import swin_jax

BLOCK, GAP, FOLDS = 16, 4, 4  # BLOCK and GAP in pixels
LABELS = (10, 50, 0)  # labelled pixels per class in the training folds; 0: 2,000 random pixels of any class
SEEDS = 4


def load_scene(path: str) -> tuple[np.ndarray, np.ndarray, list[int]]:
  """Returns (bands [dates, height, width, bands], class map, classes to score)."""
  with np.load(path) as file:
    if "lulc" in file:
      # The first two dates are cloudy, and only 11 pixels have class 1.
      return file["bands"][2:], file["lulc"], [2, 3, 4, 8]
    bands = file["bands"].transpose(1, 2, 0, 3)
    return bands.reshape(1, *bands.shape[:2], -1).astype(np.float32), file["weak_class_map"], [1, 2, 3, 4]


def random_params(model, seed: int, live_blocks: bool):
  """Returns a fresh initialisation of the run's model.

  Its blocks are identities, because the scales of their norms start at 0; `live_blocks` starts them at 1.
  """
  images = np.zeros((1, *model.image_size, len(model.mean)), np.float32)
  mask = np.zeros((1, *model.module.encoder.levels[0].map_size(model.image_size)), bool)
  params = flax.core.meta.unbox(model.module.init(jax.random.key(seed), images, mask)["params"])
  if live_blocks:
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    flat = {
      path: leaf + 1 if "norm" in path and path.endswith("scale") and not np.any(leaf) else leaf
      for path, leaf in flat.items()
    }
    params = flax.traverse_util.unflatten_dict(flat, sep="/")
  return params


def features(model, params, bands: np.ndarray) -> list[np.ndarray]:
  """Returns the features of both stages [height, width, channels], with all dates concatenated; each token's
  features are repeated on all of its pixels.
  """
  height, width = bands.shape[1:3]
  padded = np.pad(
    bands, ((0, 0), (0, model.image_size[0] - height), (0, model.image_size[1] - width), (0, 0)), mode="edge"
  )
  maps = []
  for level in model.features(params, model.normalise(padded), stages=(0, 1)):
    zoom = model.image_size[0] // level.shape[1]
    level = np.asarray(level).repeat(zoom, 1).repeat(zoom, 2)[:, :height, :width]
    maps.append(level.transpose(1, 2, 0, 3).reshape(height, width, -1))
  return maps


def folds(shape: tuple[int, int], seed: int) -> np.ndarray:
  """Returns the fold of each pixel."""
  rows, columns = (-(-side // BLOCK) for side in shape)
  dealt = np.random.default_rng(seed).permutation(np.arange(rows * columns) % FOLDS).reshape(rows, columns)
  return dealt.repeat(BLOCK, 0).repeat(BLOCK, 1)[: shape[0], : shape[1]]


def near(inside: np.ndarray) -> np.ndarray:
  """Returns the pixels that are inside, or at most GAP pixels away along both axes."""
  grown = np.zeros_like(inside)
  padded = np.pad(inside, GAP)
  for dy in range(2 * GAP + 1):
    for dx in range(2 * GAP + 1):
      grown |= padded[dy : dy + inside.shape[0], dx : dx + inside.shape[1]]
  return grown


def score(x: np.ndarray, labels: np.ndarray, classes: list[int], count: int, seed: int) -> float:
  """Returns the mean IoU of the whole scene, in per cent."""
  rng, fold, known = np.random.default_rng(seed), folds(labels.shape, seed), np.isin(labels, classes)
  predicted = np.zeros_like(labels)
  for k in range(FOLDS):
    test = fold == k
    train = np.flatnonzero((known & ~near(test)).ravel())
    train = rng.permutation(train)
    if count:
      train = np.concatenate([train[labels.ravel()[train] == c][:count] for c in classes])
    else:
      train = train[:2000]
    flat = x.reshape(-1, x.shape[-1])
    scale = StandardScaler().fit(flat[train])
    alike = np.full(len(classes), 1 / len(classes))
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto", priors=alike)
    model.fit(scale.transform(flat[train]), labels.ravel()[train])
    predicted[test] = model.predict(scale.transform(flat[test.ravel()]))
  return mean_iou(predicted, labels, classes)


def mean_iou(predicted: np.ndarray, labels: np.ndarray, classes: list[int]) -> float:
  """Returns the mean IoU over classes, over the pixels labelled with one of them, in per cent."""
  known = np.isin(labels, classes)
  hit = [
    np.sum(known & (labels == c) & (predicted == c)) / np.sum(known & ((labels == c) | (predicted == c)))
    for c in classes
  ]
  return 100 * float(np.mean(hit))


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("run")
  parser.add_argument("data")
  parser.add_argument("--json")
  arguments = parser.parse_args()
  bands, labels, classes = load_scene(arguments.data)
  size = [-(-side // 32) * 32 for side in labels.shape]
  model, trained = swin_jax.load(arguments.run, image_size=tuple(size))
  rows = {}

  def add(name, feature_sets):
    rows[name] = {}
    for count in LABELS:
      scores = [
        score(feature_sets[seed % len(feature_sets)], labels, classes, count, seed) for seed in range(SEEDS)
      ]
      rows[name][count] = [float(np.mean(scores)), float(np.std(scores)), scores]
    text = "  ".join(
      f"{count or 'all':>4}: {mean:5.1f} ± {std:3.1f}" for count, (mean, std, _) in rows[name].items()
    )
    print(f"{name:34} {feature_sets[0].shape[-1]:4} features   {text}", flush=True)

  add("bands themselves", [bands.transpose(1, 2, 0, 3).reshape(*labels.shape, -1)])
  for name, params_by_seed in {
    "SimMIM": [trained],
    "random": [random_params(model, seed, False) for seed in range(SEEDS)],
    "random, live blocks": [random_params(model, seed, True) for seed in range(SEEDS)],
  }.items():
    maps = [features(model, params, bands) for params in params_by_seed]
    add(f"{name}, stages 0 and 1", [np.concatenate(each, -1) for each in maps])
    for stage in (0, 1):
      add(f"{name}, stage {stage}", [each[stage] for each in maps])
  if arguments.json:
    with open(arguments.json, "w") as file:
      json.dump(rows, file, indent=1)


if __name__ == "__main__":
  main()
