"""Files for observers: records are added whole, and no failure of the storage leaves the writer."""

import contextlib
import json
import os
import resource

import pytest

from swin_jax.run.record_file import RecordFile
from swin_jax.terminal import digests


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
    file.keep_lines(lambda entry: True, None)
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
  RecordFile(path).keep_lines(lambda entry: entry["step"] < 5, None)
  assert path.read_bytes() == line(1) + line(3) + line(4)
  assert messages(capsys) == [f"swin_jax: {path}: 1 damaged lines are left out (line 2)"]


def test_a_line_that_a_killed_process_left_unfinished_is_dropped(tmp_path, capsys):
  path = tmp_path / "a"
  path.write_bytes(line(1) + line(2)[:-4])
  file = RecordFile(path)
  file.keep_lines(lambda entry: True, None)
  file.add(line(2))
  assert path.read_bytes() == line(1) + line(2) and not messages(capsys)


def test_later_lines_are_dropped_without_room_on_the_disk(tmp_path, capsys):
  path = tmp_path / "a"
  path.write_bytes(line(1) + line(2) + line(3))
  with room(0):
    RecordFile(path).keep_lines(lambda entry: entry["step"] < 3, None)
  assert path.read_bytes() == line(1) + line(2) and not messages(capsys)
  with room(0):
    file = RecordFile(path)
    file.keep_lines(lambda entry: entry["step"] > 1, None)
  file.add(line(9))
  assert path.read_bytes() == line(1) + line(2), "with lines that should be gone, it is not continued"
  assert "cannot be written" in messages(capsys)[0]


def write(path, *records):
  """Writes records as one process does; returns its digest."""
  file = RecordFile(path)
  for record in records:
    file.add(record)
  file.close()
  return file.digest


def test_a_changed_digit_is_reported_in_one_line_and_the_file_goes_on(tmp_path, capsys):
  path = tmp_path / "a"
  written = write(path, line(1, loss=0.25), line(2, loss=0.5))
  path.write_bytes(line(1, loss=0.35) + line(2, loss=0.5) + line(3))
  file = RecordFile(path)
  file.keep_lines(lambda entry: entry["step"] < 3, written)
  (message,) = messages(capsys)
  assert message.startswith(f"swin_jax: {path} has changed since the run wrote it")
  file.add(line(3))
  assert path.read_bytes() == line(1, loss=0.35) + line(2, loss=0.5) + line(3)


@pytest.mark.parametrize(
  "after, report",
  [
    (line(1) + line(2) + line(3), None),  # what was written later is not known
    (line(1) + line(2) + line(3)[:-4], None),
    (line(1) + line(2), None),
    (line(1), "has changed"),
    (line(1) + b"[]\n" + line(2), "1 damaged lines are left out (line 2)"),
    (b"", "has changed"),
    (None, "is missing; the run goes on with a new one"),
  ],
)
def test_what_has_changed_is_reported_once(tmp_path, capsys, after, report):
  path = tmp_path / "a"
  written = write(path, line(1), line(2))
  path.unlink() if after is None else path.write_bytes(after)
  RecordFile(path).keep_lines(lambda entry: True, written)
  assert [report in message for message in messages(capsys)] == [True] * bool(report)


def test_the_digest_counts_what_is_in_the_file(tmp_path, capsys):
  """Lines that are kept, and records; not those that found no room."""
  path = tmp_path / "a"
  path.write_bytes(line(1) + line(2) + line(3))
  file = RecordFile(path)
  file.keep_lines(lambda entry: entry["step"] != 2, None)
  file.add(line(4))
  with room(path.stat().st_size + 5):
    file.add(line(5))
  file.add(line(6))
  assert path.read_bytes() == line(1) + line(3) + line(4) + line(6)
  assert file.digest == digests.of_file(path)
