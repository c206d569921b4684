"""Worker processes: a dead worker is named, none outlives its parent, only the parent handles signals, and
nothing hangs at the end.
"""

import errno
import glob
import multiprocessing
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from swin_jax.data.feed import exchange
from swin_jax.data.feed.workers import watch
from swin_jax.data.read.example import Example
from swin_jax.terminal import preemption
from swin_jax.terminal.errors import Fault
from tests.support.batches import WHOLE, make_input
from tests.support.opened import open_source
from tests.support.paths import ROOT

pytestmark = pytest.mark.every_python

# Reads batches with two workers as instructed by its input lines, and reports what it did.
PARENT = """
import multiprocessing, signal, sys
from swin_jax.data.feed import exchange
from swin_jax.terminal import leftovers
from tests.support.batches import make_input, WHOLE
from tests.support.opened import open_source

def main():
  heard, kept = set(), []
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: heard.add(number))
  batches = make_input(open_source("digits", "", "train"), workers=2).train_batches(0, WHOLE)
  print("ready", exchange.token(), flush=True)
  for line in sys.stdin:
    if line == "end\\n":
      leftovers.end(75)
    for _ in range(int(line)):
      kept.append(next(batches))  # as jax on a CPU keeps the memory of its arrays
    print(*[process.pid for process in multiprocessing.active_children()], flush=True)
  print(len(heard), flush=True)

main()
"""


@pytest.fixture(name="parent")
def _parent(tmp_path):
  """Starts a process that reads with workers, in a process group of its own."""
  process = subprocess.Popen(
    [sys.executable, "-c", PARENT],
    cwd=ROOT,
    start_new_session=True,
    text=True,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    env=os.environ | {"TMPDIR": str(tmp_path)},
  )
  ready, process.token = process.stdout.readline().split()
  assert ready == "ready"
  yield process
  process.kill()
  process.wait()


def ask(process, count):
  """Makes the process read `count` batches; returns the ids of its workers."""
  process.stdin.write(f"{count}\n")
  process.stdin.flush()
  return [int(pid) for pid in process.stdout.readline().split()]


def assert_end(pids):
  deadline = time.monotonic() + 20
  while any(os.path.exists(f"/proc/{pid}") for pid in pids):
    assert time.monotonic() < deadline, "a worker lives on"
    time.sleep(0.05)


def test_no_worker_outlives_a_parent_that_is_killed(parent):
  workers = ask(parent, 5)
  assert len(workers) == 2
  parent.kill()
  assert_end(workers)


def left_over(parent, folder):
  """Returns what is left in its folder of temporary files and in shared memory."""
  return [*folder.iterdir(), *exchange.MEMORY.glob(f"*{exchange.PREFIX}{parent.token}*")]


@pytest.mark.parametrize("number", [None, signal.SIGKILL], ids=["ends", "killed"])
def test_nothing_stays_in_memory_or_temporary_folders(parent, tmp_path, number, monkeypatch):
  ask(parent, 5)
  assert len(left_over(parent, tmp_path)) > 3, "a file, semaphores and batches on their way"
  if number:
    os.killpg(parent.pid, number)
  else:
    parent.stdin.write("end\n")
    parent.stdin.flush()
  _, errors = parent.communicate(timeout=60)
  assert parent.returncode == (-number if number else 75), errors
  assert "Traceback" not in errors and "leaked" not in errors, errors
  if number:
    assert len(left_over(parent, tmp_path)) > 3
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    exchange.remove_dead()
    exchange.Sent(0)  # removed at once, as nobody keeps it
  assert not left_over(parent, tmp_path)


@pytest.mark.slow
def test_the_parent_ends_with_batches_unread(parent, tmp_path):
  workers = ask(parent, 5)
  (
    exchange.MEMORY / f"{exchange.PREFIX}{parent.token}-0"
  ).touch()  # by a worker that was killed at this point
  _, errors = parent.communicate(timeout=60)
  assert parent.returncode == 0 and "leaked" not in errors and "Traceback" not in errors, errors
  assert not left_over(parent, tmp_path)
  assert_end(workers)


def test_a_python_that_names_its_objects_otherwise_is_no_error(monkeypatch):
  monkeypatch.setattr(multiprocessing, "current_process", object)
  monkeypatch.delattr("multiprocessing.shared_memory._make_filename")
  exchange._name_semaphores("x")
  exchange.name_shared_memory("x")


@pytest.mark.slow
def test_signals_of_the_whole_group_are_the_parents_alone(parent):
  """This holds from the moment the workers start."""
  parent.stdin.write("40\n")
  parent.stdin.flush()
  for _ in range(150):
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
      os.killpg(parent.pid, number)
    time.sleep(0.02)
  workers = parent.stdout.readline().split()
  assert len(workers) == 2
  assert sorted(map(str, ask(parent, 40))) == sorted(workers)
  output, errors = parent.communicate(timeout=60)
  assert (output, parent.returncode) == ("3\n", 0), errors
  assert "Traceback" not in errors and "died" not in errors, errors
  assert_end(map(int, workers))


@pytest.mark.slow
@pytest.mark.parametrize(
  "number, workers, hint",
  [
    (
      signal.SIGKILL,
      1,
      "SIGKILL, as happens when memory runs out: use fewer data.num_workers or data.num_threads",
    ),
    (signal.SIGBUS, 2, "SIGBUS, as happens when /dev/shm is full"),
    (signal.SIGSEGV, 2, "SIGSEGV. The"),
  ],
)
def test_a_worker_that_is_killed_is_named(number, workers, hint):
  before = set(multiprocessing.active_children())
  batches = make_input(open_source("digits", "", "train"), workers=workers).train_batches(0, WHOLE)
  for _ in range(4):
    next(batches)
  worker = (set(multiprocessing.active_children()) - before).pop()
  os.kill(worker.pid, number)
  began = time.monotonic()
  with pytest.raises(Fault) as error:
    for _ in range(1_000):
      next(batches)
  assert time.monotonic() - began < 60
  assert f"data worker process {worker.pid} was killed by {hint}" in str(error.value) and "\n" not in str(
    error.value
  )
  assert set(multiprocessing.active_children()) == before


@pytest.mark.parametrize("drawn", [0, 2])
def test_a_worker_that_dies_with_a_lock_in_its_hand_hangs_nothing(drawn, monkeypatch):
  """A worker may die at any time, even before its first batch; grain asks it to stop and then waits forever
  for the lock.
  """
  monkeypatch.setattr("swin_jax.data.feed.workers.SECONDS_TO_NOTICE", 2)
  monkeypatch.setattr("swin_jax.data.feed.workers.SECONDS_TO_END", 2)
  ended = threading.Event()

  class Iterator:
    def __init__(self):
      self.left = drawn

    def __iter__(self):
      return self

    def __next__(self):
      self.left -= 1
      if self.left < 0:
        if process.pid is None:
          process.start()
          time.sleep(2.5)  # `watch` checks every second, and no worker is ready sooner
        os.kill(process.pid, signal.SIGKILL)
        ended.wait()  # grain's `__next__` waits too, as it closes its source
        raise StopIteration
      if process.pid is None:
        process.start()
      return {"image": np.zeros(1)}

    def close(self):
      ended.wait()

  process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), daemon=True)
  before = set(multiprocessing.active_children())
  try:
    with pytest.raises(Fault, match="data worker process( [0-9]+)? was killed by SIGKILL"):
      for _ in watch(Iterator(), 1):
        pass
    assert set(multiprocessing.active_children()) == before
  finally:
    ended.set()
    process.kill()


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_starts_is_named(parent):
  """It is killed before it has read its instructions."""
  parent.stdin.write("40\n")
  parent.stdin.flush()
  started, deadline = [], time.monotonic() + 30
  while not started and time.monotonic() < deadline:
    children = [pathlib.Path(path) for path in glob.glob(f"/proc/{parent.pid}/task/*/children")]
    pids = [pid for path in children for pid in path.read_text().split()]
    started = [int(pid) for pid in pids if b"spawn_main" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
  assert started, "no worker was started"
  os.kill(started[0], signal.SIGKILL)
  _, errors = parent.communicate(timeout=60)
  assert re.search(r"Fault: data worker process( \d+)? was killed by SIGKILL", errors), errors


@pytest.mark.parametrize("asked", [False, True])
def test_a_worker_that_is_stopped_is_named(asked, monkeypatch, capfd):
  """It is continued if the run ends; a run that is asked to stop does not wait for it."""
  monkeypatch.setattr("swin_jax.data.feed.workers.SECONDS_OF_SILENCE", 1)
  monkeypatch.setattr("swin_jax.data.feed.workers.SECONDS_TO_END", 5)
  process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,), daemon=True)

  class Iterator:
    def __iter__(self):
      process.start()
      os.kill(process.pid, signal.SIGSTOP)
      while state() != "T":
        time.sleep(0.01)
      yield {"image": np.zeros(1)}
      while state() == "T":
        time.sleep(0.01)

    def close(self):
      pass

  def state():
    return pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]

  named = "; worker 0 of 1 (process {}) is stopped and does not answer; to continue it: kill -CONT"
  try:
    with preemption.watch():
      batches = watch(Iterator(), 1)
      next(batches)
      if asked:
        preemption.protect()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Fault, match=r"no data for . s; worker 0 of 1 .* is stopped"):
          next(batches)
      else:
        threading.Timer(2.5, os.kill, (process.pid, signal.SIGCONT)).start()
        assert next(batches, None) is None
        assert "waiting for data for 1 s" + named.format(process.pid) in capfd.readouterr().err
    assert state() in "RSD"
  finally:
    process.kill()


class Leaving:
  """Ends the process that reads from it."""

  num_classes, class_names = 0, ()

  def __len__(self):
    return 8

  def __getitem__(self, index):
    if multiprocessing.parent_process():
      os._exit(3)
    return Example(np.zeros((8, 8, 3), np.uint8), -1, str(index))


def test_a_worker_that_ends_is_named():
  with pytest.raises(
    Fault, match=r"data worker process( \d+)? ended with exit code 3; its output is above. The same command"
  ):
    next(make_input(Leaving(), workers=1).train_batches(0, WHOLE))


def test_no_room_for_temporary_files_is_one_line(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
  with monkeypatch.context() as patch:
    patch.setattr(exchange.pickle, "dump", full)
    with pytest.raises(Fault, match=f"in {tmp_path} cannot be written: no space left on the disk; .*TMPDIR"):
      exchange.Sent(0)
  assert not list(tmp_path.iterdir())
  monkeypatch.setattr("tempfile.tempdir", None)
  monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
  with pytest.raises(Fault, match="temporary files cannot be written: .*missing.*TMPDIR"):
    exchange.Sent(0)
