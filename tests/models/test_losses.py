"""Losses that blocks emit reach the loss of the step: through the scan, the stages and the models."""

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swin_jax.models import layers
from swin_jax.models.heads import Classifier
from swin_jax.models.simmim import SimMim
from swin_jax.models.swin import Swin, SwinConfig
from swin_jax.models.swin.block import VERSIONS
from swin_jax.models.swin.stage import Stage
from swin_jax.models.upernet import UPerNet
from swin_jax.run.step import total_loss
from swin_jax.tasks import classification
from tests.support import blocks, slow_block

X = np.random.default_rng(0).normal(size=(2, 6, 5, 16)).astype(np.float32)
IMAGES = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(np.float32)


class EmittingMlp(layers.Mlp):
  """A channel MLP that emits two losses computed from its input."""

  def __call__(self, x):
    y, _ = super().__call__(x)
    return y, {"square": jnp.mean(jnp.square(x)), "first": 0.01 * jnp.sum(y[..., 0])}


@pytest.fixture(autouse=True)
def emitting(monkeypatch):
  for version, parts in list(VERSIONS.items()):
    monkeypatch.setitem(VERSIONS, version, parts._replace(channel_mlp=EmittingMlp))


def params_of(module, *inputs, **kwargs):
  init = lambda: flax.core.meta.unbox(module.init(jax.random.key(0), *inputs, **kwargs)["params"])
  return slow_block.random_params(jax.eval_shape(init), 0)


def close(ours, theirs):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * max(1e-3, np.abs(b).max())), ours, theirs
  )


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("remat", ["none", "block", "save:qkv"])
def test_a_stage_sums_the_losses_of_its_blocks(version, unroll, remat):
  """Values, and gradients of parameters and input, equal those of a Python loop over the blocks."""
  stage = blocks.stage(version, depth=4, unroll=unroll, remat=remat)
  params = params_of(stage, X, None, train=False)

  def scanned(params, x):
    y, losses = stage.apply({"params": params}, x, None, train=False)
    return losses["square"] + 2 * losses["first"], (y, losses)

  def looped(params, x):
    total = {"square": 0.0, "first": 0.0}
    for i in range(4):
      own = jax.tree.map(lambda leaf, i=i: leaf[i // 2], params["blocks"][f"block{i % 2}"])
      x, losses = blocks.block(version, shifted=i % 2 == 1).apply({"params": own}, x, None, train=False)
      total = {name: total[name] + losses[name] for name in total}
    return total["square"] + 2 * total["first"], (x, total)

  ours, theirs = (
    jax.jit(jax.value_and_grad(f, argnums=(0, 1), has_aux=True))(params, X) for f in (scanned, looped)
  )
  close(ours, theirs)
  gradients = {k: v for k, v in flax.traverse_util.flatten_dict(ours[1][0], sep="/").items() if "mlp" in k}
  assert all(np.abs(leaf).max() > 1e-6 for leaf in gradients.values())


def backbone():
  numbers = dict(embed_dim=16, depths=(2, 1), num_heads=(2, 2), window_sizes=((4, 4),) * 2, unroll=False)
  return Swin(SwinConfig(**numbers))


MODELS = {
  "classifier": (Classifier(backbone(), 5), ()),
  "simmim": (SimMim(backbone()), (np.arange(128).reshape(2, 8, 8) % 3 == 0,)),
  "upernet": (UPerNet(backbone(), 5, 32, 16), ()),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_models_pass_on_the_losses_of_all_stages_in_training_alone(name):
  model, more = MODELS[name]
  params = params_of(model, IMAGES, *more)

  @jax.jit
  def run(params):
    per_stage = []

    def record(call, args, kwargs, context):
      out = call(*args, **kwargs)
      if isinstance(context.module, Stage) and context.method_name == "__call__":
        per_stage.append(out[1])
      return out

    with flax.linen.intercept_methods(record):
      _, losses = model.apply(
        {"params": params}, IMAGES, *more, train=True, rngs={"dropout": jax.random.key(1)}
      )
    return losses, per_stage

  losses, per_stage = run(params)
  assert len(per_stage) == 2
  close(losses, {key: sum(each[key] for each in per_stage) for key in ("square", "first")})
  evaluated = jax.eval_shape(lambda p: model.apply({"params": p}, IMAGES, *more), params)
  assert isinstance(evaluated, jax.ShapeDtypeStruct)


def test_the_step_adds_them_and_logs_each():
  numbers = dict(label_smoothing=0.1, mixup_alpha=0.0, cutmix_alpha=0.0, erase_probability=0.0)
  task = classification.make_task(Classifier(backbone(), 5), mean=(0.0,) * 3, std=(1.0,) * 3, **numbers)
  batch = {"image": IMAGES, "label": np.array([1, 3])}
  params = params_of(task.model, IMAGES)
  rng = jax.random.key(0)
  value, sums, losses = jax.jit(task.loss)(params, batch, rng)
  total, logged = jax.jit(total_loss(task))(params, batch, rng)
  assert set(losses) == {"square", "first"} and abs(losses["square"]) > 0.1
  np.testing.assert_allclose(total, value + losses["square"] + losses["first"], rtol=1e-6)
  for name, expected in {"loss": total, **losses}.items():
    np.testing.assert_allclose(logged[name][0], expected, rtol=1e-6)
    assert logged[name][1] == 1
  np.testing.assert_allclose(sums["loss"][0], value)
