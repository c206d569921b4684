"""Profiles some steps of a run."""

from collections.abc import Callable
from typing import Any

import jax

from swin_jax.terminal.progress import say, warn


class Profiler:
  """Writes a profile of some steps, for TensorBoard or Perfetto, to `<workdir>/profile`.

  Args:
    workdir: the run's folder.
    start_step: first step of the profile.
    num_steps: number of steps; 0 for no profile.
  """

  def __init__(self, workdir: str, start_step: int, num_steps: int):
    self._folder, self._first, self._last, self._running = (
      f"{workdir}/profile",
      start_step,
      start_step + num_steps - 1,
      False,
    )

  def step(self, step: int):
    """Returns the context in which to dispatch a step; starts the profile at its first step."""
    if self._first == step <= self._last:
      self._running = self._attempt(lambda: jax.profiler.start_trace(self._folder))
    return jax.profiler.StepTraceAnnotation("train", step_num=step)

  def after(self, step: int, sums: Any) -> None:
    """Ends the profile after its last step, once the device has computed `sums`."""
    if self._running and step == self._last:
      jax.block_until_ready(sums)
      if self.close():
        say(f"profile of steps {self._first} to {self._last} in {self._folder}")

  def close(self) -> bool:
    """Ends a profile that is running; returns whether it was written. A failure does not stop the run."""
    if not self._running:
      return False
    self._running = False
    return self._attempt(jax.profiler.stop_trace)

  def _attempt(self, function: Callable[[], None]) -> bool:
    try:
      function()
    except (OSError, RuntimeError) as error:
      reason = " ".join(str(error).split())
      warn(f"the profile cannot be written to {self._folder} ({reason}); the run goes on")
      return False
    return True
