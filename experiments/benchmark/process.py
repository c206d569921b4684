"""A contestant's process, as seen by its parent: it is started, given its turns, and ended."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any

from swin_jax.terminal.errors import Fault

LOG_LINES = 40  # the last lines of a process's output that are kept


class Ended(Fault):
  """A contestant ended before it was told to.

  Attributes:
    log: the last lines of its output.
    out_of_memory: whether it ran out of device memory.
  """

  def __init__(self, message: str, log: str):
    super().__init__(message)
    self.log = log
    self.out_of_memory = bool(re.search(r"RESOURCE_EXHAUSTED|OutOfMemory|out of memory", log, re.I))


class Process:
  """A contestant that is warmed up when the constructor returns, and ends with the `with` block.

  Attributes:
    ready: the "versions" of its libraries, and the "deviation" of its logits, None if it was not checked.
  """

  def __init__(
    self, name: str, work: dict[str, Any], environment: dict[str, str], limit_seconds: float | None = None
  ):
    """Starts the process and waits until it is ready.

    Args:
      name, work: as `contestant.main` takes them.
      environment: variables in addition to those of this process.
      limit_seconds: time after which the process is killed; None: never.

    Raises:
      Ended: it failed, or took too long.
    """
    self._name, self._late = name, False
    self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  (`close` closes it)
    began = time.perf_counter()
    self._process = subprocess.Popen(
      [sys.executable, "-m", "experiments.benchmark.contestant", name, json.dumps(work)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=self._errors,
      text=True,
      env=os.environ | environment,
      start_new_session=True,
    )
    self._timer = threading.Timer(limit_seconds or threading.TIMEOUT_MAX, self._stop, [True])
    self._timer.daemon = True
    self._timer.start()
    try:
      self.ready = self._answer("ready", "before it was ready")
    except BaseException:
      self.close()
      raise
    print(f"{name}: ready after {time.perf_counter() - began:.0f} s", flush=True)

  def run(self, kind: str, times: int) -> dict[str, Any]:
    """Makes it process `times` batches; returns the "seconds" that they took, and the "peak_bytes" of the
    device's memory so far.

    Raises:
      Ended: it failed, or took too long.
    """
    with contextlib.suppress(BrokenPipeError):  # reading the answer then fails, too
      self._process.stdin.write(f"{kind} {times}\n")
      self._process.stdin.flush()
    return self._answer("took", f"in its {kind} turn")

  def _answer(self, word, when):
    for line in self._process.stdout:  # skips the output of the libraries
      if line.startswith(f"{word} "):
        return json.loads(line.removeprefix(f"{word} "))
    code = self._process.wait()
    self._errors.seek(0)
    lines = self._errors.read().strip().splitlines()
    errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|BadInput)\b", line)]
    reason = "it took too long" if self._late else (errors or lines or ["it said nothing"])[-1]
    raise Ended(
      f"{self._name} ended with {code} {when}: {reason[:300]}", "\n".join([*lines[-LOG_LINES:], reason])
    )

  def _stop(self, late=False):
    self._late = late
    with contextlib.suppress(ProcessLookupError):
      os.killpg(self._process.pid, signal.SIGKILL)  # including the processes that compile for it

  def close(self) -> None:
    """Ends the process, and any that it started."""
    with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
      self._process.stdin.close()
      self._process.wait(20)
    self._timer.cancel()
    self._stop()
    self._process.wait()
    self._process.stdout.close()
    self._errors.close()

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.close()
