"""Logs the metrics of a run: when they are written, and what is printed of them."""

from collections.abc import Mapping
import time

from swin_jax.run.clock import Clock
from swin_jax.run.metrics import Mean
from swin_jax.run.writer import Writer
from swin_jax.terminal.progress import duration, say

INPUT_BOUND = 0.2  # fraction of the time spent waiting for data above which the log mentions it


class TrainLog:
  """Sums the metrics of training steps and logs their means at a fixed interval, with speed and time left.

  Args:
    writer: writes the entries.
    clock: clock of this run.
    first: step that the run starts from.
    total: last step.
    every_steps: number of steps between two entries.
    sums: sums since the last entry, from the checkpoint that the run continues from; empty for a new run.
  """

  def __init__(
    self, writer: Writer, clock: Clock, first: int, total: int, every_steps: int, sums: Mapping[str, tuple]
  ):
    self.writer, self.clock = writer, clock
    self._first, self._total, self._every = first, total, every_steps
    self._interval, self._start = Mean(sums), None

  @property
  def sums(self) -> dict[str, tuple[float, float]]:
    """The sums since the last entry; stored in checkpoints, so that a resumed run writes the same entries."""
    return dict(self._interval.sums)

  def add(self, step: int, sums: Mapping[str, tuple[float, float]]) -> None:
    """Adds the sums of one step, and writes an entry when one is due."""
    self._interval.add(sums)
    self.clock.step()
    if self._start is None:  # excludes the first step, whose time includes compilation
      self._start, self._first = time.perf_counter(), step
    if step % self._every == 0 or step == self._total:
      self.write(step, self._interval.compute("train/") | self.clock.compute())
      self._interval = Mean()

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes an entry and prints a progress line."""
    self.writer.scalars(step, values)
    left = ""
    if self._start is not None:
      seconds = (time.perf_counter() - self._start) / max(step - self._first, 1) * (self._total - step)
      left = f"  {duration(seconds)} left"
    shown = "  ".join(
      f"{name} {value:.4g}"
      for name, value in values.items()
      if not name.endswith("_seconds") and name.count("/") < 2
    )
    data, compute = values.get("perf/data_seconds", 0.0), values.get("perf/compute_seconds", 0.0)
    waiting = data / max(compute + data, 1e-9)
    bound = f"  {waiting:.0%} of the time spent waiting for data" if waiting > INPUT_BOUND else ""
    say(f"step {step}/{self._total}  {shown}{left}{bound}")


def in_short(values: Mapping[str, float]) -> str:
  """Formats metrics as one line, without those of single classes, which the metrics file contains."""
  return "  ".join(f"{name} {value:.4f}" for name, value in values.items() if name.count("/") < 2)
