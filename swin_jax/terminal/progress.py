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
_said = time.perf_counter()  # when the last line was printed
_turn = threading.Lock()  # of the threads that decide whether a line is due
_waits: list[object] = []  # blocks of `waiting`, the innermost last
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
    if now - self._printed < SECONDS_BETWEEN_LINES or self._done >= self._total:
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


@contextlib.contextmanager
def waiting(what: str | Callable[[], str]):
  """Prints a line whenever this block has been silent for long; of nested blocks, the innermost does.

  Args:
    what: what the block does, or a function that returns the line.
  """
  start, ended, block = time.perf_counter(), threading.Event(), object()

  def remind():
    while not ended.wait(max(_said + SECONDS_BETWEEN_LINES - time.perf_counter(), 0.1)):
      with _turn:
        is_due = time.perf_counter() - _said >= SECONDS_BETWEEN_LINES and _waits[-1:] == [block]
        if is_due and not ended.is_set():
          say(f"{what} ... {_since(start)}".rstrip() if isinstance(what, str) else what())

  _waits.append(block)
  thread = threading.Thread(target=remind, daemon=True)
  thread.start()
  try:
    yield
  finally:
    ended.set()
    thread.join()
    _waits.remove(block)


def patiently(what: str, function: Callable[[], Any]) -> Any:
  """Says what a function does, runs it in a thread, so that Ctrl-C is handled meanwhile, and says in a long
  silence that it is still running.
  """
  result = concurrent.futures.Future()

  def run():
    try:
      result.set_result(function())
    except BaseException as error:  # raised again by the waiting thread
      result.set_exception(error)

  say(f"{what} ...")
  with waiting(what):
    threading.Thread(target=run, daemon=True).start()
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
  global _is_silent, _said
  if _process != 0:
    return
  _said = time.perf_counter()
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


def _since(start: float) -> str:
  """Formats the time since `start`; "" if it has just been."""
  seconds = time.perf_counter() - start
  return duration(seconds) if seconds >= 1 else ""


def duration(seconds: float) -> str:
  """Formats seconds as "1:02:03" or "2:03"."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
