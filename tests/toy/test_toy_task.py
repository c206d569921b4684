"""A task that no file of the package knows: the share of bright pixels of an image.

The test registers it in the table of tasks and its group in a copy of the config. Runs then train, stop, are
killed and resume, and models are evaluated, loaded, adapted and planned, as with any other task.
"""

import dataclasses
import signal
import sys

import jax.numpy as jnp
from ml_collections import ConfigDict
import numpy as np
import pytest

import swin_jax
from swin_jax.data.read.targets import Target
from swin_jax.data.view.views import ImageView
from swin_jax.mesh import hardware
from swin_jax.models.heads import Classifier
from swin_jax.ops import mixing
from swin_jax.plan import report as fit
from swin_jax.run import evaluate, reads, train
from swin_jax.tasks import KINDS, image_input
from swin_jax.tasks.task import Measured, Outputs, Task, TaskKind, normalised
from swin_jax.terminal import preemption, rules
from swin_jax.terminal.errors import BadInput, Preempted
from tests.support import killed, runs, tiny
from tests.support.folders import command as weights
from tests.support.opened import open_source

pytestmark = pytest.mark.devices(8)  # the planned slice

STEPS, KILLED_AT = 80, 45  # saved every 20 steps


# The task.


@dataclasses.dataclass(frozen=True)
class WithShare:
  """View of an example: the image's view, plus its share of bright pixels as "share"."""

  view: ImageView

  def __call__(self, example, rng):
    fields = self.view(example.image, rng)
    return fields | {"share": np.float32((fields["image"] > 127).mean())}


def make(backbone, config):
  model, typical = module(backbone, config), config.bright_pixels.typical
  normalise = lambda batch: mixing.normalise(batch["image"], config.data.mean, config.data.std)

  def init(rng, batch):
    return model.init(rng, normalise(batch))["params"]

  def loss(params, batch, rng):
    out, losses = model.apply({"params": params}, normalise(batch), train=True, rngs={"dropout": rng})
    value = jnp.mean(jnp.abs(typical + out[:, 0] - batch["share"]))
    return value, {"loss": (value, jnp.ones(()))}, losses

  def measure(params, batch):
    """Returns the error, and the error relative to that of always predicting the typical share: 1 is chance
    level.
    """
    out, weight = model.apply({"params": params}, normalise(batch))[:, 0], batch["weight"]
    error, chance = (jnp.sum(jnp.abs(typical + x - batch["share"]) * weight) for x in (out, 0.0))
    return Measured({"loss": (error, jnp.sum(weight)), "relative_error": (error, chance)})

  prepare = normalised(config.data.mean, config.data.std)
  return Task(model, init, prepare, loss, measure, backbone.flops)


def module(backbone, settings):
  del settings
  return Classifier(backbone, 1)


KIND = TaskKind(
  needs=Target.NOTHING,
  group="bright_pixels",
  reads=("bright_pixels", *image_input.READS),
  fields=lambda config: image_input.fields(config) | {"share": ((), jnp.float32)},
  views=lambda config: tuple(map(WithShare, image_input.image_views(config))),
  augment=image_input.augment,
  rules={**image_input.RULES, "bright_pixels.typical": rules.Real(0, 1)},
  check=image_input.check,
  module=module,
  make=make,
  metrics=lambda settings: {"relative_error": False, "loss": False},
  describe={"bright_pixels": ("typical",)},
  outputs=lambda settings: Outputs("share", lambda out: settings["bright_pixels"]["typical"] + out[:, 0]),
  summarise=lambda settings: "share of bright pixels",
)


def config(task="bright_pixels"):
  c = tiny.config(
    optim__total_epochs=STEPS / 89,
    optim__lr=0.3,
    checkpoint__every_epochs=20 / 89,
    log__every_steps=20,
    optim__ema_decay=0.9,
    model__depths=(1,),
    model__num_heads=(2,),
    model__window_sizes=(4,),
    augment__crop_scale=(0.9, 1.0),
  )
  with c.unlocked():
    c.task = task
    c.bright_pixels = ConfigDict(dict(typical=0.31))
  return c


# How the package handles it.


@pytest.fixture(scope="module", autouse=True)
def table():
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(KINDS, "bright_pixels", KIND)
    yield


@pytest.fixture(scope="module")
def finished(table, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("whole")
  return workdir, train.train(config(), str(workdir))


@pytest.mark.slow
def test_it_learns(finished):
  assert finished[1]["eval/relative_error"] < 0.7


def test_it_is_evaluated(finished):
  workdir, evaluation = finished
  assert evaluate.evaluate_checkpoint(config(), str(workdir)) == pytest.approx(evaluation, rel=1e-5)


@pytest.mark.slow
def test_stopped_it_goes_on_bit_for_bit(finished, tmp_path, monkeypatch):
  asked = iter(range(10**6))
  with monkeypatch.context() as m, pytest.raises(Preempted, match="saved at step 17;"):
    m.setattr(preemption, "requested", lambda: next(asked) >= 17)
    train.train(config(), str(tmp_path))
  train.train(config(), str(tmp_path))
  runs.assert_same(runs.saved(tmp_path, STEPS), runs.saved(finished[0], STEPS))
  assert runs.lines(tmp_path) == runs.lines(finished[0])


@pytest.mark.slow
def test_killed_it_goes_on_bit_for_bit(tmp_path):
  """One process trains a run to its end and another run until it is killed; a second process finishes the
  latter.
  """
  runs.finish([process(tmp_path)], code=-signal.SIGKILL)
  (output,) = runs.finish([process(tmp_path)])
  assert f"continuing {tmp_path}/killed from step " in output
  runs.assert_same(runs.saved(tmp_path / "killed", STEPS), runs.saved(tmp_path / "whole", STEPS))


def test_it_is_loaded_from_its_workdir_and_from_a_model_folder(finished, tmp_path):
  """Its outputs on the evaluation images reproduce the numbers of the evaluation."""
  workdir, evaluation = finished
  assert weights("adapt", workdir, tmp_path / "slim") == 0
  source, (_, view) = open_source("digits", "", "val"), KIND.views(config())
  fields = [view(source[i], None) for i in range(len(source))]
  images, shares = (np.stack([each[name] for each in fields]) for name in ("image", "share"))
  answers = []
  for path in (workdir, tmp_path / "slim"):
    model, params = swin_jax.load(path)
    answers.append(np.asarray(model.apply(params, model.normalise(images))))
  np.testing.assert_array_equal(*answers)
  error = np.abs(answers[0] - shares).sum() / np.abs(shares - 0.31).sum()
  np.testing.assert_allclose(error, evaluation["eval/relative_error"], rtol=1e-4)


def test_it_is_planned():
  plan = fit.check(
    fit.ready(config()), hardware.parse("h200:8"), analytic=True, patiently=lambda _, function: function()
  )
  assert plan["fits"] and plan["flops_per_step"] > 0 and plan["bytes_per_chip"]["activations"] > 0


def test_its_keys_are_its_own():
  reads.check_flags(config(), ["bright_pixels.typical", "augment.crop_scale"])
  with pytest.raises(BadInput, match="task=bright_pixels does not read it"):
    reads.check_flags(config(), ["classification.mixup_alpha"])
  with pytest.raises(BadInput, match="task=classification does not read it"):
    reads.check_flags(config("classification"), ["bright_pixels.typical"])


def process(folder):
  return runs.command(str(folder), module="tests.toy.test_toy_task")


if __name__ == "__main__":
  KINDS["bright_pixels"] = KIND
  killed.train_whole_and_killed(config(), sys.argv[1], KILLED_AT)
