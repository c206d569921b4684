"""Norms of heads: batch norm uses fixed statistics, and training leaves the statistics alone."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from swin_jax.models import norms, swin, upernet
from swin_jax.run import optim
from tests.support import slow_block

pytestmark = pytest.mark.every_python

SIZES = dict(version=1, patch_size=4, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_sizes=(4, 4))


def statistics(channels, seed=0):
  rng = np.random.default_rng(seed)
  values = {name: rng.normal(size=channels) for name in ("scale", "bias", "mean")}
  return jax.tree.map(np.float32, values | {"variance": rng.uniform(0.1, 3, channels)})


def test_the_norm_uses_fixed_statistics():
  x, p = np.random.default_rng(1).normal(2, 3, (2, 3, 5, 7)).astype(np.float32), statistics(7)
  expected = (x - p["mean"]) / np.sqrt(p["variance"].astype(np.float64) + 1e-5) * p["scale"] + p["bias"]
  ours = norms.FrozenBatchNorm(jnp.float32).apply({"params": p}, x)
  np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6 * np.abs(expected).max())
  assert norms.FrozenBatchNorm(jnp.bfloat16).apply({"params": p}, x).dtype == jnp.bfloat16


def test_training_leaves_mean_and_variance_as_they_are():
  """For 10 steps of the optimizer of runs, with weight decay and clipping."""
  model = upernet.UPerNet(swin.make_encoder(**SIZES), 3, channels=12, auxiliary_channels=5, norm="batch")
  images = np.random.default_rng(2).normal(size=(1, 32, 32, 3)).astype(np.float32)
  boxed = jax.eval_shape(lambda: model.init(jax.random.key(0), images)["params"])
  before = slow_block.random_params(flax.core.meta.unbox(boxed), 0)
  before = jax.tree_util.tree_map_with_path(
    lambda path, leaf: abs(leaf) + 0.5 if "variance" in jax.tree_util.keystr(path) else leaf, before
  )
  numbers = dict(peak_lr=1e-2, weight_decay=0.5, layer_decay=0.9, clip_norm=5.0, b1=0.9, b2=0.999, eps=1e-8)
  rules = optim.decay_rules(swin.KIND.decay(common.base()))
  optimizer = optim.make_optimizer(
    before, lambda step, peak: peak, decay_rules=rules, backbone=model.encoder, **numbers
  )

  def loss(params):
    both, _ = model.apply({"params": params}, images, train=True, rngs={"dropout": jax.random.key(0)})
    return sum(jnp.mean(logits**2) for logits in both)

  @jax.jit
  def step(params, state):
    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  params, state = before, optimizer.init(before)
  for _ in range(10):
    params, state = step(params, state)
  old, new = (flax.traverse_util.flatten_dict(tree, sep="/") for tree in (before, params))
  fixed = {path for path in old if np.array_equal(old[path], new[path])}
  assert fixed == {path for path in old if path.endswith(("norm/mean", "norm/variance"))}
  assert len(fixed) == 2 * (4 + 1 + 1 + 1 + 1 + 1)
  assert len(old["pool1/norm/mean"]) == 12
