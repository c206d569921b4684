"""Times the parts of a training run; computes images per second, FLOPs per second and MFU."""

import contextlib
import time

import jax

from swin_jax.mesh import hardware


class Clock:
  """Measures training speed, and where the time goes, between two entries of the log.

  Timing adds no synchronisation with the device: the loop reads the metrics of a step while the next step
  runs, so the time of the loop is the time of the device.

  Args:
    batch_size: images per step.
    flops_per_image: FLOPs of the forward and the backward pass.
  """

  def __init__(self, batch_size: int, flops_per_image: int):
    self._batch_size, self._flops = batch_size, flops_per_image
    self._peak = hardware.peak_flops(jax.devices()[0].device_kind)
    self.restart()

  def restart(self) -> None:
    """Discards the measurements so far, for example those taken during compilation."""
    self._since, self._steps, self._seconds = (
      time.perf_counter(),
      0,
      {"data": 0.0, "checkpoint": 0.0, "evaluation": 0.0},
    )

  def step(self) -> None:
    self._steps += 1

  @contextlib.contextmanager
  def measure(self, kind: str):
    """Counts the time of this block as "data", "checkpoint" or "evaluation"; all other time is "compute"."""
    start = time.perf_counter()
    try:
      yield
    finally:
      self._seconds[kind] += time.perf_counter() - start

  def compute(self) -> dict[str, float]:
    """Returns the measurements since the last entry, and restarts.

    Returns:
      perf/NAME → value: seconds of each kind, images and TFLOPs per second of training, and MFU if the peak
      of the device is known.
    """
    seconds = self._seconds | {"compute": time.perf_counter() - self._since - sum(self._seconds.values())}
    rate = self._steps * self._batch_size / max(seconds["compute"] + seconds["data"], 1e-9)
    self.restart()
    values = {"perf/images_per_second": rate, "perf/tflops_per_second": rate * self._flops / 1e12}
    if self._peak:
      values["perf/mfu"] = rate * self._flops / (self._peak * jax.device_count())
    return values | {f"perf/{kind}_seconds": value for kind, value in seconds.items()}
