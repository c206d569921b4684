"""The train step in a whole program, and inputs that are refused."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from swin_jax.data.read import image_ops
from swin_jax.mesh import sharding
from swin_jax.run import config as run_config
from swin_jax.run import train
from swin_jax.run.inputs import open_input
from swin_jax.run.program import build
from swin_jax.terminal.errors import BadInput
from tests.support import tiny
from tests.support.runs import command, saved

ONE_STAGE = dict(model__depths=(2,), model__num_heads=(2,), model__window_sizes=(4,))


@pytest.mark.every_python
@pytest.mark.slow
@pytest.mark.skipif(not image_ops.resizer, reason="Pillow itself resizes here, and rounds otherwise")
def test_one_step_in_numbers():
  """Compares with golden numbers of one step. They may change when the model, initialisation, augmentation or
  recipe is meant to change; then print the new numbers and give the reason in the commit. A refactoring
  changes nothing beyond the last digits.
  """
  config = run_config.resolve(tiny.config(model__depths=(2, 2)), *[tuple("0123456789")] * 2)
  data, program = open_input(config), build(config, 89, 20)
  _, batch = next(data.train(0, program.batch_sharding))
  state = program.init()
  with sharding.trace_on(program.mesh, program.rules):
    state, sums = program.step(state, batch)
  np.testing.assert_allclose(float(sums["loss"][0]), 0.9128929, rtol=1e-5)
  np.testing.assert_allclose(float(sums["grad_norm"][0]), 2.038126, rtol=1e-4)
  np.testing.assert_allclose(float(optax.tree.norm(state.params)), 13.751566, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_accumulation_equals_the_large_batch(task):
  """Random draws per batch (mixing, drop path) are off, so two parts of 8 images must give the result of 16
  at once.
  """
  results = []
  for parts in (1, 2):
    config = tiny.config(
      task, optim__accumulation_steps=parts, model__drop_path_rate=0.0, optim__eps=1.0, **ONE_STAGE
    )
    config = run_config.resolve(config, *[tuple("0123456789")] * 2)
    data, program = open_input(config), build(config, 89, 20)
    _, batch = next(data.train(0, program.batch_sharding))
    state = program.init()
    with sharding.trace_on(program.mesh, program.rules):
      state, sums = program.step(state, batch)
    results.append((state.params, sums["loss"][0] / sums["loss"][1], sums["grad_norm"][0]))
  for one, other in zip(*map(jax.tree.leaves, results), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_step_that_is_not_finite_changes_nothing():
  config = run_config.resolve(tiny.config("finetune", optim__ema_decay=0.9), *[tuple("0123456789")] * 2)
  data, program = open_input(config), build(config, 89, 20)
  _, batch = next(data.train(0, program.batch_sharding))
  state = program.init()
  broken = jax.tree.map(jnp.copy, state)
  broken.params["head"]["bias"] = broken.params["head"]["bias"].at[0].set(jnp.nan)
  before = jax.device_get(broken)
  with sharding.trace_on(program.mesh, program.rules):
    after, sums = program.step(jax.device_put(broken, jax.tree.map(lambda x: x.sharding, state)), batch)
  for name in ("params", "opt_state", "ema"):
    jax.tree.map(np.testing.assert_array_equal, getattr(before, name), jax.device_get(getattr(after, name)))
  assert int(after.step) == 1
  assert np.isnan(sums["loss"][0])


@pytest.mark.slow
def test_a_run_that_diverges_ends_and_keeps_its_checkpoint(tmp_path):
  config = tiny.config(
    optim__lr=100.0,
    optim__weight_decay=10.0,  # multiplies the weights by up to -999 in each step
    optim__warmup_epochs=11 / 89,
    optim__warmup_lr=0.0,
    optim__clip_norm=0.0,
    checkpoint__every_epochs=1 / 89,
  )
  with pytest.raises(
    BadInput, match=r"step \d+: loss .*gradient norm .*its records are in .*nonfinite.jsonl"
  ):
    train.train(config, str(tmp_path))
  records = json.loads((tmp_path / "nonfinite.jsonl").read_text())
  assert len(records["records"]) == 16 and max(records["records"]) < 1437
  steps = sorted(int(p.name) for p in (tmp_path / "checkpoints").glob("*"))
  assert steps
  assert all(np.isfinite(value).all() for value in saved(tmp_path, steps[-1]).values())


@pytest.mark.slow
@pytest.mark.parametrize(
  "change, message",
  [
    (dict(model__num_heads=(3, 4)), r"model.num_heads\[0\] = 3 does not divide the 16 channels"),
    (dict(model__window_sizes=(4,)), "model.window_sizes"),
    (dict(model__window_sizes=(0, 4)), r"model.window_sizes = \(0, 4\): entry 0 must be at least 1"),
    (dict(data__image_size=(2, 2)), "data.image_size"),
    (dict(data__batch_size=5000), "1437 examples"),
    (dict(mask__patch_size=12), "mask.patch_size = 12"),
    (dict(init_from="/nowhere"), "config.init_from: /nowhere holds no checkpoint"),
    (dict(init_from="/nowhere"), "; --config.init_from= starts from scratch"),
    (dict(task="segment"), "config.task = 'segment': choose one of 'classification', 'masked_pixels'"),
    (dict(augment__interpolation="cubic"), "config.augment.interpolation = 'cubic'"),
    (
      dict(transfer__bias_tables="linear"),
      "config.transfer.bias_tables = 'linear': choose one of 'geometric', 'bicubic'",
    ),
    (dict(transfer__bands="first"), "config.transfer.bands = 'first'"),
    (dict(augment__crop_scale=(0.5, 0.2)), "config.augment.crop_scale"),
    (dict(augment__rand_augment_operations=2, data__mean=(0.5,) * 4, data__std=(0.5,) * 4), "1 or 3 bands"),
    (dict(optim__schedule="multistep"), "needs optim.milestone_epochs"),
    (dict(log__every_steps=0), "config.log.every_steps = 0: must be at least 1"),
    (dict(checkpoint__keep_latest=1), "config.checkpoint.keep_latest = 1: must be at least 2"),
    (
      dict(optim__warmup_epochs=30.0),
      "config.optim.warmup_epochs = 30.0 must not be more than optim.total_epochs",
    ),
    (dict(model__drop_path_rate=1.0), "config.model.drop_path_rate"),
    (dict(data__std=(0.0,)), "data.std"),
  ],
)
def test_impossible_numbers_are_named(tmp_path, change, message):
  with pytest.raises(BadInput, match=message):
    train.train(tiny.config(**change), str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize(
  "arguments, message",
  [
    (["--config=configs/nowhere.py", "--workdir=W"], "--config=configs/nowhere.py: no such file"),
    (["--config=configs/quickstart.py:pretrian", "--workdir=W"], "it has :pretrain, :finetune"),
    (
      ["--config=configs/quickstart.py", "--workdir=W", "--config.optim.lrr=1"],
      "no config key config.optim.lrr; did you mean config.optim.lr?",
    ),
    (
      ["--config=configs/quickstart.py", "--workdir=W", "--config.optim.learning_rate=1"],
      "no config key config.optim.learning_rate; ",
    ),
    (
      ["--config=configs/quickstart.py", "--workdir=W", "--config.optimizer.lr=1"],
      "no config key config.optimizer.lr; ",
    ),
    (
      ["--config=configs/quickstart.py", "--workdir=W", "--config.optim.lr=fast"],
      "must be a number, as in --config.optim.lr=0.008",
    ),
    (["--config=configs/quickstart.py", "--workdir=W", "stray"], "'stray' is not a flag"),
    (["--config=configs/quickstart.py", "--workdirr=W"], "did you mean --workdir"),
    (["--config=configs/quickstart.py"], "--workdir is missing"),
    (["--workdir=W"], "--config is missing"),
    (["--config=configs/quickstart.py", "--workdir=/proc/nowhere"], "cannot be written"),
    (
      ["--config=configs/quickstart.py", "--workdir=W", "--mode=test"],
      "--mode: invalid choice: 'test' (choose from",
    ),
  ],
)
def test_a_mistaken_command_line_gets_one_line_and_exit_code_2(tmp_path, arguments, message):
  process = command(
    *(argument.replace("=W", f"={tmp_path}/w") for argument in arguments), JAX_PLATFORMS="cpu"
  )
  output, _ = process.communicate(timeout=120)
  *before, line = output.strip().splitlines()
  assert process.returncode == 2 and line.startswith("swin_jax: ") and message in line, output
  assert not [other for other in before if not other.endswith(": starting ...")], output
