"""Runs an evaluation set: sums over batches, divided once, so the result depends on no batch size and no number of hosts."""

from collections.abc import Callable, Iterable
from typing import Any

import jax

from swin_jax import metrics


def evaluate(eval_step: Callable[[Any, dict], dict], params: Any, batches: Iterable[tuple[dict, dict]], prefix: str = "eval/"):
  """Evaluates.

  Args:
    eval_step: (params, device batch) → {name: (sum, count)}.
    params: of the model.
    batches: (host batch, device batch) pairs that hold every example once.
    prefix: of the names.

  Returns:
    {prefix + name: mean}.
  """
  mean, previous = metrics.Mean(), None
  for _, batch in batches:
    sums = eval_step(params, batch)
    if previous is not None:  # read one batch late: the device never waits for the host
      mean.add(jax.device_get(previous))
    previous = sums
  if previous is not None:
    mean.add(jax.device_get(previous))
  return mean.compute(prefix)
