"""Land cover per pixel from few labels: an encoder trained on from SimMIM against the same from scratch, with equal steps and rates.

  python experiments/multispectral/finetune.py RUN DATA.npz [--steps=60]

Scenes, blocks, folds, gap and score are those of `probe.py`. The features of all stages, each token's on its pixels, go through one
linear layer per pixel; the loss is the mean over labelled pixels, COUNT a class.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
import probe

import swin_jax

COUNT, SEEDS, RATES = 20, 2, (1e-3, 4e-3)  # rates of the encoder; its head learns at 1e-2


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("run")
  parser.add_argument("data")
  parser.add_argument("--steps", type=int, default=60)
  arguments = parser.parse_args()
  bands, labels, classes = probe.load_scene(arguments.data)
  size = tuple(-(-side // 32) * 32 for side in labels.shape)
  model, trained = swin_jax.load(arguments.run, image_size=size)
  padded = np.pad(bands, ((0, 0), (0, size[0] - labels.shape[0]), (0, size[1] - labels.shape[1]), (0, 0)), mode="edge")
  images = jnp.asarray(model.normalise(padded[-1:]))  # one date
  channels = sum(model.module.encoder.embed_dim * 2**i for i in range(2))

  def logits(params):
    maps = model.features(params["encoder"], images, stages=(0, 1))
    full = [jnp.repeat(jnp.repeat(m[0], size[0] // m.shape[1], 0), size[1] // m.shape[2], 1) for m in maps]
    x = jnp.concatenate(full, -1)[: labels.shape[0], : labels.shape[1]]
    return jax.nn.standardize(x, axis=(0, 1)) @ params["head"]["w"] + params["head"]["b"][None, None]

  def train(params, rate, where, wanted):
    rates = {"encoder": optax.adamw(rate, weight_decay=0.05), "head": optax.adamw(1e-2, weight_decay=0.05)}
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.multi_transform(rates, {"encoder": "encoder", "head": "head"}))
    rows, columns = where

    @jax.jit
    def step(params, state):
      loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(logits(p)[rows, columns], wanted).mean()
      updates, state = optimizer.update(jax.grad(loss)(params), state, params)
      return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(arguments.steps):
      params, state = step(params, state)
    return np.asarray(jax.jit(logits)(params)).argmax(-1)

  for rate in RATES:
    for name in ("SimMIM", "scratch"):
      scores = []
      for seed in range(SEEDS):
        start = trained if name == "SimMIM" else probe.random_params(model, seed, False)
        fold, known = probe.folds(labels.shape, seed), np.isin(labels, classes)
        rng, predicted = np.random.default_rng(seed), np.zeros_like(labels)
        for k in range(probe.FOLDS):
          test = fold == k
          free = rng.permutation(np.flatnonzero((known & ~probe.near(test)).ravel()))
          chosen = np.concatenate([free[labels.ravel()[free] == c][:COUNT] for c in classes])
          head = {"w": jnp.zeros((channels, len(classes))), "b": jnp.zeros(len(classes))}
          wanted = jnp.asarray(np.searchsorted(classes, labels.ravel()[chosen]))
          found = train({"encoder": start, "head": head}, rate, np.unravel_index(chosen, labels.shape), wanted)
          predicted[test] = np.asarray(classes)[found][test]
        scores.append(probe.mean_iou(predicted, labels, classes))
      print(f"rate {rate:g}  from {name:8} {np.mean(scores):5.1f} ± {np.std(scores):3.1f}  {np.round(scores, 1)}", flush=True)


if __name__ == "__main__":
  main()
