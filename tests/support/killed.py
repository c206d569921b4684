"""A run that kills its own process, for tests that compare it with an uninterrupted one."""

import os
import signal

from ml_collections import ConfigDict

from swin_jax.data.feed import pipeline
from swin_jax.run import train


def train_whole_and_killed(config: ConfigDict, folder: str, step: int) -> None:
  """Trains the run folder/whole, then starts folder/killed, which kills this process before batch `step`.

  If folder/killed exists, finishes that run instead.
  """
  if not os.path.exists(f"{folder}/killed"):
    train.train(config, f"{folder}/whole")
    original = pipeline.Input.train

    def until_killed(self, first, sharding):
      for n, batch in enumerate(original(self, first, sharding)):
        if first + n == step:
          os.kill(os.getpid(), signal.SIGKILL)
        yield batch

    pipeline.Input.train = until_killed
  train.train(config, f"{folder}/killed")
