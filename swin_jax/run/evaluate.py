"""Runs an evaluation set: sums over batches, divided once, so the result depends on no batch size and no
number of hosts.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from swin_jax.run import compilation, metrics
from swin_jax.terminal.progress import Progress

_SECONDS_WORTH_A_LINE = 5  # of compiling


def evaluate(
  eval_step: Callable[[Any, dict], dict],
  params: Any,
  batches: Iterable[dict],
  num_batches: int,
  stop: Callable[[], bool] = lambda: False,
  class_names: Sequence[str] = (),
) -> dict[str, float] | None:
  """Evaluates.

  Args:
    eval_step: (params, device batch) → {name: (sum, count)}.
    params: of the model.
    batches: device batches that hold every example once.
    num_batches: how many they are.
    stop: asked before every batch, on all processes alike.
    class_names: by which means of single classes are called.

  Returns:
    What `metrics.Mean.compute` makes of the sums, as eval/NAME; None if it was stopped.
  """
  mean, previous, progress = metrics.Mean(), None, Progress("evaluating", num_batches, "batches")
  for batch in batches:
    if stop():
      return None
    with compilation.reported("evaluation", _SECONDS_WORTH_A_LINE):
      sums = eval_step(params, batch)
    if previous is not None:  # read one batch late: the device never waits for the host
      mean.add(jax.device_get(previous))
    previous = sums
    progress.step()
  if previous is not None:
    mean.add(jax.device_get(previous))
  return mean.compute("eval/", class_names)
