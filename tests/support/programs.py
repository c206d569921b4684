"""One program for all runs of a process with the same config: it is traced and compiled once, however often a
test starts, stops and continues the run.
"""

import json

import pytest

from swin_jax.models import BACKBONES
from swin_jax.run import compatibility, evaluate, reads, train
from swin_jax.tasks import KINDS

# Keys that do not affect the program: how a run reads its data, and when it logs, saves and gives up.
_NOT_READ = (
  "checkpoint",
  "profile",
  "data.num_threads",
  "data.num_workers",
  "data.max_bad_fraction",
  "log.every_steps",
  "log.eval_every_epochs",
  "optim.skip_nonfinite_steps",
)


@pytest.fixture(autouse=True, scope="module")  # keeping programs longer would take gigabytes
def shared_programs():
  """Makes runs reuse the program of an earlier run that had the same config, task and backbone."""
  programs, build = {}, train.build

  def build_once(config, steps_per_epoch, total_steps):
    values = compatibility.flatten(config.to_dict())
    read = {key: value for key, value in values.items() if not reads.is_in(key, _NOT_READ)}
    # A test may register another task under the same name.
    kinds = KINDS[config.task], BACKBONES[config.model.backbone]
    key = (json.dumps(read, default=str), steps_per_epoch, total_steps, *map(id, kinds))
    if key not in programs:
      programs[key] = (build(config, steps_per_epoch, total_steps), kinds)  # kept alive: ids stay unique
    return programs[key][0]

  with pytest.MonkeyPatch.context() as patch:
    for module in (train, evaluate):
      patch.setattr(module, "build", build_once)
    yield
