"""What a command prints while something takes its time."""

from collections.abc import Callable
import concurrent.futures
import threading
import time
from typing import Any

SECONDS_BETWEEN_LINES = 10

_process = 0  # of several, the number of this one


class Progress:
  """Prints every few seconds how far something has come, at what rate, and how long it will take from there.

  Args:
    what: is done; the lines begin with it.
    total: how much there is to do.
    unit: what is counted, in the plural; without it no rate is printed.
    before: how much was done before this process began.
  """

  def __init__(self, what: str, total: float, unit: str = "", before: float = 0):
    self._what, self._total, self._unit = what, total, unit
    self._before = self._done = before
    self._start = self._printed = time.perf_counter()

  def step(self, by: float = 1) -> None:
    """Counts, and prints a line when one is due."""
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
    """Prints the last line: how much, how long, how much of it was there before, and a note."""
    seconds = time.perf_counter() - self._start
    before = f", {self._before:,.0f} were there before" if self._before else ""
    say(f"{self._what}  {self._done:,.0f} {self._unit} in {seconds:.1f} s{before}{note}")


def patiently(what: str, function: Callable[[], Any]) -> Any:
  """Runs a function whose progress is unknown; prints what is done and, every few seconds, for how long.

  The function runs in a thread, so that Ctrl-C is heard meanwhile.
  """
  start, result = time.perf_counter(), concurrent.futures.Future()

  def run():
    try:
      result.set_result(function())
    except BaseException as error:  # raised again by the thread that waits
      result.set_exception(error)

  say(f"{what} ...")
  threading.Thread(target=run, daemon=True).start()
  while not concurrent.futures.wait([result], timeout=SECONDS_BETWEEN_LINES).done:
    say(f"{what} ... {time.perf_counter() - start:.0f} s")
  return result.result()


def set_process(index: int) -> None:
  """Tells which of several processes this one is: only process 0 prints."""
  global _process
  _process = index


def say(line: str) -> None:
  """Prints a line for the person at the terminal, once however many processes there are."""
  if _process == 0:
    print(line, flush=True)


def duration(seconds: float) -> str:
  """Seconds as "1:02:03" or "2:03"."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
