"""Whole runs: the command, resuming, what is written, what is refused."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from PIL import Image
import pytest

from swin_jax import checkpoint
from swin_jax import run_config
from swin_jax import sharding
from swin_jax import train
from swin_jax.data import pipeline
from swin_jax.errors import BadInput
from tests import tiny

ROOT = pathlib.Path(__file__).parents[1]


def saved(workdir, step):
  """Everything a checkpoint holds, as {path: array}."""
  tree = checkpoint.ocp.PyTreeCheckpointer().restore(pathlib.Path(workdir) / "checkpoints" / str(step) / "state")
  return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def assert_same(one, other):
  assert one.keys() == other.keys()
  for path in one:
    np.testing.assert_array_equal(one[path], other[path], err_msg=path)


def lines(workdir, prefix=("train/", "eval/")):
  entries = [json.loads(line) for line in (pathlib.Path(workdir) / "metrics.jsonl").read_text().splitlines()]
  return [{k: v for k, v in entry.items() if k == "step" or k.startswith(prefix)} for entry in entries]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished pre-training run."""
  workdir = tmp_path_factory.mktemp("pretrain")
  train.train(tiny.config(optim__ema_decay=0.9), str(workdir))
  return workdir


def interrupt_after(monkeypatch, batches):
  original = pipeline.Input.train

  def some(self, first, sharding):
    for n, batch in enumerate(original(self, first, sharding)):
      if first + n == batches:
        raise KeyboardInterrupt
      yield batch

  monkeypatch.setattr(pipeline.Input, "train", some)


@pytest.mark.parametrize("stop", [10, 14])
def test_resumed_equals_uninterrupted_bit_for_bit(finished, tmp_path, monkeypatch, stop):
  with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
    interrupt_after(m, stop)
    train.train(tiny.config(optim__ema_decay=0.9), str(tmp_path))
  train.train(tiny.config(optim__ema_decay=0.9), str(tmp_path))
  assert_same(saved(tmp_path, 20), saved(finished, 20))
  assert lines(tmp_path) == lines(finished)


def test_resumed_on_another_mesh_sees_the_same_batches(finished, tmp_path, monkeypatch):
  with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
    interrupt_after(m, 10)
    train.train(tiny.config(optim__ema_decay=0.9), str(tmp_path))
  train.train(tiny.config(optim__ema_decay=0.9, mesh__data=2, mesh__model=2), str(tmp_path))
  one, other = saved(tmp_path, 20), saved(finished, 20)
  for path in one:
    if "params" in path:  # Adam's m / √v turns the last bit of a tiny gradient into a large step: compare loosely here, loss tightly
      np.testing.assert_allclose(one[path], other[path], atol=2e-3, err_msg=path)
  np.testing.assert_allclose(lines(tmp_path)[-1]["eval/loss"], lines(finished)[-1]["eval/loss"], rtol=1e-4)


def test_what_a_run_leaves(finished):
  entries = lines(finished)
  assert [entry["step"] for entry in entries] == [3, 6, 9, 12, 15, 18, 20, 20]
  assert all(set(entry) == {"step", "train/loss", "train/grad_norm", "train/learning_rate"} for entry in entries[:-1])
  assert entries[-1].keys() == {"step", "eval/loss"} and entries[-1]["eval/loss"] < entries[0]["train/loss"]
  assert json.loads((finished / "config.json").read_text())["task"] == "masked_pixels"
  assert list((finished / "tensorboard").glob("events*"))
  picture = Image.open(finished / "pictures" / "reconstruction-0000020.png")
  assert picture.size == (3 * 100, 2 * 100)
  table = (finished / "parameters.txt").read_text()
  assert "encoder/stage0/blocks/block0/attn/qkv/kernel | (1, 16, 48)" in table


def test_one_step_in_numbers():
  """Golden numbers of one step. They may change when the model, initialisation, augmentation or recipe is meant to change; then
  print the new ones and say why in the commit. A refactoring changes nothing beyond the last digits."""
  config = run_config.resolve(tiny.config(), *[tuple("0123456789")] * 2, None)
  data, program = train.open_input(config), train.build(config, 89, 20)
  _, batch = next(data.train(0, program.batch_sharding))
  with sharding.trace_on(program.mesh, program.rules):
    state, sums = program.step(program.init(), batch)
  np.testing.assert_allclose(float(sums["loss"][0]), 0.0, rtol=1e-4)
  np.testing.assert_allclose(float(sums["grad_norm"][0]), 0.0, rtol=1e-3)
  np.testing.assert_allclose(float(optax.tree.norm(state.params)), 0.0, rtol=1e-5)


@pytest.mark.parametrize("task", ["pretrain", "finetune"])
def test_accumulation_equals_the_large_batch(task):
  """Without what is drawn per batch; 4 parts of 16 images, on 4 devices' worth of each."""
  results = []
  for parts in (1, 2):
    config = tiny.config(task, optim__accumulation_steps=parts, model__drop_path_rate=0.0, optim__layer_decay=1.0, optim__eps=1.0)
    config = run_config.resolve(config, *[tuple("0123456789")] * 2, None)
    data, program = train.open_input(config), train.build(config, 89, 20)
    _, batch = next(data.train(0, program.batch_sharding))
    with sharding.trace_on(program.mesh, program.rules):
      state, sums = program.step(program.init(), batch)
    results.append((state.params, sums["loss"][0] / sums["loss"][1], sums["grad_norm"][0]))
  for one, other in zip(*map(jax.tree.leaves, results), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_step_that_is_not_finite_changes_nothing():
  config = run_config.resolve(tiny.config("finetune", optim__ema_decay=0.9), *[tuple("0123456789")] * 2, None)
  data, program = train.open_input(config), train.build(config, 89, 20)
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
  with pytest.raises(BadInput, match=r"step 7: loss nan.*\[3, 4\]"):
    train.check_finite(7, jax.device_get(sums), np.array([3, 4]))


def test_a_run_that_diverges_ends_and_keeps_its_checkpoint(tmp_path):
  config = tiny.config(optim__lr=1e30, optim__warmup_epochs=11 / 89, optim__warmup_lr=0.0, optim__clip_norm=0.0, checkpoint__every_epochs=1 / 89)
  with pytest.raises(BadInput, match="gradient norm"):
    train.train(config, str(tmp_path))
  steps = sorted(int(p.name) for p in (tmp_path / "checkpoints").glob("*"))
  assert steps
  assert all(np.isfinite(value).all() for value in saved(tmp_path, steps[-1]).values())


def test_fine_tuning_starts_from_the_encoder(finished, tmp_path):
  config = tiny.config("finetune", init_from=str(finished), data__image_size=(48, 40), model__window_sizes=(3, 5))
  evaluation = train.train(config, str(tmp_path))
  assert set(evaluation) == {"eval/loss", "eval/top1", "eval/top5"}
  report = (tmp_path / "transfer.txt").read_text()
  assert "  loaded   encoder/stage1/blocks/block1/mlp/fc1/kernel" in report
  assert "  dropped  decoder/kernel" in report and "  dropped  mask_token" in report and "  fresh    head/kernel" in report
  stored = json.loads((tmp_path / "config.json").read_text())
  assert stored["model"]["trained_window_sizes"] == [[4, 4], [4, 4]]
  assert stored["classification"]["num_classes"] == 10
  # Going on needs the other run no more.
  config.init_from = str(finished)
  train.train(config, str(tmp_path))


def test_the_average_is_what_fine_tuning_starts_from(finished):
  saved_parameters = checkpoint.SavedParameters(str(finished))
  path = "encoder/norm/bias"
  config = run_config.resolve(tiny.config(optim__ema_decay=0.9), *[tuple("0123456789")] * 2, None)
  leaf = train.build(config, 89, 20).state.params["encoder"]["norm"]["bias"]
  np.testing.assert_array_equal(saved_parameters.read({path: leaf})[path], saved(finished, 20)["['ema']['encoder']['norm']['bias']"])


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(model__embed_dim=32), r"model.embed_dim \(16 → 32\)"),
        (dict(optim__total_epochs=1.0), "--config.checkpoint.longer_schedule"),
        (dict(seed=1), r"seed \(0 → 1\)"),
        (dict(data__batch_size=32), "data.batch_size"),
    ],
)
def test_another_config_in_the_same_workdir_is_refused(finished, change, message):
  with pytest.raises(BadInput, match=message):
    train.train(tiny.config(optim__ema_decay=0.9, **change), str(finished))


def test_what_may_differ_may(finished):
  config = tiny.config(optim__ema_decay=0.9, mesh__data=2, log__every_steps=1, checkpoint__keep_latest=9, data__num_threads=3, model__unroll=True)
  train.train(config, str(finished))


def test_a_longer_schedule_where_asked_for(finished, tmp_path):
  import shutil

  shutil.copytree(finished, tmp_path / "longer")
  config = tiny.config(optim__ema_decay=0.9, optim__total_epochs=24 / 89, checkpoint__longer_schedule=True)
  train.train(config, str(tmp_path / "longer"))
  assert lines(tmp_path / "longer")[-1]["step"] == 24


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(model__num_heads=(3, 4)), r"model.num_heads\[0\] = 3 does not divide the 16 channels"),
        (dict(model__window_sizes=(4,)), "model.window_sizes"),
        (dict(model__window_sizes=(0, 4)), "at least one token"),
        (dict(data__image_size=(2, 2)), "data.image_size"),
        (dict(data__batch_size=17), "8"),
        (dict(data__batch_size=5000), "1437 examples"),
        (dict(mask__patch_size=12), "mask.patch_size = 12"),
        (dict(mesh__data=3), "does not fit 8 devices"),
        (dict(init_from="/nowhere"), "/nowhere holds no checkpoint"),
        (dict(task="segment"), "config.task = 'segment': there are 'classification', 'masked_pixels'"),
        (dict(augment__interpolation="cubic"), "config.augment.interpolation = 'cubic'"),
        (dict(augment__crop_scale=(0.5, 0.2)), "config.augment.crop_scale"),
        (dict(augment__rand_augment_operations=2, data__mean=(0.5,) * 4, data__std=(0.5,) * 4), "1 or 3 bands"),
        (dict(optim__schedule="multistep"), "needs optim.milestone_epochs"),
        (dict(log__every_steps=0), "config.log.every_steps = 0 must be at least 1"),
    ],
)
def test_impossible_numbers_are_named(tmp_path, change, message):
  with pytest.raises(BadInput, match=message):
    train.train(tiny.config(**change), str(tmp_path))


def run(*arguments, **kwargs):
  command = [sys.executable, "-m", "swin_jax.main", *arguments]
  return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **kwargs)


SMALL = [
    "--config=configs/quickstart.py:pretrain", "--config.model.embed_dim=16", "--config.model.depths=(2,2)", "--config.model.unroll=False",
    "--config.data.batch_size=16", "--config.optim.total_epochs=1.1236", "--config.checkpoint.every_epochs=0.5618",
    "--config.log.num_pictures=2",
]  # fmt: skip


@pytest.mark.slow
def test_a_hundred_steps_equal_fifty_a_kill_and_fifty_more(tmp_path):
  """Two processes against one: XLA on a CPU repeats itself."""
  whole = run(*SMALL, f"--workdir={tmp_path}/whole")
  killed = run(*SMALL, f"--workdir={tmp_path}/killed")
  manifest = tmp_path / "killed" / "checkpoints" / "50" / checkpoint.MANIFEST
  deadline = time.time() + 300
  while not manifest.exists() and killed.poll() is None and time.time() < deadline:
    time.sleep(0.02)
  killed.send_signal(signal.SIGKILL)
  assert killed.wait() == -signal.SIGKILL, "it was killed while it ran"
  assert not (tmp_path / "killed" / "checkpoints" / "100").exists()
  again = run(*SMALL, f"--workdir={tmp_path}/killed")
  output, _ = again.communicate(timeout=300)
  assert again.returncode == 0 and "from step 50" in output, output
  assert whole.communicate(timeout=300) and whole.returncode == 0
  assert_same(saved(tmp_path / "killed", 100), saved(tmp_path / "whole", 100))
  assert lines(tmp_path / "killed") == lines(tmp_path / "whole")


@pytest.mark.slow
def test_eval_mode_prints_what_training_ended_with(finished):
  arguments = ["--config=configs/quickstart.py:pretrain", "--config.model.embed_dim=16", "--config.model.depths=(2,2)",
               "--config.data.eval_batch_size=72", "--config.optim.ema_decay=0.9", "--config.data.batch_size=16"]  # fmt: skip
  process = run(*arguments, f"--workdir={finished}", "--mode=eval")
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  value = float(output.split("eval/loss")[1].split()[0])
  assert value == pytest.approx(lines(finished)[-1]["eval/loss"], abs=1e-3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--config=configs/nowhere.py", "--workdir=W"], "no config file configs/nowhere.py"),
        (["--config=configs/quickstart.py:pretrian", "--workdir=W"], "it has :pretrain, :finetune"),
        (["--config=configs/quickstart.py", "--workdir=W", "--config.optim.lrr=1"], 'no config key config.optim.lrr. Did you mean "lr"'),
        (["--config=configs/quickstart.py", "--workdir=W", "--config.optim.lr=fast"], "could not convert string to float: 'fast'"),
        (["--config=configs/quickstart.py", "--workdir=W", "stray"], "'stray' is no flag"),
        (["--config=configs/quickstart.py", "--workdirr=W"], "did you mean --workdir"),
        (["--config=configs/quickstart.py"], "--workdir is missing"),
        (["--workdir=W"], "--config is missing"),
        (["--config=configs/quickstart.py", "--workdir=/proc/nowhere"], "cannot be written"),
        (["--config=configs/quickstart.py", "--workdir=W", "--mode=test"], "train|eval"),
    ],
)
def test_a_mistaken_command_line_gets_one_line_and_exit_code_2(tmp_path, arguments, message):
  process = run(*(argument.replace("=W", f"={tmp_path}/w") for argument in arguments), env=os.environ | {"JAX_PLATFORMS": "cpu"})
  output, _ = process.communicate(timeout=120)
  assert process.returncode == 2 and message in output and len(output.strip().splitlines()) == 1, output
