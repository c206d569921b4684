"""What a run tells: metrics as JSON lines, TensorBoard, pictures, one line of progress; FLOPs a second and MFU."""

from collections.abc import Mapping
import json
import os
import pathlib
import time

import jax
import numpy as np
from PIL import Image
import tensorboardX

from swin_jax import chips


class Mean:
  """Sums and counts by name, added up and divided once."""

  def __init__(self, sums: Mapping[str, tuple[float, float]] = ()):
    self.sums = {name: tuple(pair) for name, pair in dict(sums).items()}

  def add(self, sums: Mapping[str, tuple[float, float]]) -> None:
    for name, (value, count) in sums.items():
      old = self.sums.get(name, (0.0, 0.0))
      self.sums[name] = (old[0] + float(value), old[1] + float(count))

  def compute(self, prefix: str) -> dict[str, float]:
    return {prefix + name: value / count for name, (value, count) in self.sums.items() if count}


class Throughput:
  """Images per second, FLOPs per second and, where the device's peak is known, MFU since the last call."""

  def __init__(self, batch_size: int, flops_per_image: int):
    self._batch_size, self._flops = batch_size, flops_per_image
    self._peak = chips.peak_flops(jax.devices()[0].device_kind)
    self._since, self._steps = time.perf_counter(), 0

  def step(self) -> None:
    self._steps += 1

  def restart(self) -> None:
    """Leaves out of the next figure what was no training: evaluation, compiling."""
    self._since, self._steps = time.perf_counter(), 0

  def compute(self) -> dict[str, float]:
    rate = self._steps * self._batch_size / max(time.perf_counter() - self._since, 1e-9)
    self.restart()
    values = {"perf/images_per_second": rate, "perf/tflops_per_second": rate * self._flops / 1e12}
    if self._peak:
      values["perf/mfu"] = rate * self._flops / (self._peak * jax.device_count())
    return values


class Writer:
  """Writes `metrics.jsonl`, TensorBoard events and pictures of a run into its workdir; does nothing but on process 0.

  Args:
    workdir: the run's folder.
    step: the step the run continues from; lines of later steps, written before an interruption, are dropped.
  """

  def __init__(self, workdir: str, step: int):
    self._active = jax.process_index() == 0
    if not self._active:
      return
    self._workdir = pathlib.Path(workdir)
    path = self._workdir / "metrics.jsonl"
    if path.exists():
      kept = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
      partial = path.with_suffix(".partial")
      partial.write_text("".join(line + "\n" for line in kept))
      os.replace(partial, path)
    self._lines = path.open("a")
    self._board = tensorboardX.SummaryWriter(str(self._workdir / "tensorboard"), purge_step=step + 1)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    if not self._active:
      return
    self._lines.write(json.dumps({"step": step} | dict(values)) + "\n")
    self._lines.flush()
    for name, value in values.items():
      self._board.add_scalar(name, value, step)

  def pictures(self, step: int, name: str, images: np.ndarray) -> pathlib.Path | None:
    """Writes uint8 [rows, columns, height, width, bands] as one grid, PNG and TensorBoard; one band is grey, else the first three."""
    if not self._active:
      return None
    grid = picture_grid(images)
    folder = self._workdir / "pictures"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{step:07d}.png"
    Image.fromarray(grid).save(path)
    self._board.add_image(name, grid, step, dataformats="HWC")
    return path

  def close(self) -> None:
    if self._active:
      self._lines.close()
      self._board.close()


def picture_grid(images: np.ndarray) -> np.ndarray:
  """uint8 [rows, columns, height, width, bands] → uint8 [y, x, 3]; small images are enlarged so that a person sees them."""
  images = images[..., :3] if images.shape[-1] >= 3 else np.repeat(images[..., :1], 3, axis=-1)
  zoom = max(1, 96 // images.shape[2])
  images = images.repeat(zoom, axis=2).repeat(zoom, axis=3)
  images = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
  rows, columns, height, width, _ = images.shape
  return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)


class TrainLog:
  """Sums of the steps, written as means every so many steps, with throughput and the time left.

  Args:
    writer: where to.
    first: step that the run starts from.
    total: last step.
    every_steps: between two entries.
    throughput: of this run.
    sums: of the steps since the last entry, where a checkpoint was made in between.
  """

  def __init__(self, writer: Writer, first: int, total: int, every_steps: int, throughput: Throughput, sums: Mapping[str, tuple]):
    self._writer, self._first, self._total, self._every = writer, first, total, every_steps
    self._throughput, self._interval, self._start = throughput, Mean(sums), None

  @property
  def sums(self) -> dict[str, tuple[float, float]]:
    """What a checkpoint must hold for the next entry to be the same after it."""
    return self._interval.sums

  def add(self, step: int, sums: Mapping[str, tuple[float, float]]) -> None:
    """Takes the sums of one step, and writes an entry when it is due."""
    self._interval.add(sums)
    if self._start is None:  # compiling is over: the first step tells nothing of the others
      self._start, self._first = time.perf_counter(), step
    if step % self._every == 0 or step == self._total:
      self.write(step, self._interval.compute("train/") | self._throughput.compute())
      self._interval = Mean()

  def write(self, step: int, values: Mapping[str, float]) -> None:
    """Writes an entry and a line of progress."""
    self._writer.scalars(step, values)
    left = (time.perf_counter() - (self._start or time.perf_counter())) / max(step - self._first, 1) * (self._total - step)
    shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
    say(f"step {step}/{self._total}  {shown}  {duration(left)} left")


def say(line: str) -> None:
  """Prints a line for the person at the terminal, once however many processes there are."""
  if jax.process_index() == 0:
    print(line, flush=True)


def duration(seconds: float) -> str:
  """Seconds as "1:02:03" or "2:03"."""
  minutes, seconds = divmod(round(seconds), 60)
  hours, minutes = divmod(minutes, 60)
  return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _step_of(line: str) -> float:
  try:
    return json.loads(line)["step"]
  except (ValueError, KeyError, TypeError):
    return float("inf")  # cut short by an interruption
