"""grain: shuffle, augment, batch, shard over hosts; host batches → global arrays.

The position in the data is a number, the samples seen: batch n holds the same samples in the same order with the same augmentation
for any number of hosts, threads and workers, and a run continues by slicing (never from an iterator's own state).
"""

import collections
from collections.abc import Callable, Iterator
import dataclasses
import multiprocessing
import os
import threading

from absl import logging
import grain
import jax
import numpy as np

from swin_jax.data import image_ops
from swin_jax.data import sources
from swin_jax.errors import BadInput

Batch = dict[str, np.ndarray]
Transform = Callable[[np.ndarray, np.random.Generator], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Host:
  """Which part of each global batch this process reads, and how."""

  index: int
  count: int
  num_threads: int
  num_workers: int


# So many records in a row that cannot be read are not damage, but a disk that is gone.
_MAX_BAD_IN_A_ROW = 100
_named: set[str] = set()  # bad records this process has logged; they come again every epoch


@dataclasses.dataclass(frozen=True)
class _Load:
  """index → example: read, decoded, transformed; a bad record gives way to the next good one and is counted.

  The replacement depends on the index alone, so it is the same for any number of hosts, threads and workers.
  """

  source: sources.Source
  bands: int
  transform: Transform

  def __call__(self, index: int, rng: np.random.Generator) -> Batch:
    for bad in range(min(len(self.source), _MAX_BAD_IN_A_ROW)):
      i = (index + bad) % len(self.source)
      example = None
      try:
        example = self.source[i]
        image = image_ops.decode(example.image, self.bands)
      except (ValueError, OSError, RuntimeError) as error:
        reason = f"{example.name if example else f'record {i}'} cannot be read: {' '.join(str(error).split())}"
        if (key := example.name if example else reason) not in _named:
          _named.add(key)
          logging.warning("left out: %s", reason)
        continue
      return self.transform(image, rng) | {"label": np.int32(example.label), "index": np.int32(i), "bad": np.int32(bad)}
    raise BadInput(f"none of {bad + 1} records in a row could be read; the last: {reason}")


@dataclasses.dataclass(frozen=True)
class _LoadOnce(_Load):
  """As `_Load`, but every index counts once: padding beyond the end and replaced records weigh nothing."""

  def __call__(self, index: int, rng: np.random.Generator) -> Batch:
    example = super().__call__(index % len(self.source), rng)
    inside = index < len(self.source)
    return example | {"weight": np.float32(inside and example["bad"] == 0), "bad": np.int32(inside and example["bad"])}


@dataclasses.dataclass(frozen=True)
class Input:
  """The batches of a run: training from any step, evaluation from the start, as (host batch, device batch) pairs.

  Attributes:
    train_source, eval_source: where examples come from.
    train_view, eval_view: decoded image → what the model sees; see `views.py`.
    bands: of an image.
    seed: of order and augmentation.
    batch_size, eval_batch_size: over all hosts.
    max_bad_fraction: see `BadRecords`.
    host: this process.
  """

  train_source: sources.Source
  eval_source: sources.Source
  train_view: Transform
  eval_view: Transform
  bands: int
  seed: int
  batch_size: int
  eval_batch_size: int
  max_bad_fraction: float
  host: Host

  def train_batches(self, first: int) -> Iterator[Batch]:
    """This host's part of every batch from batch number `first` on, without end; every epoch is a new permutation.

    A batch holds what `train_view` gives, label int32 [b], index int32 [b] and bad int32 [b] (records skipped for this one).
    """
    # Batch first, slice last: augmentation is then seeded by the global index, so it does not depend on the number of hosts.
    data = grain.MapDataset.range(len(self.train_source)).seed(self.seed).shuffle().repeat(None)
    data = data.random_map(_Load(self.train_source, self.bands, self.train_view)).batch(self.batch_size // self.host.count)
    return _iterate(data[first * self.host.count :][self.host.index :: self.host.count], self.host)

  def eval_batches(self) -> Iterator[Batch]:
    """Every example of the evaluation source exactly once, padded to whole batches; "weight" float32 [b] is 0 for padding, else 1."""
    padded = -(-len(self.eval_source) // self.eval_batch_size) * self.eval_batch_size
    data = grain.MapDataset.range(padded).seed(self.seed)
    data = data.random_map(_LoadOnce(self.eval_source, self.bands, self.eval_view)).batch(self.eval_batch_size // self.host.count)
    return _iterate(data[self.host.index :: self.host.count], self.host)

  def train(self, first: int, sharding: jax.sharding.Sharding) -> Iterator[tuple[Batch, dict[str, jax.Array]]]:
    """`train_batches` on the devices."""
    return to_device(self.train_batches(first), sharding, BadRecords(self.train_source, self.max_bad_fraction))

  def evaluation(self, sharding: jax.sharding.Sharding) -> Iterator[tuple[Batch, dict[str, jax.Array]]]:
    """`eval_batches` on the devices."""
    return to_device(self.eval_batches(), sharding, BadRecords(self.eval_source, self.max_bad_fraction))

def _iterate(data: grain.MapDataset, host: Host) -> grain.DatasetIterator:
  data = data.to_iter_dataset(grain.ReadOptions(num_threads=host.num_threads, prefetch_buffer_size=max(host.num_threads, 4)))
  if host.num_workers:
    data = data.mp_prefetch(grain.MultiprocessingOptions(num_workers=host.num_workers, per_worker_buffer_size=2), _end_with_parent)
  return iter(data)


def _end_with_parent(worker: int, workers: int) -> None:
  """Ends this worker process when its parent is gone: one killed by SIGKILL cannot tell it to."""
  del worker, workers

  def wait():
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


class BadRecords:
  """Counts skipped records and ends the run when they are more than a share of the data."""

  def __init__(self, source: sources.Source, max_fraction: float):
    self._allowed = max_fraction * min(len(source), 1000)
    self._max_fraction = max_fraction
    self.count, self.seen = 0, 0

  def add(self, batch: Batch) -> None:
    """Counts one host batch.

    Raises:
      BadInput: too many.
    """
    self.count += int(np.sum(batch["bad"]))
    self.seen += len(batch["bad"])
    if self.count > max(self._allowed, self._max_fraction * self.seen):
      raise BadInput(
          f"{self.count} of {self.seen + self.count} records could not be read (named above), more than data.max_bad_fraction ="
          f" {self._max_fraction}; mend them, or allow more"
      )


def to_device(batches: Iterator[Batch], sharding: jax.sharding.Sharding, records: BadRecords, ahead: int = 2):
  """Yields (host batch, global device arrays), placed `ahead` batches before they are asked for.

  "bad" and "index" stay on the host.
  """
  waiting = collections.deque()
  for batch in batches:
    records.add(batch)
    device = {
        key: jax.make_array_from_process_local_data(sharding, value) for key, value in batch.items() if key not in ("bad", "index")
    }
    waiting.append((batch, device))
    if len(waiting) > ahead:
      yield waiting.popleft()
  yield from waiting
