"""A resumed run equals one that was never interrupted; and what another run may inherit from it."""

import json
import shutil
import sys

import numpy as np
from PIL import Image
import pytest

from swin_jax.data.feed import pipeline
from swin_jax.run import compatibility, evaluate, train
from swin_jax.run import config as run_config
from swin_jax.run.program import build
from swin_jax.saved import checkpoint, description, parameters
from swin_jax.terminal import preemption
from swin_jax.terminal.errors import BadInput, Preempted
from tests.support import tiny
from tests.support.runs import command, lines, saved

pytestmark = pytest.mark.devices(8)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """Trains a pre-training run to its end."""
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


@pytest.mark.every_python
@pytest.mark.slow
def test_what_a_run_leaves(finished):
  entries = lines(finished)
  assert [entry["step"] for entry in entries] == [3, 6, 9, 12, 15, 18, 20, 20]
  assert all(
    set(entry) == {"step", "train/loss", "train/grad_norm", "train/learning_rate"} for entry in entries[:-1]
  )
  assert entries[-1].keys() == {"step", "eval/loss"} and entries[-1]["eval/loss"] < entries[0]["train/loss"]
  assert json.loads((finished / "config.json").read_text())["task"] == "masked_pixels"
  assert list((finished / "tensorboard").glob("events*"))
  picture = Image.open(finished / "pictures" / "reconstruction-0000020.png")
  assert picture.size == (3 * 100, 2 * 100 + 2 * 18)  # the step and the titles are two lines
  table = (finished / "parameters.txt").read_text()
  assert "encoder/stage0/blocks/block0/attn/qkv/kernel | (1, 16, 48)" in table


@pytest.mark.slow
def test_resumed_on_another_mesh_sees_the_same_batches(finished, tmp_path, monkeypatch):
  with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
    interrupt_after(m, 10)
    train.train(tiny.config(optim__ema_decay=0.9), str(tmp_path))
  train.train(tiny.config(optim__ema_decay=0.9, mesh__data=2, mesh__model=2), str(tmp_path))
  one, other = saved(tmp_path, 20), saved(finished, 20)
  for path in one:
    # Adam's m / √v turns the last bit of a tiny gradient into a large step: compare parameters loosely,
    # losses tightly
    if "params" in path:
      np.testing.assert_allclose(one[path], other[path], atol=2e-3, err_msg=path)
  np.testing.assert_allclose(lines(tmp_path)[-1]["eval/loss"], lines(finished)[-1]["eval/loss"], rtol=1e-4)


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
  config = tiny.config(
    optim__ema_decay=0.9,
    mesh__data=2,
    log__every_steps=1,
    checkpoint__keep_latest=9,
    data__num_threads=3,
    model__unroll=True,
  )
  train.train(config, str(finished))


@pytest.mark.slow
def test_a_longer_schedule_where_asked_for(finished, tmp_path):
  shutil.copytree(finished, tmp_path / "longer")
  config = tiny.config(optim__ema_decay=0.9, optim__total_epochs=24 / 89, checkpoint__longer_schedule=True)
  train.train(config, str(tmp_path / "longer"))
  assert lines(tmp_path / "longer")[-1]["step"] == 24


@pytest.mark.slow
def test_fine_tuning_starts_from_the_encoder(finished, tmp_path):
  config = tiny.config(
    "finetune", init_from=str(finished), data__image_size=(48, 40), model__window_sizes=(3, 5)
  )
  evaluation = train.train(config, str(tmp_path))
  ranking = {"eval/auroc", "eval/average_precision"}
  assert set(evaluation) == {"eval/loss", "eval/top1", "eval/top5", "eval/majority_share"} | ranking
  report = (tmp_path / "transfer.txt").read_text()
  assert "  loaded   encoder/stage1/blocks/block0/mlp/fc1/kernel" in report
  assert (
    "  dropped  decoder/kernel" in report
    and "  dropped  mask_token" in report
    and "  fresh    head/kernel" in report
  )
  stored = json.loads((tmp_path / "config.json").read_text())
  assert stored["model"]["trained_window_sizes"] == [[4, 4], [4, 4]]
  assert stored["classification"]["num_classes"] == 10 and stored["data"]["class_names"] == list("0123456789")
  # Resuming no longer needs the other run.
  finished.rename(finished.with_name("moved"))
  try:
    train.train(config, str(tmp_path))
  finally:
    finished.with_name("moved").rename(finished)


def test_the_average_is_what_fine_tuning_starts_from(finished):
  saved_parameters = parameters.SavedParameters(str(finished))
  path = "encoder/norm/bias"
  config = run_config.resolve(tiny.config(optim__ema_decay=0.9), *[tuple("0123456789")] * 2)
  leaf = build(config, 89, 20).state.params["encoder"]["norm"]["bias"]
  np.testing.assert_array_equal(
    saved_parameters.read({path: leaf})[path], saved(finished, 20)["['ema']['encoder']['norm']['bias']"]
  )


def test_trained_windows_that_contradict_the_other_run_are_refused(finished, tmp_path):
  config = tiny.config("finetune", init_from=str(finished), model__trained_window_sizes=(2, 2))
  with pytest.raises(BadInput, match="the weights were trained with"):
    train.train(config, str(tmp_path))


@pytest.mark.slow
def test_another_number_of_images_is_refused(finished, monkeypatch):
  monkeypatch.setattr("swin_jax.data.read.digits.Digits.__len__", lambda self: 1400)
  with pytest.raises(BadInput, match="trained on 1437 examples"):
    config = tiny.config(
      optim__ema_decay=0.9,
      optim__total_epochs=20 / 87,
      optim__warmup_epochs=5 / 89,
      checkpoint__longer_schedule=True,
    )
    train.train(config, str(finished))


def test_another_number_of_parts_may_go_on(finished):
  config = tiny.config(optim__ema_decay=0.9, optim__accumulation_steps=2)
  compatibility.check_same_run(config, checkpoint.stored_config(str(finished)), str(finished))


def test_names_of_classes_must_stay_and_runs_from_before_they_were_kept_go_on(finished, monkeypatch):
  config, stored = tiny.config(optim__ema_decay=0.9), checkpoint.stored_config(str(finished))
  stored["data"]["class_names"] = ["cat", "dog"]
  with pytest.raises(BadInput, match=r"another config: data.class_names \(\['cat', 'dog'\] → \[\]\)"):
    compatibility.check_same_run(config, stored, str(finished))
  del stored["data"]["class_names"]
  compatibility.check_same_run(config, stored, str(finished))
  assert description.describe(stored, "an old run")["data"]["class_names"] == []
  younger = {"data": ["dtype"], "augment": ["rotate"], "log": ["picture_bands"]}
  younger["transfer"] = list(stored["transfer"])
  younger["model"] = ["backbone", "merge_size", "clamp_windows", "clamp_axes", "padding", "bias_rows"]
  for group, keys in younger.items():
    for key in keys:
      del stored[group][key]
  monkeypatch.setitem(sys.modules, "configs", None)  # an installed swin_jax comes without this folder
  monkeypatch.setitem(sys.modules, "configs.common", None)
  compatibility.check_same_run(config, stored, str(finished))
  for group, key, value in (("augment", "rotate", True), ("model", "padding", "attended")):
    other = tiny.config(optim__ema_decay=0.9, **{f"{group}__{key}": value})
    with pytest.raises(BadInput, match=rf"another config: {group}\.{key} \(.* → {value}\)"):
      compatibility.check_same_run(other, stored, str(finished))
  compatibility.check_same_model(config, stored, str(finished))
  described = description.describe(stored, "an old run")
  assert described["data"]["dtype"] == "uint8"
  assert [described["model"][key] for key in younger["model"]] == [
    "swin",
    [2, 2],
    True,
    "each",
    "masked",
    "offsets",
  ]


@pytest.mark.parametrize(
  "key, value", [("padding", "attended"), ("clamp_windows", False), ("merge_size", (1, 2))]
)
def test_weights_are_not_evaluated_as_another_function(finished, key, value):
  stored = checkpoint.stored_config(str(finished))
  config = tiny.config(optim__ema_decay=0.9, **{f"model__{key}": value})
  with pytest.raises(BadInput, match=rf"model\.{key} .*--config\.model\.{key}="):
    compatibility.check_same_model(config, stored, str(finished))


def test_a_schedule_that_ends_before_the_checkpoint_is_refused(finished):
  config = tiny.config(optim__ema_decay=0.9, optim__total_epochs=8 / 89, checkpoint__longer_schedule=True)
  with pytest.raises(BadInput, match=r"is at step \d+, but optim.total_epochs = .* ends at step 8"):
    train.train(config, str(finished))


def test_an_evaluation_can_be_stopped(finished, monkeypatch):
  monkeypatch.setattr(preemption, "requested", lambda: True)
  with pytest.raises(Preempted, match="stopped while evaluating"):
    evaluate.evaluate_checkpoint(tiny.config(), str(finished))


@pytest.mark.parametrize(
  "change, flag",
  [
    (dict(data__mean=(0.5,)), "--config.data.mean=0.3,$"),
    (dict(masked_pixels__target_norm_window=5), "--config.masked_pixels.target_norm_window=0$"),
    (dict(model__depths=(2, 4)), "--config.model.depths=1,1$"),
  ],
)
def test_evaluation_under_another_meaning_is_refused(finished, change, flag):
  with pytest.raises(BadInput, match=f"was trained with another config.*; to use the original give {flag}"):
    evaluate.evaluate_checkpoint(tiny.config(**change), str(finished))


def test_evaluation_at_another_window_knows_the_trained_one(finished, monkeypatch):
  built = []
  original = evaluate.build
  monkeypatch.setattr(
    evaluate,
    "build",
    lambda config, *args, **kwargs: built.append(config) or original(config, *args, **kwargs),
  )
  values = evaluate.evaluate_checkpoint(tiny.config(model__window_sizes=(8, 8)), str(finished))
  assert built[0].model.trained_window_sizes == ((4, 4), (4, 4))
  assert values["eval/loss"] < 2 * lines(finished)[-1]["eval/loss"]


@pytest.mark.slow
def test_eval_mode_prints_what_training_ended_with(finished):
  arguments = [
    "--config=configs/quickstart.py:pretrain",
    "--config.model.embed_dim=16",
    "--config.model.depths=(1,1)",
    "--config.data.eval_batch_size=72",
    "--config.optim.ema_decay=0.9",
    "--config.data.batch_size=16",
  ]
  process = command(*arguments, f"--workdir={finished}", "--mode=eval")
  output, _ = process.communicate(timeout=300)
  assert process.returncode == 0, output
  value = float(output.split("eval/loss")[1].split()[0])
  assert value == pytest.approx(lines(finished)[-1]["eval/loss"], abs=1e-3)
