"""What the person at the terminal is told while something takes its time."""

import time

_process = 0  # of several, the number of this one


class Progress:
  """Says every ten seconds how far something has come."""

  def __init__(self, what: str, total: float):
    self._what, self._total, self._start = what, total, time.perf_counter()
    self._said, self._done = self._start, 0

  def step(self, by: float = 1) -> None:
    self._done += by
    now = time.perf_counter()
    if now - self._said > 10:
      self._said = now
      left = duration((now - self._start) / self._done * (self._total - self._done))
      say(f"{self._what}: {self._done:,.0f} of {self._total:,.0f}, {left} left")


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
