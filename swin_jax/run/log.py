"""What a run prints of its metrics, and when it writes them down."""

from collections.abc import Mapping
import time

from swin_jax.run.clock import Clock
from swin_jax.run.metrics import Mean
from swin_jax.run.writer import Writer
from swin_jax.terminal.progress import duration, say

INPUT_BOUND = 0.2  # of the time waiting for data, from which on the log says so


class TrainLog:
  """Sums of the steps, written as means every so many steps, with speed and the time left.

  Args:
    writer: where to.
    clock: of this run.
    first: step that the run starts from.
    total: last step.
    every_steps: between two entries.
    sums: of the steps since the last entry, where a checkpoint was made in between.
  """

  def __init__(
    self, writer: Writer, clock: Clock, first: int, total: int, every_steps: int, sums: Mapping[str, tuple]
  ):
    self.writer, self.clock = writer, clock
    self._first, self._total, self._every = first, total, every_steps
    self._interval, self._start = Mean(sums), None

  @property
  def sums(self) -> dict[str, tuple[float, float]]:
    """What a checkpoint must hold for the next entry to be the same after it."""
    return dict(self._interval.sums)

  def add(self, step: int, sums: Mapping[str, tuple[float, float]]) -> None:
    """Takes the sums of one step, and writes an entry when it is due."""
    self._interval.add(sums)
    self.clock.step()
    if self._start is None:  # compiling is over: the first step tells nothing of the others
      self._start, self._first = time.perf_counter(), step
    if step % self._every == 0 or step == self._total:
      self.write(step, self._interval.compute("train/") | self.clock.compute())
      self._interval = Mean()

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes an entry and a line of progress."""
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
  """Means in a line, without those of single classes, which the metrics file has."""
  return "  ".join(f"{name} {value:.4f}" for name, value in values.items() if name.count("/") < 2)
