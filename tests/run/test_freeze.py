"""A frozen encoder (`optim.freeze_encoder`): its parameters and average stay, it has no optimizer state, and
nothing is dropped in it.
"""

import dataclasses

import jax
import numpy as np
import pytest

from swin_jax.mesh import sharding
from swin_jax.run import config as run_config
from swin_jax.run import train
from swin_jax.run.program import build
from swin_jax.terminal import preemption
from swin_jax.terminal.errors import Preempted
from tests.support import tiny
from tests.support.runs import assert_same, saved

pytestmark = pytest.mark.devices(8)

TEN = [tuple("0123456789")] * 2


def config(**changes):
  c = tiny.config("finetune", optim__freeze_encoder=True, optim__ema_decay=0.5, **changes)
  c.optim.update(total_epochs=6 / 89, warmup_epochs=0.0)
  c.checkpoint.every_epochs = 3 / 89
  return c


def of(state, tree, part):
  return {path: value for path, value in state.items() if path.startswith(f"['{tree}']['{part}']")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  workdir = tmp_path_factory.mktemp("finished")
  train.train(config(), str(workdir))
  return workdir


def test_only_the_head_changes(finished):
  first, last = saved(finished, 3), saved(finished, 6)
  for tree in ("params", "ema"):
    assert of(first, tree, "encoder") and of(first, tree, "head")
    assert_same(of(first, tree, "encoder"), of(last, tree, "encoder"))
    for path, value in of(first, tree, "head").items():
      assert not np.array_equal(value, last[path]), path
  assert_same(
    {path.removeprefix("['ema']"): value for path, value in of(last, "ema", "encoder").items()},
    {path.removeprefix("['params']"): value for path, value in of(last, "params", "encoder").items()},
  )


def test_the_encoder_has_no_optimizer_state(finished):
  state = saved(finished, 6)
  assert not [path for path in state if "opt_state" in path and "encoder" in path]
  assert [path for path in state if "opt_state" in path and "head" in path]
  rows = (finished / "parameters.txt").read_text().splitlines()
  assert all(row.endswith("frozen") == row.startswith("encoder/") for row in rows[1:])


def test_a_resumed_run_equals_one_that_was_not_interrupted(finished, tmp_path):
  requested = iter([False] * 5)
  with pytest.MonkeyPatch.context() as patch, pytest.raises(Preempted):
    patch.setattr(preemption, "requested", lambda: next(requested, True))
    train.train(config(), str(tmp_path))
  train.train(config(), str(tmp_path))
  assert_same(saved(finished, 6), saved(tmp_path, 6))


def test_parameters_and_moments_are_sharded_as_ever():
  c = config(mesh__fsdp=4, mesh__data=2)
  frozen = build(run_config.resolve(c, *TEN), 89, 6).state
  c.optim.freeze_encoder = False
  trained = build(run_config.resolve(c, *TEN), 89, 6).state
  places = lambda tree: jax.tree.map(lambda leaf: leaf.sharding.spec, tree)
  assert places(frozen.params) == places(trained.params)
  moments, all_moments = frozen.opt_state[1].mu, trained.opt_state[1].mu
  assert moments.keys() == {"head"} and places(moments["head"]) == places(all_moments["head"])


def test_nothing_is_dropped_in_the_encoder():
  """Two steps on the same batch with other random numbers have the same loss; they differ where it is
  trained.
  """
  for frozen in (True, False):
    c = config(model__drop_path_rate=0.5, classification__label_smoothing=0.0)
    c.optim.update(freeze_encoder=frozen, lr=0.0, warmup_lr=0.0, min_lr=0.0)
    program = build(run_config.resolve(c, *TEN), 89, 6)
    batch = {
      name: jax.device_put(np.ones(leaf.shape, leaf.dtype), leaf.sharding)
      for name, leaf in program.batch.items()
    }
    with sharding.trace_on(program.mesh, program.rules):
      state, losses = program.init(), []
      # residual branches of new models are 0
      params = jax.tree.map(lambda x: x + 0.1, state.params)
      state = dataclasses.replace(state, params=params)
      for _ in range(2):
        state, sums = program.step(state, batch)
        losses.append(float(sums["loss"][0]))
    assert (losses[0] == losses[1]) == frozen


def test_flops_of_a_step_count_no_backward_pass_of_the_encoder():
  c = config()
  program = build(run_config.resolve(c, *TEN), 89, 6)
  encoder = program.task.model.encoder.flops(c.data.image_size, 1)
  assert program.train_flops == 3 * program.flops - 2 * encoder
