"""Progress lines: how far, at what rate, how much time is left; printed once for several processes."""

import hashlib
import os
import signal
import threading
import time

import pytest

from swin_jax.terminal import progress


class Clock:
  now = 100.0

  def perf_counter(self):
    return self.now


@pytest.fixture(name="clock")
def _clock(monkeypatch):
  monkeypatch.setattr(progress, "time", Clock())
  return progress.time


def test_a_line_is_due_every_few_seconds(clock, capsys):
  line = progress.Progress("train", 20_000, "images", before=8_000)
  for _ in range(6):
    clock.now += 4
    line.step(500)
  # 12 and 24 seconds after the start, at 125 images a second: images done before the start do not count
  assert capsys.readouterr().out.splitlines() == [
    "train  9,500/20,000  125 images/s  1:24 left",
    "train  11,000/20,000  125 images/s  1:12 left",
  ]
  line.finish(", 3 unreadable and left out")
  assert capsys.readouterr().out == (
    "train  11,000 images in 24.0 s, 8,000 existed before, 3 unreadable and left out\n"
  )


@pytest.mark.parametrize(
  "unit, expected",
  [("", "maps  2/1,802  5:00:00 left\n"), ("maps", "maps  2/1,802  0.1 maps/s  5:00:00 left\n")],
)
def test_slow_work_has_a_rate_where_it_has_a_unit(clock, capsys, unit, expected):
  line = progress.Progress("maps", 1802, unit)
  clock.now += 20
  line.step(2)
  assert capsys.readouterr().out == expected


@pytest.mark.parametrize(
  "seconds, text", [(0, "0:00"), (59.6, "1:00"), (123, "2:03"), (3723, "1:02:03"), (90_000, "25:00:00")]
)
def test_durations(seconds, text):
  assert progress.duration(seconds) == text


def test_only_process_0_prints(capsys):
  progress.set_process(1)
  try:
    progress.say("nothing")
  finally:
    progress.set_process(0)
  progress.say("something")
  assert capsys.readouterr().out == "something\n"


def test_work_of_unknown_length(monkeypatch, capsys):
  monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.2)
  assert progress.patiently("compiling", lambda: time.sleep(0.8) or 7) == 7
  lines = capsys.readouterr().out.splitlines()
  assert lines[0] == "compiling ..." and len(lines) > 1 and set(lines) == {"compiling ..."}
  with pytest.raises(KeyError, match="gone"):
    progress.patiently("looking", lambda: {}["gone"])


def test_ctrl_c_does_not_wait_for_the_function():
  """Which may be a call of seconds into native code, such as a compilation."""
  seconds, started = [], threading.Event()

  def stop():
    started.wait()
    seconds.append(time.perf_counter())
    os.kill(os.getpid(), signal.SIGINT)

  def native():
    started.set()
    return hashlib.pbkdf2_hmac("sha256", b"", b"", 8_000_000)

  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    threading.Thread(target=stop).start()
    with pytest.raises(KeyboardInterrupt):
      progress.patiently("compiling", native)
  finally:
    signal.signal(signal.SIGINT, before)
  assert time.perf_counter() - seconds[0] < 1


def test_an_output_that_cannot_be_written_is_reported_once(monkeypatch, capsys):
  monkeypatch.setattr(progress, "_is_silent", False)
  with open("/dev/full", "w") as full, monkeypatch.context() as patch:
    patch.setattr("sys.stdout", full)
    progress.say("one")
    progress.say("two")
    os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # its buffer can be emptied when it closes
  message = "swin_jax: the output cannot be written (No space left on device); the work goes on\n"
  assert capsys.readouterr().err == message


def test_a_very_long_warning_is_shortened(capsys):
  progress.warn("what: " + "x" * 100_000 + "; advice")
  error = capsys.readouterr().err
  assert len(error) < 5000 and error.startswith("swin_jax: what: x") and error.endswith("x; advice\n")


@pytest.fixture(name="soon")
def _soon(monkeypatch):
  """Makes a silence long after a fifth of a second."""
  monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.2)
  progress.say("before")


def test_a_long_silence_has_lines_of_the_innermost_block(capsys, soon):
  with progress.waiting("outer"):
    capsys.readouterr()
    with progress.waiting(lambda: "step 3 ..."):
      time.sleep(1.5)
    assert set(capsys.readouterr().out.splitlines()) == {"step 3 ..."}
    time.sleep(0.5)
  lines = capsys.readouterr().out.splitlines()
  assert lines and all(line.startswith("outer ...") for line in lines)


def test_a_block_that_speaks_needs_no_further_lines(capsys, soon):
  with progress.waiting("outer"):
    for _ in range(6):
      time.sleep(0.08)
      progress.say("working")
  assert set(capsys.readouterr().out.splitlines()) == {"before", "working"}


def test_an_error_ends_the_lines(capsys, soon):
  with pytest.raises(ValueError, match="x"), progress.waiting("outer"):
    raise ValueError("x")
  time.sleep(0.3)
  assert capsys.readouterr().out == "before\n"
