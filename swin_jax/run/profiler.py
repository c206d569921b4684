"""A profile of some steps of a run."""

from typing import Any

import jax

from swin_jax.terminal.progress import say


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
