"""What a run tells: metrics as JSON lines, TensorBoard and pictures; FLOPs a second and MFU."""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import json
import pathlib
import time
from typing import Any

import jax
import numpy as np
from PIL import Image

from swin_jax.mesh import hardware
from swin_jax.terminal import files
from swin_jax.terminal.progress import duration, say

INPUT_BOUND = 0.2  # of the time waiting for data, from which on the log says so


class Mean:
  """Sums and counts by name, added up and divided once; numbers, or arrays [classes]."""

  def __init__(self, sums: Mapping[str, tuple[float, float]] = ()):
    self.sums = {name: tuple(pair) for name, pair in dict(sums).items()}

  def add(self, sums: Mapping[str, tuple[Any, Any]]) -> None:
    for name, pair in sums.items():
      # In float64: float32 would lose single pixels from 16 million on.
      pair = [np.asarray(each, np.float64) if np.ndim(each) else float(each) for each in pair]
      old = self.sums.get(name, (0.0, 0.0))
      self.sums[name] = (old[0] + pair[0], old[1] + pair[1])

  def compute(self, prefix: str, class_names: Sequence[str] = ()) -> dict[str, float]:
    """The means; of an array, mean_NAME over the classes that were there, and NAME/CLASS of each."""
    means = {}
    for name, (value, count) in self.sums.items():
      if np.ndim(count):
        each = {i: value[i] / count[i] for i in np.flatnonzero(count)}
        means[f"{prefix}mean_{name}"] = float(np.mean(list(each.values()))) if each else 0.0
        means |= {
          f"{prefix}{name}/{class_names[i] if i < len(class_names) else i}": float(mean)
          for i, mean in each.items()
        }
      elif count:
        means[prefix + name] = value / count
    return means


def in_short(values: Mapping[str, float]) -> str:
  """Means in a line, without those of single classes, which the metrics file has."""
  return "  ".join(f"{name} {value:.4f}" for name, value in values.items() if name.count("/") < 2)


class Clock:
  """Where the time goes, and how fast training is, between two entries of the log.

  Nothing waits for the device to be timed: a step's metrics are read while the next one runs, so the loop's
  own time is the device's.

  Args:
    batch_size: images a step.
    flops_per_image: of forward and backward pass.
  """

  def __init__(self, batch_size: int, flops_per_image: int):
    self._batch_size, self._flops = batch_size, flops_per_image
    self._peak = hardware.peak_flops(jax.devices()[0].device_kind)
    self.restart()

  def restart(self) -> None:
    """Begins anew, where what went before was no training: compiling."""
    self._since, self._steps, self._seconds = (
      time.perf_counter(),
      0,
      {"data": 0.0, "checkpoint": 0.0, "evaluation": 0.0},
    )

  def step(self) -> None:
    self._steps += 1

  @contextlib.contextmanager
  def measure(self, kind: str):
    """Counts what it encloses as time for "data", "checkpoint" or "evaluation"; the rest is "compute"."""
    start = time.perf_counter()
    try:
      yield
    finally:
      self._seconds[kind] += time.perf_counter() - start

  def compute(self) -> dict[str, float]:
    """Seconds by kind since the last entry; images and FLOPs per second of training, and MFU where the
    device's peak is known.
    """
    seconds = self._seconds | {"compute": time.perf_counter() - self._since - sum(self._seconds.values())}
    rate = self._steps * self._batch_size / max(seconds["compute"] + seconds["data"], 1e-9)
    self.restart()
    values = {"perf/images_per_second": rate, "perf/tflops_per_second": rate * self._flops / 1e12}
    if self._peak:
      values["perf/mfu"] = rate * self._flops / (self._peak * jax.device_count())
    return values | {f"perf/{kind}_seconds": value for kind, value in seconds.items()}


class Writer:
  """Writes `metrics.jsonl`, TensorBoard events and pictures of a run into its workdir; does nothing but on
  process 0.

  Args:
    workdir: the run's folder.
    step: the step the run continues from; lines of later steps, written before an interruption, are dropped.
    evaluated: whether this step's evaluation is done; if not, it will be written again.
  """

  def __init__(self, workdir: str, step: int, evaluated: bool):
    self._workdir = pathlib.Path(workdir)
    self.nonfinite_path = self._workdir / "nonfinite.jsonl"
    self._active = jax.process_index() == 0
    if not self._active:
      return
    path = self._workdir / "metrics.jsonl"
    for file in (path, self.nonfinite_path):
      if file.exists():
        kept = [line for line in file.read_text().splitlines() if _is_before(line, step, evaluated)]
        files.write(file, "".join(line + "\n" for line in kept))
    import tensorboardX  # slow, where there is a torch for it to import

    self._lines = path.open("a")
    self._board = tensorboardX.SummaryWriter(str(self._workdir / "tensorboard"), purge_step=step + 1)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    if not self._active:
      return
    self._lines.write(json.dumps({"step": step} | dict(values)) + "\n")
    self._lines.flush()
    for name, value in values.items():
      self._board.add_scalar(name, value, step)

  def nonfinite(self, step: int, records: list[int]) -> None:
    """Writes down which records a step held that was left out."""
    if self._active:
      with self.nonfinite_path.open("a") as file:
        file.write(json.dumps({"step": step, "records": records}) + "\n")

  def pictures(
    self, step: int, name: str, images: np.ndarray, legend: Callable[[np.ndarray], np.ndarray]
  ) -> pathlib.Path | None:
    """Writes uint8 [rows, columns, height, width, bands] as one grid, PNG and TensorBoard; one band is grey,
    else the first three.

    `legend` puts what its colours mean under the grid.
    """
    if not self._active:
      return None
    grid = legend(picture_grid(images))
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
  """uint8 [rows, columns, height, width, bands] → uint8 [y, x, 3]; small images are enlarged so that a person
  sees them.
  """
  images = images[..., :3] if images.shape[-1] >= 3 else np.repeat(images[..., :1], 3, axis=-1)
  zoom = max(1, 96 // images.shape[2])
  images = images.repeat(zoom, axis=2).repeat(zoom, axis=3)
  images = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
  rows, columns, height, width, _ = images.shape
  return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)


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
    bound = f"  {waiting:.0%} of the time waits for data" if waiting > INPUT_BOUND else ""
    say(f"step {step}/{self._total}  {shown}{left}{bound}")


class Profiler:
  """A profile of some steps, for TensorBoard or Perfetto, in `<workdir>/profile`.

  Args:
    workdir: the run's folder.
    start_step: the first step of the profile.
    num_steps: how many; 0 for no profile.
  """

  def __init__(self, workdir: str, start_step: int, num_steps: int):
    self._folder, self._first, self._last, self._running = (
      f"{workdir}/profile",
      start_step,
      start_step + num_steps - 1,
      False,
    )

  def step(self, step: int):
    """The context a step is dispatched in."""
    if self._first == step <= self._last:
      jax.profiler.start_trace(self._folder)
      self._running = True
    return jax.profiler.StepTraceAnnotation("train", step_num=step)

  def after(self, step: int, sums: Any) -> None:
    """Ends the profile after its last step, when the device has finished it."""
    if self._running and step == self._last:
      jax.block_until_ready(sums)
      self.close()
      say(f"profile of steps {self._first} to {self._last} in {self._folder}")

  def close(self) -> None:
    if self._running:
      self._running = False
      jax.profiler.stop_trace()


def _is_before(line: str, step: int, evaluated: bool) -> bool:
  try:
    entry = json.loads(line)
    return entry["step"] < step or (
      entry["step"] == step and (evaluated or not any(name.startswith("eval/") for name in entry))
    )
  except (ValueError, KeyError, TypeError):
    return False  # cut short by an interruption
