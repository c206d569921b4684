"""grain: shuffle, augment, batch, shard over hosts; host batches → global arrays.

The position in the data is a number, the samples seen: batch n holds the same samples in the same order with
the same augmentation for any number of hosts, threads and workers, and a run continues by slicing (never from
an iterator's own state).
"""

import collections
from collections.abc import Iterable, Iterator
import dataclasses
import itertools
from typing import NamedTuple

from absl import flags
import grain
import jax
import numpy as np

from swin_jax.data.feed import reading, workers
from swin_jax.data.read import sources
from swin_jax.terminal.errors import BadInput

Batch = dict[str, np.ndarray]


class Part(NamedTuple):
  """Which rows of each global batch a process reads: block `index` of `count` equal ones."""

  index: int
  count: int


def part_of(process: int, rows: Iterable[tuple[int, range]], mesh: str) -> Part:
  """The part of a batch that a process must supply: the rows on its devices.

  It follows from where the rows lie, not from the number of processes: those that a model's shards are spread
  over hold copies of the same rows.

  Args:
    process: whose part.
    rows: for every device of the mesh its process and the rows of the batch that it holds.
    mesh: its name in a message.

  Raises:
    BadInput: the rows of some process are not one block, or the blocks are not equal.
  """
  held: dict[int, set[tuple[int, int]]] = {}
  for owner, part in rows:
    held.setdefault(owner, set()).add((part.start, part.stop))
  blocks = {}
  for owner, parts in held.items():
    parts = sorted(parts)
    together = all(stop == start for (_, stop), (start, _) in itertools.pairwise(parts))
    blocks[owner] = (parts[0][0], parts[-1][1]) if together else None
  distinct = set(blocks.values())
  size = blocks[process][1] - blocks[process][0] if blocks[process] else 0
  if distinct != {(i * size, (i + 1) * size) for i in range(len(distinct))}:
    raise BadInput(
      f"mesh {mesh}: the rows of a batch do not fall to the {len(blocks)} processes in equal blocks; the"
      " mesh must list a process's"
      " devices together, and its axis model divide their number or be a multiple of it"
    )
  return Part(blocks[process][0] // size, len(distinct))


def own_part(batch_size: int, sharding: jax.sharding.NamedSharding) -> Part:
  """This process's part of batches with a sharding.

  Raises:
    BadInput: see `part_of`; or the batch does not divide.
  """
  mesh = str(dict(sharding.mesh.shape))
  try:
    places = sharding.devices_indices_map((batch_size,))
  except ValueError as error:
    raise BadInput(f"mesh {mesh}: a batch of {batch_size} does not divide; {error}") from error
  rows = [(device.process_index, range(*index[0].indices(batch_size))) for device, index in places.items()]
  return part_of(jax.process_index(), rows, mesh)


@dataclasses.dataclass(frozen=True)
class Input:
  """The batches of a run: training from any step, evaluation from the start, as (host batch, device batch)
  pairs.

  Attributes:
    train_source, eval_source: where examples come from.
    train_view, eval_view: what was decoded → what the model sees; see `views.py`.
    decode: example → what a view is made of; see `decoding.py`.
    seed: of order and augmentation.
    batch_size, eval_batch_size: over all hosts.
    max_bad_fraction: see `BadRecords`.
    num_threads: that read and augment, in this process or in each worker.
    num_workers: processes that do, for this one; 0 for threads only.
  """

  train_source: sources.Source
  eval_source: sources.Source
  train_view: reading.Transform
  eval_view: reading.Transform
  decode: reading.Decode
  seed: int
  batch_size: int
  eval_batch_size: int
  max_bad_fraction: float
  num_threads: int
  num_workers: int

  def train_batches(self, first: int, part: Part) -> Iterator[Batch]:
    """A part of every batch from batch number `first` on, without end; every epoch is a new permutation.

    A batch holds what `train_view` gives, index int32 [b] and bad int32 [b] (records skipped for this one).
    """
    # Batch first, slice last: augmentation is then seeded by the global index, so it does not depend on the
    # number of hosts.
    data = grain.MapDataset.range(len(self.train_source)).seed(self.seed).shuffle().repeat(None)
    data = data.random_map(reading.Load(self._to_read(self.train_source), self.decode, self.train_view))
    data = data.batch(self.batch_size // part.count)
    return self._iterate(data[first * part.count :][part.index :: part.count])

  def eval_batches(self, part: Part) -> Iterator[Batch]:
    """A part of every batch of an evaluation: every example of its source exactly once, padded to whole
    batches.

    "weight" float32 [b] is 0 for padding, else 1.
    """
    padded = -(-len(self.eval_source) // self.eval_batch_size) * self.eval_batch_size
    data = grain.MapDataset.range(padded).seed(self.seed)
    data = data.random_map(reading.LoadOnce(self._to_read(self.eval_source), self.decode, self.eval_view))
    data = data.batch(self.eval_batch_size // part.count)
    return self._iterate(data[part.index :: part.count])

  def train(
    self, first: int, sharding: jax.sharding.NamedSharding
  ) -> Iterator[tuple[Batch, dict[str, jax.Array]]]:
    """`train_batches` on the devices: the part that this process's devices hold."""
    batches = self.train_batches(first, own_part(self.batch_size, sharding))
    return to_device(batches, sharding, BadRecords(self.train_source, self.max_bad_fraction))

  def evaluation(self, sharding: jax.sharding.NamedSharding) -> Iterator[tuple[Batch, dict[str, jax.Array]]]:
    """`eval_batches` on the devices: the part that this process's devices hold."""
    batches = self.eval_batches(own_part(self.eval_batch_size, sharding))
    return to_device(batches, sharding, BadRecords(self.eval_source, self.max_bad_fraction))

  def _to_read(self, source: sources.Source):
    return workers.Sent(source) if self.num_workers else source

  def _iterate(self, data: grain.MapDataset) -> Iterator[Batch]:
    data = data.to_iter_dataset(
      grain.ReadOptions(num_threads=self.num_threads, prefetch_buffer_size=max(self.num_threads, 4))
    )
    if not self.num_workers:
      return iter(data)
    flags.FLAGS.mark_as_parsed()  # grain reads flags of its own, which no command of ours parses
    data = data.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=self.num_workers, per_worker_buffer_size=2),
      workers.end_with_parent,
    )
    return workers.watch(iter(data), self.num_workers)


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
        f"{self.count} of {self.seen + self.count} records could not be read (named above), more than"
        " data.max_bad_fraction ="
        f" {self._max_fraction}; mend them, or allow more"
      )


def to_device(
  batches: Iterator[Batch], sharding: jax.sharding.NamedSharding, records: BadRecords, ahead: int = 2
):
  """Yields (host batch, global device arrays), placed `ahead` batches before they are asked for.

  "bad" and "index" stay on the host.
  """
  waiting = collections.deque()
  for batch in batches:
    records.add(batch)
    device = {
      key: jax.make_array_from_process_local_data(sharding, value)
      for key, value in batch.items()
      if key not in ("bad", "index")
    }
    waiting.append((batch, device))
    if len(waiting) > ahead:
      yield waiting.popleft()
  yield from waiting
