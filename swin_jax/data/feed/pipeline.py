"""Input pipeline (grain): shuffles, augments, batches and splits over hosts; places host batches on the
devices.

The position in the data is one number, the count of samples consumed. Batch n holds the same samples in the
same order with the same augmentation for any number of hosts, threads and workers. A run resumes by slicing
at that position, never from an iterator's saved state.
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

from swin_jax.data.feed import exchange, reading, workers
from swin_jax.data.read import sources
from swin_jax.terminal.errors import BadInput

Batch = dict[str, np.ndarray]


class Part(NamedTuple):
  """The rows of each global batch that a process reads: block `index` of `count` equal blocks."""

  index: int
  count: int


def part_of(process: int, rows: Iterable[tuple[int, range]], mesh: str) -> Part:
  """Returns the part of each batch that a process must supply: the rows on its devices.

  The part depends on where the rows lie, not on the number of processes: processes that hold shards of the
  same model replica hold copies of the same rows.

  Args:
    process: index of the process.
    rows: (process index, rows of the batch that it holds) for each device of the mesh.
    mesh: name of the mesh in error messages.

  Raises:
    BadInput: the rows of some process are not contiguous, or the blocks are not equal.
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
      f"mesh {mesh}: the rows of a batch cannot be split over the {len(blocks)} processes in equal blocks; "
      "the"
      " mesh must list a process's"
      " devices together, and its axis model divide their number or be a multiple of it"
    )
  return Part(blocks[process][0] // size, len(distinct))


def own_part(batch_size: int, sharding: jax.sharding.NamedSharding) -> Part:
  """Returns this process's part of batches with the given sharding.

  Raises:
    BadInput: see `part_of`; or the batch cannot be divided evenly over the devices.
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
  """The batches of a run, as (host batch, device batch) pairs: training from any step, evaluation from the
  start.

  Attributes:
    train_source, eval_source: sources of the examples.
    train_view, eval_view: decoded example → what the model sees; see `views.py`.
    decode: example → decoded example; see `decoding.py`.
    seed: seed of order and augmentation.
    batch_size, eval_batch_size: global batch sizes, over all hosts.
    max_bad_fraction: see `BadRecords`.
    num_threads: threads that read and augment, in this process or in each worker.
    num_workers: worker processes that read and augment for this process; 0: threads only.
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
    """Returns one part of every batch, from batch number `first` on, endlessly; each epoch is a new
    permutation.

    A batch holds the fields of `train_view`, "index" int32 [b], and "bad" int32 [b], the number of records
    skipped before each one.
    """
    # Batching before slicing: augmentation is then seeded by the global index, so it does not depend on the
    # number of hosts.
    data = grain.MapDataset.range(len(self.train_source)).seed(self.seed).shuffle().repeat(None)
    data = data.random_map(reading.Load(self._to_read(self.train_source), self.decode, self.train_view))
    data = data.batch(self.batch_size // part.count)
    return self._iterate(data[first * part.count :][part.index :: part.count])

  def eval_batches(self, part: Part) -> Iterator[Batch]:
    """Returns one part of every evaluation batch: each example of the source exactly once, padded to whole
    batches.

    "weight" float32 [b] is 0 for padding and for replaced records, else 1.
    """
    padded = -(-len(self.eval_source) // self.eval_batch_size) * self.eval_batch_size
    data = grain.MapDataset.range(padded).seed(self.seed)
    data = data.random_map(reading.LoadOnce(self._to_read(self.eval_source), self.decode, self.eval_view))
    data = data.batch(self.eval_batch_size // part.count)
    return self._iterate(data[part.index :: part.count])

  def train(
    self, first: int, sharding: jax.sharding.NamedSharding
  ) -> Iterator[tuple[Batch, dict[str, jax.Array]]]:
    """Returns `train_batches` on the devices: the part that this process's devices hold."""
    batches = self.train_batches(first, own_part(self.batch_size, sharding))
    return to_device(batches, sharding, BadRecords(self.train_source, self.max_bad_fraction))

  def evaluation(self, sharding: jax.sharding.NamedSharding) -> Iterator[tuple[Batch, dict[str, jax.Array]]]:
    """Returns `eval_batches` on the devices: the part that this process's devices hold."""
    batches = self.eval_batches(own_part(self.eval_batch_size, sharding))
    return to_device(batches, sharding, BadRecords(self.eval_source, self.max_bad_fraction))

  def _to_read(self, source: sources.Source):
    return exchange.Sent(source) if self.num_workers else source

  def _iterate(self, data: grain.MapDataset) -> Iterator[Batch]:
    data = data.to_iter_dataset(
      grain.ReadOptions(num_threads=self.num_threads, prefetch_buffer_size=max(self.num_threads, 4))
    )
    if not self.num_workers:
      return iter(data)
    flags.FLAGS.mark_as_parsed()  # grain reads its own absl flags, which our commands never parse
    data = data.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=self.num_workers, per_worker_buffer_size=2),
      workers.initialiser(),
    )
    return workers.watch(iter(data), self.num_workers)


class BadRecords:
  """Counts skipped records and ends the run when they exceed a fraction of the data."""

  def __init__(self, source: sources.Source, max_fraction: float):
    self._allowed = max_fraction * min(len(source), 1000)
    self._max_fraction = max_fraction
    self.count, self.delivered = 0, 0

  def add(self, batch: Batch) -> None:
    """Counts the skipped records of one host batch.

    Raises:
      BadInput: too many records have been skipped.
    """
    self.count += int(np.sum(batch["bad"]))
    self.delivered += len(batch["bad"])
    if self.count > max(self._allowed, self._max_fraction * self.delivered):
      raise BadInput(
        f"{self.count} of {self.delivered + self.count} records could not be read (named above), more than"
        " data.max_bad_fraction ="
        f" {self._max_fraction}; repair or remove them, or allow more"
      )


def to_device(
  batches: Iterator[Batch], sharding: jax.sharding.NamedSharding, records: BadRecords, ahead: int = 2
):
  """Yields (host batch, global device arrays), placing each batch `ahead` batches before it is needed.

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
