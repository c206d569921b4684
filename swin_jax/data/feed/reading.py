"""Loads one example by its index: reads, decodes and transforms it. Retries when the storage fails; replaces
damaged records.

The two cases are kept apart because only damage is a property of the record. A replacement depends on the
index alone, so a batch is the same for any number of hosts, threads and workers, and storage that fails for a
while does not change it. Hence an OSError outside `ANSWERS` never replaces a record.
"""

from collections.abc import Callable
import dataclasses
import math
import threading
import time
from typing import Any

import numpy as np

from swin_jax.data.read import sources
from swin_jax.data.read.example import Example
from swin_jax.terminal.errors import BadInput, Fault
from swin_jax.terminal.progress import warn

Decode = Callable[[Example], Any]  # raises ValueError if the example is damaged
Transform = Callable[[Any, np.random.Generator], dict[str, np.ndarray]]  # takes the decoded example

# Seconds between tries: a file server that fails over or restarts is back within half a minute or not soon.
WAITS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
# Errors of storage that responds but cannot provide this one file: trying again would not help.
ANSWERS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError)
# This many unreadable records in a row mean that files are missing, not that records are damaged.
_MAX_BAD_IN_A_ROW = 100
# Set from a read that was given up until one succeeds, so that other threads give up without waiting as long.
gone = threading.Event()
named: set[str] = set()  # bad records that this process has named; they recur every epoch
warned = -math.inf  # time of this process's last warning that it tries again
_warning = threading.Lock()


def read(source: sources.Source, index: int) -> Example:
  """Returns source[index]; tries again for half a minute if the storage fails.

  Raises:
    ValueError, RuntimeError: the record is damaged.
    OSError: one of `ANSWERS`.
    Fault: the storage still fails.
  """
  waits = iter(WAITS)
  while True:
    try:
      example = source[index]
      gone.clear()
      return example
    except ANSWERS:
      raise
    except OSError as error:
      reason = f"record {index} cannot be read: {' '.join(str(error).split())}"
      wait = next(waits, None)
      if wait == WAITS[0]:
        _warn_once_a_minute(f"{reason}; retrying for {sum(WAITS):.0f} seconds")
      if wait is None or gone.wait(wait):
        gone.set()
        raise Fault(
          f"{reason}; the storage did not recover in {sum(WAITS):.0f} seconds. Repair it, or copy that file "
          "again; the same command then continues from the last checkpoint"
        ) from error


def _warn_once_a_minute(line: str) -> None:
  global warned
  with _warning:
    if (now := time.monotonic()) - warned >= 60:
      warned = now
      warn(line)


@dataclasses.dataclass(frozen=True)
class Load:
  """Loads the example of an index; replaces a bad record by the next good one and counts it."""

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
      except (ValueError, RuntimeError, *ANSWERS) as error:
        reason = (
          f"{example.name if example else f'record {i}'} cannot be read: {' '.join(str(error).split())}"
        )
        if (key := example.name if example else reason) not in named:
          named.add(key)
          warn(f"left out: {reason}")
        continue
      about = {"index": np.int32(i), "bad": np.int32(bad)}
      return about | self.transform(decoded, rng)
    raise BadInput(f"none of {bad + 1} records in a row could be read; the last: {reason}")


@dataclasses.dataclass(frozen=True)
class LoadOnce(Load):
  """As `Load`, but each index counts once: padding past the end, replaced records and images without a class
  have weight 0.
  """

  def __call__(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    example = super().__call__(index % len(self.source), rng)
    inside = index < len(self.source)
    has_class = example.get("label", 0) >= 0
    example |= {} if has_class else {"label": np.int32(0)}  # any that exists: its weight is 0
    return example | {
      "weight": np.float32(inside and example["bad"] == 0 and has_class),
      "bad": np.int32(inside and example["bad"]),
    }
