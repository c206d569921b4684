"""A log of a run without the run."""

import time

from swin_jax.run.clock import Clock
from swin_jax.run.log import TrainLog


class Lines:
  """Keeps what a log writes, in place of a `Writer`."""

  def __init__(self):
    self.entries = []

  def scalars(self, step, values, about):
    self.entries.append({"step": step, **about, **values})


def train_log(schedule, batch_size=1, best="eval/loss", eval_batches=1.0, writer=None):
  """Returns the log of a new run."""
  return TrainLog(
    writer or Lines(),
    Clock(batch_size, 1.0),
    schedule,
    first=0,
    best=best,
    eval_batches=eval_batches,
    sums={},
    evaluation=None,
    started=time.perf_counter(),
  )
