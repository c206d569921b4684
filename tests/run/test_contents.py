"""A run shows what its data hold before it trains."""

import ml_collections
import pytest

from swin_jax.data.read import facts
from swin_jax.run import contents, evaluate, predict, train
from swin_jax.tasks import image_input
from swin_jax.terminal.errors import BadInput
from tests.support import damages, images, seals, tiny
from tests.support.prepared import run


@pytest.fixture(name="out")
def _out(tmp_path):
  """A set of 17 training images whose val has no cat."""
  run(images.make_folder(tmp_path / "in", {"train": 17, "val": 2}), tmp_path / "out")
  return tmp_path / "out"


def config(out, kind="finetune", **changes):
  c = tiny.config(kind, **{"data__source": "array_record", "data__path": str(out), **changes})
  c.data.eval_split = "val"
  return c


def test_shares_and_what_is_strange(out):
  assert contents.describe(config(out)) == [
    f"{out} holds",
    "  train: 17 images; ant (35.3 %), bee (35.3 %), cat (29.4 %)",
    "  val: 2 images; ant (50.0 %), bee (50.0 %), cat (0.0 %)",
    "STRANGE: class cat: no image in val",
  ]


def test_lines_are_short(tmp_path):
  names = [f"{i:03}{'x' * 20}" for i in range(40)]
  run(images.make_folder(tmp_path / "in", {"train": 80}, names), tmp_path / "out")
  lines = contents.describe(config(tmp_path / "out"))
  assert max(map(len, lines[1:])) < 110 and lines[1].endswith(" and 38 more")


def test_a_proposed_size_of_clips_keeps_their_frames():
  config = ml_collections.ConfigDict({"data": {"image_size": (4, 224, 224)}})
  (line,) = image_input.warnings(config, (100, 120))
  assert "data.image_size = (4, 224, 224) enlarges" in line
  assert "give --config.data.image_size=4,128,128" in line


def test_each_mode_begins_with_them(out, tmp_path, capsys):
  last = config(out, data__image_size=(96, 96), data__eval_batch_size=2, optim__total_epochs=1.0)
  last.optim.warmup_epochs = 0.0
  train.train(last, str(tmp_path / "run"))
  lines = capsys.readouterr().out.splitlines()
  compiling = lines.index("compiling the train step ...")
  assert lines.index("STRANGE: class cat: no image in val") < compiling
  height, width = contents.largest_image(last)
  (warning,) = (line for line in lines if "data.image_size = (96, 96) enlarges every training image" in line)
  assert f"{height} × {width} px" in warning and lines.index(warning) < compiling
  for mode in (evaluate.evaluate_checkpoint, predict.predict):
    mode(last, str(tmp_path / "run"))
    lines = capsys.readouterr().out.splitlines()
    start = lines.index(f"{out} holds")
    assert lines[start + 1 : start + 3] == [
      "  val: 2 images; ant (50.0 %), bee (50.0 %), cat (0.0 %)",
      "STRANGE: class cat: no image in val",
    ]


def test_sets_of_older_versions(out):
  (out / facts.NAME).unlink()
  seals.reseal(out)
  (line,) = contents.describe(config(out))
  assert "has no facts.json" in line
  seals.unseal(out)  # said once, of the manifest
  assert contents.describe(config(out)) == []
  assert contents.describe(tiny.config()) == []  # not a prepared set


def test_damaged_facts_are_named(out):
  damages.flip_a_bit(out / facts.NAME)
  with pytest.raises(BadInput, match="facts.json has changed"):
    contents.describe(config(out))
