"""A backbone that no file of the package knows: two convolutions.

The test registers it in the table of backbones and its group in a copy of the config. It then trains, stops
and resumes, is killed and resumes, and is evaluated, loaded, adapted, shown and planned like Swin. Every task
accepts it.
"""

import math
import signal
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

import swin_jax
from swin_jax.mesh import axes, hardware, sharding
from swin_jax.models import BACKBONES, layers
from swin_jax.models.backbone import BackboneKind, Features, Level, Summary
from swin_jax.plan import report as fit
from swin_jax.run import checks, evaluate, reads, train
from swin_jax.run.program import build
from swin_jax.show import attention
from swin_jax.show.grad_cam import grad_cam
from swin_jax.tasks import KINDS
from swin_jax.terminal import preemption, rules
from swin_jax.terminal.errors import BadInput, Preempted
from tests.support import killed, runs, tiny
from tests.support.folders import command as weights
from tests.support.opened import open_source

pytestmark = pytest.mark.devices(8)  # the planned slice

STEPS, KILLED_AT = 80, 45  # saved every 20 steps
STEPS_PER_EPOCH = 1437 // 64


# The backbone.


class Convolution(nn.Module):
  """A 3 × 3 convolution that halves the map, followed by ReLU."""

  channels: int
  names: tuple

  @nn.compact
  def __call__(self, x):
    init = nn.initializers.variance_scaling(2.0, "fan_in", "normal")
    shape = (3, 3, x.shape[-1], self.channels)
    kernel = self.param("kernel", layers.boxed(init, None, None, *self.names), shape)
    bias = self.param("bias", layers.boxed(nn.initializers.zeros, None), (self.channels,))
    x = jax.lax.conv_general_dilated(x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return nn.relu(x + bias[None, None, None])


class Convolutions(nn.Module):
  """Two convolutions; see `models.backbone.Backbone`."""

  channels: tuple[int, int]
  dtype = jnp.dtype("float32")
  num_layers = 2

  @property
  def levels(self):
    return tuple(Level((2 ** (i + 1),) * 2, channels) for i, channels in enumerate(self.channels))

  @nn.compact
  def __call__(self, images, *, mask=None, mask_token=None, train=False):
    del train
    x = Convolution(self.channels[0], (None, axes.EMBED), name="stage0")(images)
    x = x if mask is None else jnp.where(mask[..., None], mask_token[None, None, None], x)
    y = Convolution(self.channels[1], (axes.EMBED, None), name="stage1")(x)
    return Features(layers.LayerNorm(self.dtype, name="norm")(y), (x, y), {})

  @nn.nowrap
  def flops(self, size, bands):
    positions = [math.prod(level.map_size(size)) for level in self.levels]
    return 2 * 9 * sum(map(math.prod, zip(positions, (bands, *self.channels), self.channels, strict=False)))

  @nn.nowrap
  def layer_of(self, path):
    return {"stage0": 0, "stage1": 1}.get(path.partition("/")[0], self.num_layers)


def restore(settings, dtype="float32", unroll=False, kernel="xla"):
  del dtype, unroll, kernel
  return Convolutions(tuple(settings["convolutions"]["channels"]))


def summarise(settings):
  return Summary("two convolutions", f"channels {', '.join(map(str, settings['convolutions']['channels']))}")


KIND = BackboneKind(
  reads=("convolutions",),
  weights=("convolutions.channels",),
  rules={"convolutions.channels": rules.Items(rules.Whole(1, 64), (2,))},
  check=lambda config: None,
  make=lambda config, device: restore(config),
  restore=restore,
  describe=lambda settings: {"convolutions": {"channels": list(settings["convolutions"]["channels"])}},
  summarise=summarise,
  pixel_kernel="stage0/kernel",
)


def config(kind="finetune", backbone="convolutions", channels=(8, 16), **changes):
  c = tiny.config(kind, optim__lr=0.15, optim__ema_decay=0.9, log__every_steps=20, **changes)
  c.data.update(image_size=(8, 8), batch_size=64)
  c.optim.update(total_epochs=STEPS / STEPS_PER_EPOCH, warmup_epochs=5 / STEPS_PER_EPOCH)
  c.checkpoint.every_epochs = 20 / STEPS_PER_EPOCH
  c.log.eval_every_epochs = 20.0
  with c.unlocked():
    c.model.backbone = backbone
    c.convolutions = ConfigDict(dict(channels=channels))
  return c


# How the package handles it.


@pytest.fixture(scope="module", autouse=True)
def table():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(BACKBONES, "convolutions", KIND)
    yield


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole")
  return workdir, train.train(config(), str(workdir))


@pytest.mark.slow
def test_it_learns(finished):
  assert finished[1]["eval/top1"] > 0.6  # one of ten digits would be right by chance


def test_it_is_evaluated(finished):
  workdir, evaluation = finished
  assert evaluate.evaluate_checkpoint(config(), str(workdir)) == pytest.approx(evaluation, rel=1e-5)


@pytest.mark.slow
def test_stopped_it_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
  asked = iter(range(10**6))
  with monkeypatch.context() as m, pytest.raises(Preempted, match="saved at step 33;"):
    m.setattr(preemption, "requested", lambda: next(asked) >= 33)
    train.train(config(), str(tmp_path))
  train.train(config(), str(tmp_path))
  runs.assert_same(runs.saved(tmp_path, STEPS), runs.saved(finished[0], STEPS))
  assert runs.lines(tmp_path) == runs.lines(finished[0])


@pytest.mark.slow
def test_killed_it_goes_on_bit_for_bit(tmp_path):
  """One process trains a run, and another until it is killed; a second process finishes that one."""
  runs.finish([process(tmp_path)], code=-signal.SIGKILL)
  (output,) = runs.finish([process(tmp_path)])
  assert f"continuing {tmp_path}/killed from step " in output
  runs.assert_same(runs.saved(tmp_path / "killed", STEPS), runs.saved(tmp_path / "whole", STEPS))


def test_it_is_loaded_from_its_workdir_and_from_a_model_folder(finished, tmp_path):
  """Its outputs on the evaluation images reproduce the numbers of the evaluation."""
  workdir, evaluation = finished
  assert weights("adapt", workdir, tmp_path / "slim") == 0
  source, (_, view) = open_source("digits", "", "val"), KINDS["classification"].views(config())
  images = np.stack([view.view(source[i].image, None)["image"] for i in range(len(source))])
  labels = np.array([source[i].label for i in range(len(source))])
  logits = []
  for path in (workdir, tmp_path / "slim"):
    model, params = swin_jax.load(path)
    logits.append(np.asarray(model.apply(params, model.normalise(images))))
  np.testing.assert_array_equal(*logits)
  np.testing.assert_allclose((logits[0].argmax(1) == labels).mean(), evaluation["eval/top1"], atol=1e-6)
  pyramid = model.features(params, model.normalise(images[:2]))
  assert [level.shape for level in pyramid] == [(2, 4, 4, 8), (2, 2, 2, 16)]
  with pytest.raises(BadInput, match="this backbone has no windows"):
    swin_jax.load(workdir, window=4)


def test_its_kernel_is_adapted_to_other_bands(finished, tmp_path):
  """After adaptation to three bands, a grey image repeated in all of them gives the same output as before."""
  assert weights("adapt", finished[0], tmp_path / "three", "--bands=3") == 0
  (grey, old), (colour, new) = swin_jax.load(finished[0]), swin_jax.load(tmp_path / "three")
  image = np.random.default_rng(0).random((1, 8, 8, 1), np.float32)
  wide = colour.apply(new, colour.normalise(np.repeat(image, 3, -1)))
  np.testing.assert_allclose(wide, grey.apply(old, grey.normalise(image)), rtol=1e-4, atol=1e-5)


def test_what_it_lacks_is_refused_and_the_rest_is_shown(finished):
  model, params = swin_jax.load(finished[0])
  image = np.random.default_rng(0).random((8, 8, 1), np.float32)
  with pytest.raises(BadInput, match="two convolutions, which has no attention to show"):
    attention.capture(model, params, image)
  cam = grad_cam(model, params, image, stage=0)
  assert cam.heat.shape == (4, 4) and cam.stride == 2 and cam.heat.max() > 0


@pytest.mark.parametrize("changes", [dict(backbone="swin"), dict(channels=(8, 8))])
def test_another_backbone_does_not_take_its_weights(finished, tmp_path, changes):
  with pytest.raises(BadInput, match="the encoder in init_from is .* give --config"):
    train.train(config(init_from=str(finished[0]), **changes), str(tmp_path / "run"))
  with pytest.raises(BadInput, match="--config"):
    evaluate.evaluate_checkpoint(config(**changes), str(finished[0]))


@pytest.mark.parametrize("task", KINDS)
def test_every_task_takes_it(task):
  dense = dict(dense__sides=(), dense__eval_canvas=(32, 32), dense__photometric=False)
  c = config(task=task, mask__patch_size=4, **dense)
  c.update(segmentation=dict(channels=16, num_classes=2), pixel_regression=dict(channels=16, value_std=1.0))
  c.classification.num_classes = 2
  checks.check(c)
  program = build(c, 1, 1)
  with sharding.trace_on(program.mesh, program.rules):
    state, sums = jax.eval_shape(program.step, program.state, program.batch)
  assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, program.state)
  assert sums["loss"][0].shape == ()


def test_it_is_planned():
  c = config(classification__num_classes=10)
  plan = fit.check(
    fit.ready(c), hardware.parse("h200:8"), analytic=True, patiently=lambda _, function: function()
  )
  forward = 2 * 9 * (4 * 4 * 8 + 2 * 2 * 8 * 16)  # of one band, then of eight
  assert plan["fits"] and plan["flops_per_step"] == 3 * 64 * forward and plan["remat"] == "none"
  assert plan["bytes_per_chip"]["activations"] > 0 and fit.advise(c, hardware.parse("h200:8"), plan)


def test_its_keys_are_its_own():
  reads.check_flags(config(), ["convolutions.channels", "model.backbone"])
  with pytest.raises(BadInput, match="model.backbone=convolutions does not read it; .* reads backbone"):
    reads.check_flags(config(), ["model.depths"])
  with pytest.raises(BadInput, match="model.backbone=swin does not read it"):
    reads.check_flags(config(backbone="swin"), ["convolutions.channels"])
  with pytest.raises(BadInput, match="choose one of 'swin', 'convolutions'"):
    checks.check(config(backbone="vit"))
  with pytest.raises(BadInput, match="must have 2 entries"):
    checks.check(config(channels=(8,)))


def process(folder):
  return runs.command(str(folder), module="tests.toy.test_toy_backbone")


if __name__ == "__main__":
  BACKBONES["convolutions"] = KIND
  killed.train_whole_and_killed(config(), sys.argv[1], KILLED_AT)
