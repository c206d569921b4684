"""`python -m swin_jax.predict`: what evaluation sees, for any files, whatever interrupts it."""

import csv
import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

import swin_jax
from swin_jax.predict import __main__ as command
from swin_jax.predict import inputs, ledger
from swin_jax.run import evaluate, train
from tests.support import tiny
from tests.support.folders import command as weights

pytestmark = pytest.mark.devices(2)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
  """Returns a folder with val/CLASS/*.png: 29 grey images of several sizes."""
  root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
  for i in range(29):
    path = root / "val" / f"c{i % 3}" / f"{i:02}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (30 + i, 41), np.uint8)).save(path)
  return root


@pytest.fixture(scope="module")
def run(tmp_path_factory, photos):
  """Returns the workdir of a classifier whose evaluation crops and resizes."""
  workdir = str(tmp_path_factory.mktemp("run") / "run")
  shutil.copytree(photos / "val", photos / "train")
  train.train(config(photos), workdir)
  return workdir


def config(photos):
  c = tiny.config("finetune", augment__eval_crop_fraction=0.7, augment__interpolation="bilinear")
  c.data.update(source="folder", path=str(photos), batch_size=8, eval_batch_size=8)
  c.optim.update(total_steps=6, warmup_epochs=0.5)
  return c


def predict(*words):
  return command.main(["predict", *map(str, words)])


def contents(folder):
  return {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def rows(path):
  with open(path, newline="") as file:
    return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def answered(run, photos, tmp_path_factory):
  """Returns the folder of an uninterrupted prediction."""
  out = tmp_path_factory.mktemp("answered") / "out"
  assert predict(run, photos / "val", f"--out={out}", "--batch_size=4") == 0
  return out


def test_it_has_the_accuracy_of_an_evaluation_to_the_last_image(run, photos, answered):
  values = evaluate.evaluate_checkpoint(config(photos), run)
  table = rows(answered / "predictions.csv")
  assert len(table) == 29
  right = sum(row["class"] == row["path"].split("/")[0] for row in table)
  assert values["eval/top1"] == pytest.approx(right / 29) and len({row["class"] for row in table}) > 1


def test_preprocess_gives_python_users_the_same_logits(run, photos, answered):
  model, params = swin_jax.load(run)
  for line in (answered / "predictions.jsonl").read_text().splitlines()[::7]:
    line = json.loads(line)
    path = photos / "val" / line["path"]
    image = Image.open(path)
    probabilities = []
    for given in (path, str(path), np.asarray(image), image):
      logits = model.apply(params, jnp.asarray(model.preprocess(given))[None])[0]
      probabilities.append(np.asarray(jax.nn.softmax(logits)))
    order = np.argsort(-probabilities[0], kind="stable")
    assert [model.class_name(label) for label in order] == line["classes"]
    for each in probabilities:
      np.testing.assert_allclose(each[order], line["probabilities"], atol=1e-5)


def test_the_most_probable_classes_come_first(run, photos, tmp_path, answered):
  assert predict(run, photos / "val", f"--out={tmp_path / 'out'}", "--top=2") == 0
  (header, *table) = (tmp_path / "out/predictions.csv").read_text().splitlines()
  assert header == "path,class,probability,class_2,probability_2"
  for row, line in zip(
    rows(tmp_path / "out/predictions.csv"), rows(answered / "predictions.csv"), strict=True
  ):
    assert (row["path"], row["class"], row["class_2"]) == (line["path"], line["class"], line["class_2"])
    assert float(row["probability"]) >= float(row["probability_2"])


class Stopped(Exception):
  pass


def stop_after(monkeypatch, images):
  """Makes the command stop without a word, as if killed, after it has written a batch."""
  write = ledger.Ledger.write

  def until(self, name, text):
    write(self, name, text)
    if self.next >= images:
      raise Stopped

  monkeypatch.setattr(ledger.Ledger, "write", until)


@pytest.mark.parametrize("after, features", [(12, ""), (28, ""), (12, "pooled")])
def test_a_killed_command_goes_on_to_the_same_bytes(
  run, photos, tmp_path, monkeypatch, answered, after, features
):
  words = (
    run,
    photos / "val",
    f"--out={tmp_path / 'out'}",
    "--batch_size=4",
    *([f"--features={features}"] * bool(features)),
  )
  monkeypatch.setattr(ledger, "SECONDS_BETWEEN_COMMITS", 0)
  with monkeypatch.context() as patch:
    stop_after(patch, after)
    patch.setattr(command.cli, "exit_code", lambda body: body())
    with pytest.raises(Stopped):
      predict(*words)
  assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["unfinished"]
  began, read = [], inputs.Images.read
  monkeypatch.setattr(inputs.Images, "read", lambda self, i, *rest: began.append(i) or read(self, i, *rest))
  assert predict(*words) == 0
  assert min(began) == after
  if features:
    assert predict(*words[:2], f"--out={tmp_path / 'whole'}", *words[3:]) == 0
  assert contents(tmp_path / "out") == contents(tmp_path / "whole" if features else answered)


@pytest.mark.parametrize("place", ["finish", "_move"])
def test_a_command_killed_at_its_end_is_finished_by_the_next(
  run, photos, tmp_path, monkeypatch, answered, place
):
  words = (run, photos / "val", f"--out={tmp_path / 'out'}", "--batch_size=4")
  monkeypatch.setattr(ledger, "SECONDS_BETWEEN_COMMITS", 0)

  def die(self):
    raise Stopped

  with monkeypatch.context() as patch:
    patch.setattr(ledger.Ledger, place, die)
    patch.setattr(command.cli, "exit_code", lambda body: body())
    with pytest.raises(Stopped):
      predict(*words)
  assert predict(*words) == 0
  assert contents(tmp_path / "out") == contents(answered)


def test_a_signal_stops_it_between_two_batches(run, photos, tmp_path, monkeypatch, answered, capsys):
  words = (run, photos / "val", f"--out={tmp_path / 'out'}", "--batch_size=4")
  write = ledger.Ledger.write

  def signalled(self, name, text):
    write(self, name, text)
    if self.next == 8 and name == "predictions.csv":
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(ledger.Ledger, "write", signalled)
    assert predict(*words) == 75
  assert "of 29 images; the same command goes on from there" in capsys.readouterr().err
  assert predict(*words) == 0
  assert contents(tmp_path / "out") == contents(answered)


def refused(capsys, *words):
  capsys.readouterr()
  assert predict(*words) == 2
  (line,) = capsys.readouterr().err.splitlines()
  return line


def test_other_predictions_in_the_folder_are_refused(run, photos, answered, tmp_path, capsys):
  before = contents(answered)
  folder = photos / "val"
  assert "made with --top=5 --batch_size=4" in refused(capsys, run, folder, f"--out={answered}")
  some = (folder / "c0", f"--out={answered}", "--batch_size=4")
  assert "of other files (29 images)" in refused(capsys, run, *some)
  other = tmp_path / "other"
  assert weights("adapt", run, other, "--window=2") == 0
  line = refused(capsys, other, folder, f"--out={answered}", "--batch_size=4")
  assert "of another model" in line and run in line
  assert "holds other files" in refused(capsys, run, folder, f"--out={folder}")
  assert contents(answered) == before
  assert predict(run, folder, f"--out={answered}", "--batch_size=4") == 0  # finished already
  assert contents(answered) == before


def test_bad_files_are_named_and_counted_and_the_others_answered(run, photos, tmp_path, capsys, answered):
  shutil.copytree(photos / "val", tmp_path / "set")
  (tmp_path / "set/c0/03.png").write_bytes(b"no image")
  np.save(tmp_path / "set/c0/zz.npy", np.zeros((2, 9, 9, 4), np.uint8))
  (tmp_path / "set/notes.txt").write_text("")
  (tmp_path / "set/.hidden.png").write_text("")
  assert predict(run, tmp_path / "set", f"--out={tmp_path / 'out'}", "--batch_size=4") == 2
  out, err = capsys.readouterr()
  assert (
    "files that are not images, not read: 1 .txt" in out
    and "passed over: names that begin with a dot (1)" in out
  )
  *named, last = err.splitlines()
  assert len(named) == 3 and "3 of 31 images could not be read" in last and "bad_files.csv" in last
  bad = rows(tmp_path / "out/bad_files.csv")
  assert [row["path"] for row in bad] == ["c0/03.png", "c0/zz.npy[0]", "c0/zz.npy[1]"]
  assert bad[1]["problem"] == "has 4 bands, not 1"
  table = {row["path"]: row["class"] for row in rows(tmp_path / "out/predictions.csv")}
  expected = {row["path"]: row["class"] for row in rows(answered / "predictions.csv")}
  del expected["c0/03.png"]
  assert table == expected


def test_nothing_is_left_where_no_file_can_be_read(run, tmp_path, capsys):
  (tmp_path / "a.png").write_text("x")
  assert predict(run, tmp_path / "a.png", f"--out={tmp_path / 'out'}") == 2
  assert "none of the first 1 images could be read" in capsys.readouterr().err.splitlines()[-1]
  assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("which, shape", [("pooled", (32,)), ("stage1", (8, 8, 16)), ("stage2", (4, 4, 32))])
def test_features_are_those_of_the_model(run, photos, tmp_path, which, shape):
  shutil.copytree(photos / "val/c1", tmp_path / "set")
  (tmp_path / "set/04.png").write_bytes(b"no image")
  assert (
    predict(run, tmp_path / "set", f"--out={tmp_path / 'out'}", f"--features={which}", "--batch_size=4") == 2
  )
  features, table = np.load(tmp_path / "out/features.npy"), rows(tmp_path / "out/features.csv")
  assert features.shape == (9, *shape) and features.dtype == np.float32
  assert [row["row"] for row in table] == [str(i) for i in range(9)]
  model, params = swin_jax.load(run)
  for row in table:
    x = model.preprocess(tmp_path / "set" / row["path"])[None]
    expected = (
      model.pooled(params, x) if which == "pooled" else model.features(params, x, [int(which[-1]) - 1])[0]
    )
    np.testing.assert_allclose(features[int(row["row"])], expected[0], atol=1e-5)


def test_what_cannot_be_answered_is_refused(run, photos, tmp_path, capsys):
  out = f"--out={tmp_path / 'out'}"
  assert "--features=stage3: the model has pooled, stage1, stage2" in refused(
    capsys, run, photos, out, "--features=stage3"
  )
  assert "does not exist; did you mean" in refused(capsys, run, photos / "vall", out)
  (tmp_path / "empty").mkdir()
  assert "holds no image" in refused(capsys, run, tmp_path / "empty", out)
  assert "holds no checkpoint" in refused(capsys, tmp_path / "empty", photos, out)
  assert not (tmp_path / "out").exists()


def test_names_are_relative_to_what_the_paths_share(tmp_path):
  for name in ("a/x.png", "a/b/y.jpg", "c/z.tif"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()

  def names(*paths):
    images = inputs.find([str(tmp_path / path) for path in paths])
    return [images.name(i) for i in range(len(images))]

  assert names("a") == ["b/y.jpg", "x.png"]
  assert names("a", "c", "a/x.png") == ["a/b/y.jpg", "a/x.png", "c/z.tif"]
  assert names("a/b/y.jpg") == ["y.jpg"]
