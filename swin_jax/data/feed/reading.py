"""index → example: read, decoded, transformed. What storage refuses for a while is waited for, what is
damaged is replaced.

The two are told apart because only damage is a property of the record: a replacement depends on the index
alone, so a batch is the same for any number of hosts, threads and workers, and on a day when the storage
stumbles. Hence an OSError never replaces a record.
"""

from collections.abc import Callable
import dataclasses
import threading
from typing import Any

from absl import logging
import numpy as np

from swin_jax.data.read import sources
from swin_jax.data.read.example import Example
from swin_jax.terminal.errors import BadInput, Fault

Decode = Callable[[Example], Any]  # raises ValueError for what is damaged
Transform = Callable[[Any, np.random.Generator], dict[str, np.ndarray]]  # of what was decoded

# Seconds between tries: a file server that fails over or restarts is back within half a minute, or not soon.
_WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
# What storage says that is there and lacks this one file: to be told the same again helps nobody.
_ANSWERS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
# So many records in a row that cannot be read are not damage, but files that are gone.
_MAX_BAD_IN_A_ROW = 100
# a read was given up, and none has succeeded since: the other threads need not wait as long for the same
_gone = threading.Event()
_named: set[str] = set()  # bad records this process has logged; they come again every epoch


def read(source: sources.Source, index: int) -> Example:
  """source[index], tried again for half a minute where the storage fails.

  Raises:
    ValueError, RuntimeError: the record is damaged.
    OSError: one of `_ANSWERS`.
    BadInput: the storage still fails.
  """
  waits = iter(_WAITS)
  while True:
    try:
      example = source[index]
      _gone.clear()
      return example
    except _ANSWERS:
      raise
    except OSError as error:
      reason = f"record {index} cannot be read: {' '.join(str(error).split())}"
      wait = next(waits, None)
      if wait == _WAITS[0]:
        logging.log_every_n_seconds(
          logging.WARNING, "%s; trying again for %.0f seconds", 60, reason, sum(_WAITS)
        )
      if wait is None or _gone.wait(wait):
        _gone.set()
        raise Fault(
          f"{reason}; the storage did not recover in {sum(_WAITS):.0f} seconds. Mend it, or copy that file"
          " anew; then the same command"
          " goes on from the last checkpoint"
        ) from error


@dataclasses.dataclass(frozen=True)
class Load:
  """index → example: a bad record gives way to the next good one and is counted."""

  source: sources.Source
  decode: Decode
  transform: Transform

  def __call__(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    for bad in range(min(len(self.source), _MAX_BAD_IN_A_ROW)):
      i = (index + bad) % len(self.source)
      example = None
      try:
        example = read(self.source, i)
        decoded = self.decode(example)
      except (ValueError, RuntimeError, *_ANSWERS) as error:
        reason = (
          f"{example.name if example else f'record {i}'} cannot be read: {' '.join(str(error).split())}"
        )
        if (key := example.name if example else reason) not in _named:
          _named.add(key)
          logging.warning("left out: %s", reason)
        continue
      about = {"index": np.int32(i), "bad": np.int32(bad)}
      return about | self.transform(decoded, rng)
    raise BadInput(f"none of {bad + 1} records in a row could be read; the last: {reason}")


@dataclasses.dataclass(frozen=True)
class LoadOnce(Load):
  """As `Load`, but every index counts once: padding beyond the end and replaced records weigh nothing."""

  def __call__(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    example = super().__call__(index % len(self.source), rng)
    inside = index < len(self.source)
    return example | {
      "weight": np.float32(inside and example["bad"] == 0),
      "bad": np.int32(inside and example["bad"]),
    }
