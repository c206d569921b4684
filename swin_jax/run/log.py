"""Logs the metrics of a run: when they are written, and what is printed of them."""

from collections.abc import Mapping
import time

from swin_jax.run.clock import Clock
from swin_jax.run.metrics import Mean
from swin_jax.run.schedule import Schedule
from swin_jax.run.step import FORWARD_PASSES
from swin_jax.run.writer import Writer
from swin_jax.terminal.lines import WIDTH
from swin_jax.terminal.progress import duration, say

INPUT_BOUND = 0.2  # fraction of the time spent waiting for data above which the log mentions it


class TrainLog:
  """Sums the metrics of training steps and logs their means at a fixed interval, with speed and time left.

  Args:
    writer: writes the entries.
    clock: clock of this run.
    schedule: steps of this run.
    first: step that the run starts from.
    best: metric that ranks checkpoints; the lines show its value in the latest evaluation.
    eval_batches: size of the evaluation set in training batches.
    sums: sums since the last entry, from the checkpoint that the run continues from; empty for a new run.
    evaluation: metrics of the latest evaluation; None if there was none.
    started: when the command began, by time.perf_counter.
  """

  def __init__(
    self,
    writer: Writer,
    clock: Clock,
    schedule: Schedule,
    *,
    first: int,
    best: str,
    eval_batches: float,
    sums: Mapping[str, tuple],
    evaluation: Mapping[str, float] | None,
    started: float,
  ):
    self.writer, self.clock = writer, clock
    self._schedule, self._first, self._best, self._started = schedule, first, best, started
    self._interval, self._evaluation, self._step = Mean(sums), evaluation or {}, first
    # Since the first step was compiled.
    self._seconds = {"train": 0.0, "checkpoint": 0.0}
    self._eval_batches, self._evaluation_seconds = eval_batches, None

  @property
  def sums(self) -> dict[str, tuple[float, float]]:
    """The sums since the last entry; stored in checkpoints, so that a resumed run writes the same entries."""
    return dict(self._interval.sums)

  def add(self, step: int, sums: Mapping[str, tuple[float, float]]) -> None:
    """Adds the sums of one step, and writes an entry when one is due."""
    self._interval.add(sums)
    self.clock.step()
    self._step = step
    if self._schedule.is_due("log", step):
      perf = self.clock.compute()
      self._seconds["train"] += perf["perf/data_seconds"] + perf["perf/compute_seconds"]
      self._seconds["checkpoint"] += perf["perf/checkpoint_seconds"]
      values = self._interval.compute("train/") | perf
      self._interval = Mean()
      self._write(step, values)
      say(self._line(step, values))

  def add_evaluation(
    self, step: int, values: Mapping[str, float], seconds: float, compile_seconds: float
  ) -> None:
    """Writes the metrics of an evaluation that took some seconds, some of them for compilation."""
    self._evaluation, self._evaluation_seconds = values, seconds - compile_seconds
    self._write(step, values | {"perf/evaluation_seconds": seconds})
    shown = {self._best: values[self._best]} | values
    metrics = [f"{name} {value:.4g}" for name, value in shown.items() if name.count("/") < 2]
    say(_fitted([*self._position(step), f"evaluated in {duration(seconds)}", *metrics]))

  def position(self) -> str:
    """Returns the step that the run works on, for a line in a long silence."""
    return "  ".join([*self._position(min(self._step + 1, self._schedule.total)), "..."])

  def _position(self, step: int) -> list[str]:
    return [f"step {step}/{self._schedule.total}", f"epoch {self._schedule.epoch(step):.2f}"]

  def _write(self, step: int, values: Mapping[str, float]) -> None:
    elapsed = time.perf_counter() - self._started
    about = {"epoch": self._schedule.epoch(step), "elapsed_seconds": elapsed, "time": time.time()}
    self.writer.scalars(step, values, about)

  def _line(self, step: int, values: Mapping[str, float]) -> str:
    line = [*self._position(step)]
    line += [f"loss {values['train/loss']:.4g}"] if "train/loss" in values else []
    metric = [f"{self._best} {self._evaluation[self._best]:.4g}"] if self._best in self._evaluation else []
    end = [f"rate {values['train/learning_rate']:.3g}"] if "train/learning_rate" in values else []
    rate = values["perf/images_per_second"]
    end += [f"{rate:,.{0 if rate >= 10 else 2}f} images/s", f"{duration(self._left(step))} left"]
    data, compute = values["perf/data_seconds"], values["perf/compute_seconds"]
    waiting = data / max(compute + data, 1e-9)
    end += [f"{waiting:.0%} waiting for data"] if waiting > INPUT_BOUND else []
    whole = [*line, *metric, *end]
    return _fitted(whole if len("  ".join(whole)) <= WIDTH else [*line, *end])

  def _left(self, step: int) -> float:
    """Returns the seconds until the end of the run, with the evaluations and saves that are due from here."""
    done, rest = (self._first, max(step - 1, self._first)), (step - 1, self._schedule.total)
    evaluations = self._schedule.count("evaluate", *rest)
    saves, saves_left = (
      sum(self._schedule.count(what, *steps) for what in ("save", "evaluate")) for steps in (done, rest)
    )
    a_step = self._seconds["train"] / max(step - self._first, 1)
    evaluation = self._evaluation_seconds
    if evaluation is None:  # taken to be as fast as a forward pass
      evaluation = a_step * self._eval_batches / FORWARD_PASSES
    a_save = self._seconds["checkpoint"] / max(saves, 1)
    return a_step * (self._schedule.total - step) + evaluation * evaluations + a_save * saves_left


def in_short(values: Mapping[str, float]) -> str:
  """Formats metrics as one line, without those of single classes, which the metrics file contains."""
  return "  ".join(f"{name} {value:.4f}" for name, value in values.items() if name.count("/") < 2)


def _fitted(parts: list[str]) -> str:
  """Joins as many of the parts as fit into a line."""
  line = parts[0]
  for part in parts[1:]:
    if len(line) + 2 + len(part) <= WIDTH:
      line += f"  {part}"
  return line
