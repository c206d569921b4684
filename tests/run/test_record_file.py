"""Files for observers: records are added whole, and no failure of the storage leaves the writer."""

import contextlib
import json
import os
import resource

import pytest

from swin_jax.run.record_file import RecordFile


@contextlib.contextmanager
def room(size):
  """Limits the size of files, as a full disk does."""
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def messages(capsys):
  """Returns the lines on stderr since the last call."""
  return capsys.readouterr().err.splitlines()


def test_a_full_disk_loses_whole_records_which_are_counted(tmp_path, capsys):
  path = tmp_path / "new" / "a"
  file = RecordFile(path, b"start;")
  file.add(b"one;")
  with room(14):
    file.add(b"longer;")
    file.add(b"2;")
    file.add(b"another;")
    assert path.read_bytes() == b"start;one;2;"
    (first,) = messages(capsys)
  assert f"{path} cannot be written (File too large); the run goes on" in first
  file.add(b"three;")
  file.close()
  assert path.read_bytes() == b"start;one;2;three;"
  assert messages(capsys) == [f"swin_jax: {path} lacks 2 entries of this run"]


def folder(path):
  path.mkdir()


def device(path):
  path.symlink_to("/dev/full")


def below_a_file(path):
  path.parent.rmdir()
  path.parent.touch()


@pytest.mark.parametrize("continued", [True, False])
@pytest.mark.parametrize(
  "make", [folder, os.mkfifo, device, below_a_file, lambda path: path.symlink_to(path)]
)
def test_what_is_no_file_is_left_alone_in_two_lines(tmp_path, capsys, make, continued):
  path = tmp_path / "new" / "a"
  path.parent.mkdir()
  make(path)
  file = RecordFile(path)
  if continued:
    file.keep_lines(lambda entry: True)
  file.add(b"1;")
  file.add(b"2;")
  file.close()
  _, last = messages(capsys)
  assert last == f"swin_jax: {path} lacks 2 entries of this run"


def line(step, **values):
  return json.dumps({"step": step} | values).encode() + b"\n"


@pytest.mark.parametrize(
  "damage",
  [
    b'{"step": 2, "loss"\n',
    b"\xff\xfe\n",
    b"[2]\n",
    b'{"step": "2"}\n',
    b'{"loss": 1}\n',
    b"[" * 9999 + b"\n",
  ],
)
def test_a_damaged_line_is_named_and_the_others_are_kept(tmp_path, capsys, damage):
  path = tmp_path / "a"
  path.write_bytes(line(1) + damage + line(3) + line(5) + line(4))
  RecordFile(path).keep_lines(lambda entry: entry["step"] < 5)
  assert path.read_bytes() == line(1) + line(3) + line(4)
  assert messages(capsys) == [f"swin_jax: {path}: 1 damaged lines are left out (line 2)"]


def test_a_line_that_a_killed_process_left_unfinished_is_dropped(tmp_path, capsys):
  path = tmp_path / "a"
  path.write_bytes(line(1) + line(2)[:-4])
  file = RecordFile(path)
  file.keep_lines(lambda entry: True)
  file.add(line(2))
  assert path.read_bytes() == line(1) + line(2) and not messages(capsys)


def test_later_lines_are_dropped_without_room_on_the_disk(tmp_path, capsys):
  path = tmp_path / "a"
  path.write_bytes(line(1) + line(2) + line(3))
  with room(0):
    RecordFile(path).keep_lines(lambda entry: entry["step"] < 3)
  assert path.read_bytes() == line(1) + line(2) and not messages(capsys)
  with room(0):
    file = RecordFile(path)
    file.keep_lines(lambda entry: entry["step"] > 1)
  file.add(line(9))
  assert path.read_bytes() == line(1) + line(2), "with lines that should be gone, it is not continued"
  assert "cannot be written" in messages(capsys)[0]
