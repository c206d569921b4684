"""Schedules at chosen steps, which parameters decay, layer-wise factors, and an exact reproduction of the
official parameter groups.
"""

import functools
import json

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from swin_jax.models.heads import Classifier
from swin_jax.models.simmim import SimMim
from swin_jax.models.swin import KIND, make_encoder, official
from swin_jax.run import optim
from tests.support.golden import golden

pytestmark = pytest.mark.every_python

RATE = dict(total_steps=100, warmup_steps=10, warmup_lr=0.001, min_lr=0.01, milestones=(), decay_rate=0.1)


def rate(step, peak=1.0, **changes):
  return float(optim.learning_rate(step, peak, **(RATE | changes)))


@pytest.mark.parametrize("schedule", ["cosine", "linear", "step", "multistep"])
def test_warmup_is_linear_and_ends_at_the_peak(schedule):
  changes = dict(schedule=schedule, milestones=(50,))
  assert rate(0, **changes) == pytest.approx(0.001)
  assert rate(5, **changes) == pytest.approx(0.001 + 5 * (1 - 0.001) / 10)
  assert rate(10, **changes) == pytest.approx(1.0)


def test_cosine():
  assert rate(55, schedule="cosine") == pytest.approx((1 + 0.01) / 2)
  assert rate(100, schedule="cosine") == pytest.approx(0.01)
  assert rate(1000, schedule="cosine") == pytest.approx(0.01)


def test_linear_ends_at_one_percent():
  assert rate(55, schedule="linear") == pytest.approx(1 - 0.99 / 2)
  assert rate(100, schedule="linear") == pytest.approx(0.01)


def test_step_counts_from_the_start():
  values = [rate(step, schedule="step", milestones=(30,)) for step in (29, 30, 59, 60, 90)]
  np.testing.assert_allclose(values, [1.0, 0.1, 0.1, 0.01, 0.001], rtol=1e-5)


def test_multistep_falls_at_its_milestones():
  values = [rate(step, schedule="multistep", milestones=(40, 80)) for step in (39, 40, 79, 80)]
  np.testing.assert_allclose(values, [1.0, 0.1, 0.1, 0.01], rtol=1e-5)


def test_layers_share_warmup_start_and_floor():
  peaks = np.array([1.0, 0.1], np.float32)
  rates = lambda step: np.asarray(optim.learning_rate(step, peaks, schedule="cosine", **RATE))
  np.testing.assert_allclose(rates(0), [0.001, 0.001], rtol=1e-6)
  np.testing.assert_allclose(rates(100), [0.01, 0.01], rtol=1e-6)


def encoder_of(depths):
  heads = tuple(2**i for i in range(len(depths)))
  return make_encoder(
    version=2,
    patch_size=4,
    embed_dim=32,
    depths=depths,
    num_heads=heads,
    window_sizes=(4,) * len(depths),
    trained_window_sizes=(),
    mlp_ratio=4.0,
    drop_path_rate=0.0,
    extra_norm_every=0,
    dtype="float32",
    remat="none",
    unroll=False,
  )


def decay_rules(official_pretraining=False):
  config = common.base()
  config.optim.official_pretraining_decay = official_pretraining
  return optim.decay_rules(KIND.decay(config))


def abstract_params(kind, depths):
  encoder, images = encoder_of(depths), jnp.zeros((1, 64, 64, 3))
  model = SimMim(encoder) if kind == "simmim" else Classifier(encoder, 10)
  inputs = (images, jnp.zeros((1, 16, 16), bool)) if kind == "simmim" else (images,)
  return jax.eval_shape(lambda: flax.core.meta.unbox(model.init(jax.random.key(0), *inputs)["params"]))


def per_official_name(tree, depths):
  """Returns {official name: value} for a tree whose leaves may hold one value per group of blocks."""
  named = {}
  for path, value in flax.traverse_util.flatten_dict(tree, sep="/").items():
    names = official.names(path, {"depths": depths, "extra_norm_every": 0})
    if isinstance(names, str):
      named[names] = value
    else:
      named |= dict(zip(names, np.broadcast_to(np.reshape(value, (-1,)), len(names)), strict=True))
  return named


def test_official_fine_tuning_groups():
  groups = json.loads(golden("parameter_groups.json").read_text())["finetune_layer_decay_075"]
  depths = tuple(groups["depths"])
  params = abstract_params("classifier", depths)
  scales = per_official_name(optim.layer_scales(params, encoder_of(depths), 0.75), depths)
  decays = per_official_name(optim.decay_mask(params, decay_rules()), depths)
  assert scales.keys() == groups["parameters"].keys()
  for name, group in groups["parameters"].items():
    assert scales[name] == pytest.approx(group["lr_scale"], rel=1e-6), name
    assert decays[name] * 0.05 == group["weight_decay"], name


def test_official_pretraining_quirk():
  groups = json.loads(golden("parameter_groups.json").read_text())["pretrain_official_quirk"]
  depths = tuple(groups["depths"])
  decays = per_official_name(
    optim.decay_mask(abstract_params("simmim", depths), decay_rules(official_pretraining=True)), depths
  )
  theirs = {name.removeprefix("encoder."): decay for name, decay in groups["weight_decay"].items()}
  assert {name: decay * 0.05 for name, decay in decays.items()} == theirs


def test_without_the_quirk_bias_mlp_and_temperature_do_not_decay():
  decays = flax.traverse_util.flatten_dict(
    optim.decay_mask(abstract_params("simmim", (2, 2)), decay_rules()), sep="/"
  )
  assert not any(decay for path, decay in decays.items() if "cpb" in path or "logit_scale" in path)
  assert all(
    decay
    for path, decay in decays.items()
    if path.endswith(("qkv/kernel", "fc1/kernel", "reduction/kernel")) and "cpb" not in path
  )


def test_an_uncovered_parameter_is_an_error():
  with pytest.raises(ValueError, match="encoder/novel"):
    optim.decay_mask({"encoder": {"novel": jnp.zeros(3)}}, decay_rules())


def test_adamw_by_hand():
  """Two steps on one kernel compared with the textbook: decoupled decay is multiplied by the current rate."""
  params = {"head": {"kernel": jnp.array([[1.0, -2.0]])}}
  schedule = functools.partial(optim.learning_rate, schedule="cosine", **RATE)
  optimizer = optim.make_optimizer(
    params,
    schedule,
    peak_lr=0.5,
    weight_decay=0.1,
    decay_rules=decay_rules(),
    backbone=encoder_of((2,)),
    layer_decay=1.0,
    clip_norm=0.0,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
  )
  state, p, m, v = optimizer.init(params), np.array([[1.0, -2.0]]), 0.0, 0.0
  for t, gradient in enumerate([np.array([[0.3, 0.1]]), np.array([[-0.2, 0.4]])]):
    updates, state = optimizer.update({"head": {"kernel": jnp.asarray(gradient, jnp.float32)}}, state, params)
    params = optax.apply_updates(params, updates)
    m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
    adam = (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
    p = p - rate(t, 0.5, schedule="cosine") * (adam + 0.1 * p)
  np.testing.assert_allclose(params["head"]["kernel"], p, rtol=1e-5)


def test_clipping_is_over_all_parameters():
  params = {"a": {"kernel": jnp.zeros((2, 2))}, "b": {"bias": jnp.zeros(2)}}
  optimizer = optim.make_optimizer(
    params,
    lambda step, peak: peak,
    peak_lr=1.0,
    weight_decay=0.0,
    decay_rules=decay_rules(),
    backbone=encoder_of((2,)),
    layer_decay=1.0,
    clip_norm=5.0,
    b1=0.0,
    b2=0.0,
    eps=1.0,
  )
  gradients = {"a": {"kernel": jnp.full((2, 2), 3.0)}, "b": {"bias": jnp.full(2, 4.0)}}
  norm = np.sqrt(4 * 9 + 2 * 16)
  updates, _ = optimizer.update(gradients, optimizer.init(params), params)
  clipped = 3.0 * 5 / norm
  # Adam with b = 0: g / (|g| + eps)
  np.testing.assert_allclose(updates["a"]["kernel"], np.full((2, 2), -clipped / (clipped + 1.0)), rtol=1e-5)
