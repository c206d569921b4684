"""A run and a model folder written by an older version (commit 1ae6da2) load, evaluate and continue.

tests/golden/old_run.tar.xz holds the workdir of a small quickstart:finetune after 4 of its steps, the model
folder that `weights adapt` made from it, and the results of that version: expected.npz has the outputs of
`swin_jax.load`, and expected.json has the evaluation after 4 steps and the log of steps 5 to 8.
"""

import json
import shutil
import tarfile

import numpy as np
import pytest

from configs import quickstart
import swin_jax
from swin_jax.run import evaluate, stored, train
from swin_jax.terminal.errors import BadInput
from tests.support import runs
from tests.support.paths import SMALL_GOLDEN

STEPS_PER_EPOCH = 1437 // 128


def config(steps):
  c = quickstart.get_config("finetune")
  c.init_from = ""
  c.model.update(embed_dim=8, depths=(2, 1), num_heads=(1, 2), unroll=False)
  c.optim.update(total_epochs=steps / STEPS_PER_EPOCH, warmup_epochs=2 / STEPS_PER_EPOCH)
  c.checkpoint.update(every_epochs=4 / STEPS_PER_EPOCH, longer_schedule=True)
  c.log.update(every_steps=1, eval_every_epochs=20.0)
  return c


@pytest.fixture(scope="module")
def old(tmp_path_factory):
  folder = tmp_path_factory.mktemp("old")
  with tarfile.open(SMALL_GOLDEN / "old_run.tar.xz") as archive:
    archive.extractall(folder, filter="data")
  return folder


@pytest.fixture(scope="module")
def expected(old):
  return json.loads((old / "expected.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("source", ["workdir", "model"])
def test_it_loads_and_gives_the_same_outputs(old, source, capsys):
  model, params = swin_jax.load(old / source)
  said = capsys.readouterr().out
  assert said.count("\n") == said.count(f"{old / source} has no digests") == (source == "model")
  images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 1), np.uint8)
  outputs = np.load(old / "expected.npz")
  logits = np.asarray(model.apply(params, model.normalise(images)))
  np.testing.assert_allclose(logits, outputs["logits"], atol=1e-5 * np.abs(outputs["logits"]).max())
  for stage, level in enumerate(model.features(params, model.normalise(images))):
    reference = outputs[f"stage{stage}"]
    np.testing.assert_allclose(level, reference, atol=1e-5 * np.abs(reference).max())


@pytest.mark.parametrize("source", ["workdir", "model"])
def test_it_is_evaluated(old, expected, source):
  values = evaluate.evaluate_checkpoint(config(4), str(old / source))
  reference = expected["evaluation"]
  assert {name: values[name] for name in reference} == pytest.approx(reference, rel=1e-4)


@pytest.mark.slow
def test_it_goes_on(old, expected, tmp_path):
  workdir = shutil.copytree(old / "workdir", tmp_path / "run")
  train.train(config(8), str(workdir))
  log = {line["step"]: line for line in runs.lines(workdir, "train/") if len(line) > 1}
  for line in expected["log"]:
    assert log[line["step"]] == pytest.approx(line, rel=1e-3)
  assert sorted(log) == list(range(1, 9))


def test_its_own_config_evaluates_it(old):
  """Keys that did not exist then have the values that were in effect."""
  own = stored.config_of(str(old / "workdir"))
  assert own.data.fit_to_set is False and own.optim.total_steps == 0
  assert own.model.embed_dim == 8 and own.model.depths == (2, 1) and own.data.class_names == ()
  with pytest.raises(BadInput, match="holds a model, not a run: this mode also needs --config=FILE"):
    stored.config_of(str(old / "model"))
