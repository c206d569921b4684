"""`show curves`, and the picture that a run draws when it ends."""

import json

from PIL import Image
import pytest

from swin_jax.run import curves
from swin_jax.show.__main__ import main


def write(workdir, count=5):
  workdir.mkdir(parents=True)
  lines = [json.dumps({"step": i, "train/loss": 1 / i, "train/learning_rate": 0.1}) for i in range(1, count)]
  (workdir / "metrics.jsonl").write_text("\n".join([*lines, "{damaged", ""]))
  return workdir


def show(*words):
  return main(["show", "curves", *map(str, words)])


def test_several_runs_are_drawn_into_a_new_file(tmp_path, capsys):
  runs = [write(tmp_path / name / "run") for name in ("a", "b")]
  for name in ("curves.png", "curves-2.png"):
    assert show(*runs, f"--out={tmp_path / 'out'}") == 0
    assert f"wrote {tmp_path / 'out' / name}" in capsys.readouterr().out
    assert Image.open(tmp_path / "out" / name).size[0] == 1120


@pytest.mark.parametrize("case", ["empty", "missing", "twice", "no metrics"])
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, capsys, case):
  run, other = write(tmp_path / "run"), write(tmp_path / "other", count=1)
  words, message = {
    "missing": ([tmp_path / "nothing"], "nothing holds no metrics.jsonl; it must be the workdir of a run"),
    "empty": ([run, other], "has no entry yet"),
    "twice": ([run, run], "given twice"),
    "no metrics": ([other], "there is no metric to draw"),
  }[case]
  if case == "no metrics":
    (other / "metrics.jsonl").write_text('{"step": 1}\n')
  assert show(*words, f"--out={tmp_path / 'out'}") == 2
  err = capsys.readouterr().err
  assert err.count("\n") == 1 and message in err, err
  assert not (tmp_path / "out").exists()


def test_a_run_draws_its_own_curves(tmp_path, capsys):
  curves.draw(str(write(tmp_path / "run")))
  assert capsys.readouterr().out == f"drew {tmp_path / 'run'}/curves.png\n"
  assert Image.open(tmp_path / "run/curves.png").size[0] == 1120


@pytest.mark.parametrize("broken", ["no file", "no room", "bug"])
def test_failing_to_draw_fails_no_run(tmp_path, capsys, broken, monkeypatch):
  run = write(tmp_path / "run")
  if broken == "no file":
    (run / "metrics.jsonl").unlink()
  elif broken == "no room":
    (run / "curves.png").mkdir()
  else:
    monkeypatch.setattr(curves.curves, "draw", lambda runs: 1 / 0)
  curves.draw(str(run))
  out, err = capsys.readouterr()
  assert not out and err.count("\n") == 1 and "curves.png cannot be drawn" in err and "complete" in err
