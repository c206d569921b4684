"""Stop requests within one process."""

import os
import signal
import time

from swin_jax.terminal import preemption


def test_a_second_command_of_a_process_does_not_stop_for_the_first():
  before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
  with preemption.watch():
    preemption.protect()
    assert not preemption.requested()
    os.kill(os.getpid(), signal.SIGTERM)
    deadline = time.monotonic() + 60
    while not preemption.requested() and time.monotonic() < deadline:
      time.sleep(0.01)
    assert preemption.requested() and preemption.exit_code() == 75
  with preemption.watch():
    assert not preemption.requested()
  assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
