"""Which paths can be the folder of a run, and what may lie in it."""

import os
import pathlib

import pytest

from swin_jax.run import train
from swin_jax.saved import workdir
from swin_jax.terminal.errors import BadInput
from tests.support import tiny


@pytest.mark.parametrize("name", ["x[1]", "a*b", "what?", "back\\slash", "**", "raw\udc80", "in[2]/run"])
def test_a_path_that_orbax_takes_for_a_pattern_is_refused_before_anything_is_written(tmp_path, name):
  with pytest.raises(BadInput, match="must not contain any of") as caught:
    train.train(tiny.config(), str(tmp_path / name))
  assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_a_relative_path_is_looked_at_as_a_whole(tmp_path, monkeypatch):
  (tmp_path / "x[1]").mkdir()
  monkeypatch.chdir(tmp_path / "x[1]")
  with pytest.raises(BadInput, match="must not contain any of"):
    workdir.check("run")


@pytest.mark.parametrize("name", ["run", "a b", "ümlaut", "100%", "{a,b}", "a:b", "~x", "#1", "new\nline"])
def test_other_paths_are_accepted(tmp_path, name):
  workdir.check(str(tmp_path / name))
  (tmp_path / name / "checkpoints").mkdir(parents=True)
  workdir.check(str(tmp_path / name))


def test_a_name_that_is_too_long_is_one_line(tmp_path):
  with pytest.raises(BadInput, match="cannot be used: File name too long"):
    train.train(tiny.config(), str(tmp_path / ("a" * 300)))


@pytest.mark.parametrize(
  "name, make, message",
  [
    ("", pathlib.Path.touch, "run is a file, but must be a folder"),
    ("", lambda path: path.symlink_to("nowhere"), "run is a link to nowhere, but must be a folder"),
    ("checkpoints", pathlib.Path.touch, "checkpoints is a file, but must be a folder"),
    ("checkpoints", lambda path: path.symlink_to("nowhere"), "checkpoints is a link to nowhere"),
    ("checkpoints", os.mkfifo, "checkpoints is a pipe or a device, but must be a folder"),
    ("config.json", pathlib.Path.mkdir, "config.json is a folder, but must be a file"),
    (".lock", os.mkfifo, ".lock is a pipe or a device, but must be a file"),
    ("parameters.txt", pathlib.Path.mkdir, "parameters.txt is a folder, but must be a file"),
    ("transfer.txt", os.mkfifo, "transfer.txt is a pipe or a device, but must be a file"),
  ],
)
def test_a_wrong_kind_of_file_is_one_line(tmp_path, name, make, message):
  if name:
    (tmp_path / "run").mkdir()
  make(tmp_path / "run" / name)
  with pytest.raises(BadInput, match=message) as caught:
    train.train(tiny.config(), str(tmp_path / "run"))
  assert "\n" not in str(caught.value)
