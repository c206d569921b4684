"""How long a run takes, and for what; FLOPs a second and MFU."""

import contextlib
import time

import jax

from swin_jax.mesh import hardware


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
