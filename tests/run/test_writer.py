"""The output of a run for users: TensorBoard can read it, no failure stops the run, and no other framework is
loaded.
"""

import importlib.util
import json
import os
import pathlib
import struct
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from swin_jax.run.writer import Writer
from tests.support.paths import ROOT

WRITE = """
import sys
from swin_jax.run.writer import Writer
Writer(sys.argv[1], 0, True, {}).scalars(1, {"train/loss": 1.0})
assert "tensorboardX" in sys.modules
assert not {"torch", "tensorflow"} & set(sys.modules), "a framework was loaded"
"""


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch is not installed")
def test_events_are_written_without_torch(tmp_path):
  done = subprocess.run(
    [sys.executable, "-c", WRITE, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stderr
  assert len(list((tmp_path / "tensorboard").iterdir())) == 1


def read_events(folder):
  """Returns the events that TensorBoard would read."""
  (path,) = folder.iterdir()
  data, events = path.read_bytes(), []
  while data:
    length, length_sum = struct.unpack("<QI", data[:12])
    body, body_sum = data[12 : 12 + length], struct.unpack("<I", data[12 + length : 16 + length])[0]
    assert [length_sum, body_sum] == [masked_crc32c(part) for part in (data[:8], body)]
    events.append(event_pb2.Event.FromString(body))
    data = data[16 + length :]
  return events


def test_tensorboard_reads_what_was_written(tmp_path):
  writer = Writer(str(tmp_path), 4, True, {})
  writer.scalars(5, {"eval/iou/a road": 0.5, "train/loss": 2.0})
  path = writer.pictures(5, "x", np.full((1, 2, 8, 8, 1), 7, np.uint8), lambda grid: grid)
  writer.close()
  version, start, scalars, picture = read_events(tmp_path / "tensorboard")
  assert version.file_version == "brain.Event:2"
  assert (start.step, start.session_log.status) == (5, event_pb2.SessionLog.START)
  assert [(value.tag, value.simple_value) for value in scalars.summary.value] == [
    ("eval/iou/a_road", 0.5),
    ("train/loss", 2.0),
  ]
  (value,) = picture.summary.value
  assert value.tag == "x" and value.image.encoded_image_string == path.read_bytes()
  assert (value.image.width, value.image.height) == Image.open(path).size


@pytest.mark.parametrize("name", ["metrics.jsonl", "nonfinite.jsonl", "tensorboard", "pictures"])
@pytest.mark.parametrize("make", [pathlib.Path.touch, pathlib.Path.mkdir, os.mkfifo])
def test_whatever_lies_at_the_names_of_the_output_the_others_are_written(tmp_path, name, make, capsys):
  make(tmp_path / name)
  for _ in range(2):  # the second continues the files of the first
    writer = Writer(str(tmp_path), 4, True, {})
    writer.scalars(5, {"train/loss": 1.0})
    writer.nonfinite(5, [1])
    writer.pictures(5, "x", np.zeros((1, 1, 8, 8, 3), np.uint8), lambda grid: grid)
    writer.close()
  file = name.endswith("jsonl")
  assert bool(capsys.readouterr().err) == (
    not ((tmp_path / name).is_file() if file else (tmp_path / name).is_dir())
  )
  for other in ("metrics.jsonl", "nonfinite.jsonl"):
    assert other == name or json.loads((tmp_path / other).read_text())["step"] == 5
  assert name == "tensorboard" or list((tmp_path / "tensorboard").iterdir())
  assert name == "pictures" or (tmp_path / "pictures" / "x-0000005.png").is_file()


def test_without_tensorboard_a_run_goes_on(tmp_path, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, "tensorboardX.proto", None)
  monkeypatch.setitem(sys.modules, "tensorboardX.record_writer", None)
  writer = Writer(str(tmp_path), 0, True, {})
  writer.scalars(1, {"train/loss": 1.0})
  writer.close()
  assert (tmp_path / "metrics.jsonl").exists()
  assert "tensorboardX cannot be imported" in capsys.readouterr().err
