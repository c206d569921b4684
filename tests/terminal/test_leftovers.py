"""Leftovers: what a live process holds is kept, what a dead one left is removed, however it ended."""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from swin_jax.terminal import files, leftovers
from tests.support.paths import ROOT

# Writes a folder until it is ended, as the commands do.
WRITER = """
import pathlib, sys, time
from swin_jax.terminal import cli, files
def body():
  with files.making_folder(pathlib.Path(sys.argv[1])) as partial:
    (partial / "a").write_text("half")
    with files.replacing(partial / "b") as inner:
      print("ready", flush=True)
      for n in range(10**9):
        inner.write_text(str(n))
cli.leave(cli.exit_code(body))
"""


@pytest.fixture(name="writer")
def _writer(tmp_path):
  words = [sys.executable, "-c", WRITER, str(tmp_path / "model")]
  process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
  assert process.stdout.readline() == "ready\n"
  yield process
  process.kill()
  process.communicate()


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)])
def test_a_signal_ends_a_command_in_one_line_and_leaves_nothing(writer, tmp_path, number, code):
  writer.send_signal(number)
  _, errors = writer.communicate(timeout=60)
  assert writer.returncode == code
  assert errors.startswith(f"swin_jax: stopped by {number.name}; ") and errors.count("\n") == 1
  assert not os.listdir(tmp_path)


def test_what_a_killed_process_left_is_removed_by_the_next_but_not_while_it_lives(writer, tmp_path):
  def partials():
    return len([name for name in os.listdir(tmp_path) if re.match(r"model\.[0-9a-f]+\.partial", name)])

  files.write(tmp_path / "model.json", "")  # another name
  files.remove_dead(tmp_path)
  assert partials() == 1
  with files.making_folder(tmp_path / "model"):
    assert partials() == 2
    writer.kill()
    writer.wait()
  assert partials() == 1
  with files.replacing(tmp_path / "model.json"):
    assert partials() == 1  # left by the writer of another file
  (tmp_path / "model").rmdir()
  with files.making_folder(tmp_path / "model"):
    assert partials() == 1
  assert sorted(os.listdir(tmp_path)) == ["model", "model.json"]


def test_what_another_machine_left_must_be_old(tmp_path, monkeypatch, capsys):
  """Its locks may be invisible here."""
  monkeypatch.setattr(leftovers, "_kernel", lambda: "0" * 8)
  path = tmp_path / f"a.{leftovers.token()}{files.PARTIAL}"
  path.mkdir()
  (path / "inner").write_text("")
  monkeypatch.undo()
  old = time.time() - leftovers.SECONDS_UNTIL_OLD - 60
  os.utime(path, (old, old))
  files.remove_dead(tmp_path)
  assert path.exists() and str(path) in capsys.readouterr().err
  os.utime(path / "inner", (old, old))
  files.remove_dead(tmp_path)
  assert not path.exists() and not capsys.readouterr().err


def test_file_systems_without_locks_keep_what_is_left_and_say_so(tmp_path, monkeypatch, capsys):
  def no_locks(*_):
    raise OSError("Function not implemented")

  monkeypatch.setattr(leftovers.fcntl, "flock", no_locks)
  path = pathlib.Path(tmp_path / f"a.{leftovers.token()}{files.PARTIAL}")
  path.touch()
  files.write(tmp_path / "a", "new")
  assert path.exists() and str(path) in capsys.readouterr().err
  assert (tmp_path / "a").read_text() == "new"


def test_nothing_is_held_after_it_is_written(tmp_path):
  files.write(tmp_path / "a", "")
  with pytest.raises(KeyboardInterrupt), files.making_folder(tmp_path / "b"):
    raise KeyboardInterrupt
  leftovers.clear()
  assert os.listdir(tmp_path) == ["a"]


def test_threads_that_go_on_to_the_end_say_nothing():
  code = """
import threading, time
from swin_jax.terminal import leftovers
removed = threading.Event()
def work():
  removed.wait()
  open("/nowhere/removed")
threading.Thread(target=work, daemon=True).start()
leftovers.at_end(lambda: (removed.set(), time.sleep(0.3)))
leftovers.end(75, "stopped")
"""
  ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
  assert (ended.returncode, ended.stderr) == (75, "swin_jax: stopped\n")


def test_a_file_that_is_created_again_while_the_process_ends_is_removed(tmp_path):
  """As by a library that was about to open it when the signal came."""
  code = f"""
import pathlib
from swin_jax.terminal import leftovers
folder = pathlib.Path({str(tmp_path)!r})
path = leftovers.create(lambda token: folder / token, pathlib.Path.touch)
leftovers.at_end(lambda: setattr(leftovers, "flush", path.touch))  # flush follows the removal
leftovers.end(75, "stopped")
"""
  ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
  assert (ended.returncode, ended.stderr) == (75, "swin_jax: stopped\n")
  assert not os.listdir(tmp_path)
