"""Atomic writes: the order in which data reaches the disk, and what remains if the process ends
in between.
"""

import errno
import os
import pathlib
import stat
import subprocess
import sys

import pytest

from swin_jax.terminal import files
from tests.support.paths import ROOT


@pytest.fixture(name="calls")
def _calls(monkeypatch):
  """Records the syncs and renames in order, by the name of the file they act on; a partial file
  is "partial".
  """
  calls, fsync, replace = [], os.fsync, os.replace

  def name(path):
    return "partial" if str(path).endswith(files.PARTIAL) else os.path.basename(path)

  def sync(handle):
    calls.append(f"sync {name(os.readlink(f'/proc/self/fd/{handle}'))}")
    fsync(handle)

  def rename(old, new):
    calls.append(f"{name(old)} → {name(new)}")
    replace(old, new)

  monkeypatch.setattr(os, "fsync", sync)
  monkeypatch.setattr(os, "replace", rename)
  return calls


def test_the_content_is_on_disk_before_the_name_and_the_name_before_it_returns(calls, tmp_path):
  files.write(tmp_path / "config.json", "ä")
  assert calls == ["sync partial", "partial → config.json", f"sync {tmp_path.name}"]
  assert (tmp_path / "config.json").read_bytes() == "ä".encode()
  assert os.listdir(tmp_path) == ["config.json"]


def test_a_folder_is_on_disk_with_all_it_holds(calls, tmp_path):
  (tmp_path / "model").mkdir()  # an empty folder may already exist
  with files.making_folder(tmp_path / "model") as partial:
    (partial / "inner").mkdir()
    (partial / "inner" / "a").write_text("1")
    (partial / "b").write_text("2")
  assert sorted(calls[:4]) == ["sync a", "sync b", "sync inner", "sync partial"]
  assert calls[4:] == ["partial → model", f"sync {tmp_path.name}"]
  assert (tmp_path / "model" / "inner" / "a").read_text() == "1" and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_an_error_in_between_leaves_what_was_there(monkeypatch, tmp_path, broken):
  def fail(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  files.write(tmp_path / "a", "old")
  monkeypatch.setattr(os, broken, fail)
  with pytest.raises(OSError, match="No space left"):
    files.write(tmp_path / "a", "new")
  with pytest.raises(OSError, match="No space left"), files.making_folder(tmp_path / "folder") as partial:
    (partial / "b").write_text("new")
  assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_an_error_of_the_storage_names_the_file_that_the_user_knows(monkeypatch, tmp_path):
  path = tmp_path / "folder"
  with pytest.raises(OSError) as failed, files.making_folder(path), open("/dev/full", "wb", 0) as full:
    full.write(b"1")  # names no file
  assert (failed.value.filename, failed.value.errno) == (str(path), errno.ENOSPC)
  with pytest.raises(FileNotFoundError) as failed, files.replacing(path):
    (tmp_path / "other").read_bytes()
  assert failed.value.filename == str(tmp_path / "other")

  def touch(partial):
    raise OSError(errno.EDQUOT, "Quota exceeded", str(partial))

  monkeypatch.setattr(pathlib.Path, "touch", touch)
  with pytest.raises(OSError) as failed, files.replacing(path):
    pass
  assert failed.value.filename == str(path)


def test_an_error_of_the_writer_leaves_what_was_there(tmp_path):
  files.write(tmp_path / "a", "old")
  with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "a") as partial:
    partial.write_text("half")
    raise KeyboardInterrupt
  assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "old"


def test_a_crash_in_between_leaves_the_old_file(tmp_path):
  """A process dies right before the rename; a later write is not disturbed by the file left behind."""
  files.write(tmp_path / "a", "old")
  code = f"""
import os, pathlib
from swin_jax.terminal import files
from tests.support.paths import ROOT
os.replace = lambda *_: os._exit(9)
files.write(pathlib.Path({str(tmp_path / "a")!r}), "new")
"""
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 9
  assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.glob(f"a.*{files.PARTIAL}"))) == 1
  files.write(tmp_path / "a", "newer")
  assert (tmp_path / "a").read_text() == "newer"


def test_a_folder_is_not_replaced_where_it_holds_something(tmp_path):
  (tmp_path / "model").mkdir()
  (tmp_path / "model" / "a").write_text("old")
  with pytest.raises(OSError, match="not empty"), files.making_folder(tmp_path / "model") as partial:
    (partial / "a").write_text("new")
  assert (tmp_path / "model" / "a").read_text() == "old" and os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("code, raised", [(errno.EINVAL, False), (errno.EIO, True)])
def test_file_systems_that_cannot_sync_folders(monkeypatch, tmp_path, code, raised):
  fsync = os.fsync

  def sync(handle):
    if stat.S_ISDIR(os.fstat(handle).st_mode):
      raise OSError(code, "of the folder")
    fsync(handle)

  monkeypatch.setattr(os, "fsync", sync)
  if raised:
    with pytest.raises(OSError, match="of the folder"):
      files.write(tmp_path / "a", "new")
  else:
    files.write(tmp_path / "a", "new")
  assert (tmp_path / "a").read_text() == "new"


def test_what_is_written_is_as_readable_as_any_file(tmp_path):
  old = os.umask(0o027)
  try:
    files.write(tmp_path / "a", "")
    with files.making_folder(tmp_path / "b"):
      pass
  finally:
    os.umask(old)
  assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"] == [0o640, 0o750]
