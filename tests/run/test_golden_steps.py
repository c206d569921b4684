"""Three steps of every task, compared with golden numbers: the optimizer, its schedule and the average, as a
whole program uses them.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from swin_jax.mesh import sharding
from swin_jax.run.program import build
from swin_jax.tasks import KINDS
from tests.support import tiny

pytestmark = pytest.mark.slow

# For each task after three steps: the loss of every step, the norm of the parameters, and how far the
# parameters and the average have moved from the start (norms). The numbers may be updated when the model, the
# initialisation, a loss or the recipe is meant to change; a refactoring changes nothing beyond the last
# digits. To update them, print `measured(name)` for each task and give the reason in the commit.
GOLDEN = {
  "classification": dict(
    losses=[1.5874630, 1.5247342, 1.4758904], norm=11.264504, moved=0.42269513, average=0.39228410
  ),
  "masked_pixels": dict(
    losses=[0.9495457, 0.8881970, 0.8213534], norm=12.130762, moved=0.60110170, average=0.55528671
  ),
  "segmentation": dict(
    losses=[2.2577040, 2.2626925, 2.2551751], norm=33.331402, moved=0.49155548, average=0.45327732
  ),
  "pixel_regression": dict(
    losses=[0.8285059, 0.7298864, 0.7456957], norm=33.345486, moved=1.2018850, average=1.1240237
  ),
}

CONFIG = dict(
  data__image_size=(32, 32),
  data__batch_size=16,
  model__depths=(1, 1),
  model__drop_path_rate=0.1,
  optim__lr=0.32,  # 0.01 for 16 images
  optim__warmup_lr=0.064,
  optim__weight_decay=1.0,
  optim__eps=1e-4,  # keeps m / √v from amplifying the last digits of a small gradient
  optim__ema_decay=0.15,
  optim__layer_decay=0.9,
  dense__sides=(),
  dense__eval_canvas=(32, 32),
  dense__photometric=False,
  segmentation__channels=16,
  pixel_regression__channels=16,
)


def batch_of(fields, classes=5):
  """Returns a batch of random numbers, structured so that gradients are not only noise."""
  rng, batch = np.random.default_rng(0), {}
  for name, (shape, dtype) in fields.items():
    size = (16, *shape)
    if name in ("label", "label_map"):
      batch[name] = rng.integers(0, classes, size).astype(dtype)
    elif name == "mask":
      batch[name] = rng.random(size) < 0.5
    elif name == "image":
      batch[name] = rng.integers(0, 256, size).astype(dtype)
    else:
      batch[name] = rng.normal(2.0, 1.0, size).astype(dtype)
  return batch


@functools.cache
def measured(name):
  config = tiny.config(task=name, **CONFIG)
  config.pixel_regression.update(value_mean=1.0, value_std=2.0)
  config.classification.update(mixup_alpha=0.8, cutmix_alpha=1.0, erase_probability=0.25)
  if KINDS[name].needs.has_classes:
    config[name].num_classes = 5
  program = build(config, 89, 20, jax.devices()[:1])
  batch = jax.device_put(batch_of(KINDS[name].fields(config)), program.batch_sharding)
  state = program.init()
  start, losses, rates = jax.tree.map(jnp.copy, state.params), [], []
  with sharding.trace_on(program.mesh, program.rules):
    step = program.step.lower(state, batch).compile()
  for _ in range(3):
    state, sums = step(state, batch)
    losses.append(float(sums["loss"][0] / sums["loss"][1]))
    rates.append(float(sums["learning_rate"][0]))

  def moved(params):
    return float(optax.tree.norm(jax.tree.map(jnp.subtract, params, start)))

  norm = float(optax.tree.norm(state.params))
  return dict(losses=losses, norm=norm, moved=moved(state.params), average=moved(state.ema), rates=rates)


# The second Python repeats two of the tasks, one without and one with a decoder.
ON_EVERY_PYTHON = ("masked_pixels", "segmentation")


@pytest.mark.parametrize(
  "name",
  [pytest.param(name, marks=[pytest.mark.every_python] * (name in ON_EVERY_PYTHON)) for name in KINDS],
)
def test_three_steps(name):
  values, golden = measured(name), GOLDEN[name]
  # The warm-up rises from 0.002 at the first step to 0.01 at the fifth.
  assert values.pop("rates") == pytest.approx([0.002, 0.0036, 0.0052], rel=1e-5)
  for key, tolerance in dict(losses=1e-5, norm=1e-5, moved=1e-4, average=1e-4).items():
    np.testing.assert_allclose(values[key], golden[key], rtol=tolerance, err_msg=key)
