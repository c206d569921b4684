"""Land cover per pixel from few labels: an encoder initialised from SimMIM compared with the same encoder
trained from scratch, with the same number of steps and the same learning rates.

  python experiments/multispectral/finetune.py RUN DATA.npz [--steps=40]

Scenes, blocks, folds, gap and score are those of `probe.py`. Each pixel gets the features of its token in
every stage, and one linear layer classifies each pixel. The loss is the mean over labelled pixels, COUNT per
class.
"""

import argparse

import jax
import jax.numpy as jnp
import numpy as np
import optax
import probe

import swin_jax

COUNT, SEEDS, RATE = 20, 3, 2e-3  # RATE is the encoder's learning rate; the head's is 1e-2


def main():
  parser = argparse.ArgumentParser()
  parser.add_argument("run")
  parser.add_argument("data")
  parser.add_argument("--steps", type=int, default=40)
  arguments = parser.parse_args()
  bands, labels, classes = probe.load_scene(arguments.data)
  size = tuple(-(-side // 32) * 32 for side in labels.shape)
  model, trained = swin_jax.load(arguments.run, image_size=size)
  padded = np.pad(
    bands, ((0, 0), (0, size[0] - labels.shape[0]), (0, size[1] - labels.shape[1]), (0, 0)), mode="edge"
  )
  images = jnp.asarray(model.normalise(padded[-1:]))  # one date
  channels = sum(level.channels for level in model.module.encoder.levels[:2])

  def logits(params):
    maps = model.features(params["encoder"], images, stages=(0, 1))
    full = [jnp.repeat(jnp.repeat(m[0], size[0] // m.shape[1], 0), size[1] // m.shape[2], 1) for m in maps]
    x = jnp.concatenate(full, -1)[: labels.shape[0], : labels.shape[1]]
    return jax.nn.standardize(x, axis=(0, 1)) @ params["head"]["w"] + params["head"]["b"][None, None]

  rates = {"encoder": optax.adamw(RATE, weight_decay=0.05), "head": optax.adamw(1e-2, weight_decay=0.05)}
  optimizer = optax.chain(
    optax.clip_by_global_norm(1.0), optax.multi_transform(rates, {"encoder": "encoder", "head": "head"})
  )

  @jax.jit
  def step(params, state, rows, columns, targets):
    loss = lambda p: optax.softmax_cross_entropy_with_integer_labels(logits(p)[rows, columns], targets).mean()
    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  predict = jax.jit(lambda params: logits(params).argmax(-1))
  for name in ("SimMIM", "scratch"):
    scores = []
    for seed in range(SEEDS):
      start = trained if name == "SimMIM" else probe.random_params(model, seed, False)
      fold, flat = probe.folds(labels.shape, seed), labels.ravel()
      rng, predicted = np.random.default_rng(seed), np.zeros_like(labels)
      for k in range(probe.FOLDS):
        test = fold == k
        free = np.flatnonzero((np.isin(labels, classes) & ~probe.near(test)).ravel())
        pixels_by_class = [free[flat[free] == c] for c in classes]
        chosen = np.concatenate(
          [rng.choice(pixels, COUNT, replace=len(pixels) < COUNT) for pixels in pixels_by_class]
        )
        params = {
          "encoder": start,
          "head": {"w": jnp.zeros((channels, len(classes))), "b": jnp.zeros(len(classes))},
        }
        state = optimizer.init(params)
        batch = (
          *map(jnp.asarray, np.unravel_index(chosen, labels.shape)),
          jnp.asarray(np.searchsorted(classes, flat[chosen])),
        )
        for _ in range(arguments.steps):
          params, state = step(params, state, *batch)
        predicted[test] = np.asarray(classes)[np.asarray(predict(params))][test]
      scores.append(probe.mean_iou(predicted, labels, classes))
      print(f"from {name:8} seed {seed}  {scores[-1]:5.1f}", flush=True)
    print(f"from {name:8} {np.mean(scores):5.1f} ± {np.std(scores):3.1f}", flush=True)


if __name__ == "__main__":
  main()
