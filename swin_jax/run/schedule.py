"""The steps of a run at which it logs, evaluates and saves."""

from collections.abc import Mapping
from typing import NamedTuple


class Schedule(NamedTuple):
  """The steps of a run.

  Attributes:
    per_epoch: steps per epoch.
    total: last step.
    every: steps between two entries of the log ("log"), two evaluations ("evaluate"), two saves ("save"), and
      two saves that are kept permanently ("keep"; 0 for none).
  """

  per_epoch: int
  total: int
  every: Mapping[str, int]

  def epoch(self, step: int) -> float:
    return step / self.per_epoch

  def is_due(self, what: str, step: int) -> bool:
    """Returns whether something is due after a step; everything is due after the last one."""
    return step > 0 and (step % self.every[what] == 0 or step == self.total)

  def count(self, what: str, after: int, until: int) -> int:
    """Returns how often something is due from step `after` + 1 to step `until`."""

    def up_to(step):
      return step // self.every[what] + (step == self.total and step % self.every[what] > 0)

    return up_to(until) - up_to(after)
