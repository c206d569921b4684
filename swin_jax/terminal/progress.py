"""Progress lines that a command prints during long operations."""

from collections.abc import Callable
import concurrent.futures
import contextlib
import sys
import threading
import time
from typing import Any

from swin_jax.terminal.printable import printable

SECONDS_BETWEEN_LINES = 10
_LONGEST = 2000  # characters of each end of a warning

_process = 0  # index of this process
_is_silent = False  # whether the output could not be written


class Progress:
  """Prints progress, rate and remaining time every few seconds.

  Args:
    what: the operation; the lines begin with it.
    total: the total amount of work.
    unit: of the amount, in the plural; without it no rate is printed.
    before: amount done before this process began.
  """

  def __init__(self, what: str, total: float, unit: str = "", before: float = 0):
    self._what, self._total, self._unit = what, total, unit
    self._before = self._done = before
    self._start = self._printed = time.perf_counter()

  def step(self, by: float = 1) -> None:
    """Adds to the amount done, and prints a line when one is due."""
    self._done += by
    now = time.perf_counter()
    if now - self._printed < SECONDS_BETWEEN_LINES:
      return
    self._printed = now
    rate = (self._done - self._before) / (now - self._start)
    speed = f"  {rate:,.{0 if rate >= 10 else 1}f} {self._unit}/s" if self._unit else ""
    left = duration((self._total - self._done) / rate)
    say(f"{self._what}  {self._done:,.0f}/{self._total:,.0f}{speed}  {left} left")

  def finish(self, note: str = "") -> None:
    """Prints the last line: the amount, the time, the amount done before this process began, and a note."""
    seconds = time.perf_counter() - self._start
    before = f", {self._before:,.0f} existed before" if self._before else ""
    say(f"{self._what}  {self._done:,.0f} {self._unit} in {seconds:.1f} s{before}{note}")


def patiently(what: str, function: Callable[[], Any]) -> Any:
  """Runs a function of unknown progress; prints the operation and its duration every few seconds.

  The function runs in a thread, so that Ctrl-C is handled meanwhile.
  """
  start, result = time.perf_counter(), concurrent.futures.Future()

  def run():
    try:
      result.set_result(function())
    except BaseException as error:  # raised again by the waiting thread
      result.set_exception(error)

  say(f"{what} ...")
  threading.Thread(target=run, daemon=True).start()
  while not concurrent.futures.wait([result], timeout=SECONDS_BETWEEN_LINES).done:
    say(f"{what} ... {time.perf_counter() - start:.0f} s")
  return result.result()


def set_process(index: int) -> None:
  """Sets the index of this process; only process 0 prints."""
  global _process
  _process = index


def say(*lines: str) -> None:
  """Prints lines for the user, once for all processes of a run.

  Newlines and other control characters inside a line are escaped, so that no name of a file can pass for a
  line. If the output cannot be written, because its disk is full or its reader is gone, the work goes on.
  """
  global _is_silent
  if _process != 0:
    return
  try:
    print("\n".join(map(printable, lines)), flush=True)
  except OSError as error:
    if not _is_silent:
      _is_silent = True
      warn(f"the output cannot be written ({error.strerror}); the work goes on")


def warn(line: str) -> None:
  """Prints a line on stderr, from any process, with the name of the program.

  If it cannot be written, the work goes on. A very long line, such as one with names from a hostile
  file, loses its middle.
  """
  text = printable(line)
  if len(text) > 2 * _LONGEST:  # the end says how to mend it
    text = f"{text[:_LONGEST]} … {text[-_LONGEST:]}"
  with contextlib.suppress(OSError):
    print(f"swin_jax: {text}", file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
  """Formats seconds as "1:02:03" or "2:03"."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
