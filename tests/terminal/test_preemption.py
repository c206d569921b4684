"""Stop requests within one process."""

import os
import signal
import subprocess
import sys
import time

import pytest

from swin_jax.terminal import preemption
from tests.support.paths import ROOT


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)])
def test_what_a_process_runs_next_does_not_stop_for_the_first(number, code):
  before = [signal.getsignal(number) for number in preemption.SIGNALS]
  with preemption.watch():
    preemption.protect()
    assert not preemption.requested()
    os.kill(os.getpid(), number)
    deadline = time.monotonic() + 60
    while not preemption.requested() and time.monotonic() < deadline:
      time.sleep(0.01)
    assert preemption.requested() and preemption.exit_code() == code
  assert not preemption.requested()  # nor does what runs without watching
  with preemption.watch():
    assert not preemption.requested()
  assert [signal.getsignal(number) for number in preemption.SIGNALS] == before


def test_a_reader_that_does_not_read_does_not_hold_up_the_end(tmp_path):
  code = f"""
import pathlib
from swin_jax.terminal import cli, leftovers, progress
leftovers.create(lambda token: pathlib.Path({str(tmp_path)!r}, token), pathlib.Path.touch)
cli.exit_code(lambda: [progress.say("x" * 100) for _ in range(10**5)])
"""
  command = [sys.executable, "-c", code]
  with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
    try:
      process.stdout.read(1)
      time.sleep(0.5)  # the pipe is full
      process.terminate()
      assert process.wait(30) == 75
    finally:
      process.kill()
  assert not list(tmp_path.iterdir())


def test_sighup_stays_ignored_under_nohup():
  code = """
import os, signal, time
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from swin_jax.terminal import preemption
with preemption.watch():
  os.kill(os.getpid(), signal.SIGHUP)
  time.sleep(0.3)
  print(preemption.requested())
"""
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
  assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
