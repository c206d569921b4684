"""Collects the facts of a prepared set from those of its shards.

Shards without facts, such as those of older versions, are read for them.
"""

from collections.abc import Mapping, Sequence
from concurrent import futures
import contextlib
import functools
import os
import pathlib
from typing import Any

from swin_jax.data.prepare import counting
from swin_jax.data.read import facts, shards
from swin_jax.terminal import digests, files
from swin_jax.terminal.errors import BadInput, cannot_write
from swin_jax.terminal.progress import Progress


def complete(
  out: str,
  known: Mapping[str, digests.Digest],
  of_shards: Mapping[str, facts.Counts],
  num_threads: int,
  origin: facts.Origin | None = None,
) -> None:
  """Writes the facts of the complete splits of a set, from those of their shards.

  Args:
    out: the folder of the set.
    known: digests of the shards of all complete splits, by name.
    of_shards: facts of shards that were counted while these were written, by name.
    num_threads: number of threads that read shards without facts.
    origin: see `facts`; None to keep that of the set.

  Raises:
    BadInput: the header of a split is damaged, or the facts cannot be written; Fault if the disk is full.
  """
  before = {"splits": {}, "origin": facts.Origin()._asdict()}
  if os.path.exists(facts.path_of(out)):
    with contextlib.suppress(BadInput):  # damaged: counted again
      before = facts.read_file(out)
  splits = {}
  for split in shards.splits(out):
    header = shards.read_header(out, split)
    names = shards.names(split, header["num_shards"])
    if not all(name in known for name in names):
      continue
    identity = facts.identity(known[name] for name in names)
    if before["splits"].get(split, {}).get("shards") == identity:
      splits[split] = before["splits"][split]
      continue
    counted = {name: of_shards[name] for name in names if name in of_shards}
    if uncounted := [name for name in names if name not in counted]:
      counted |= _recount(out, split, uncounted, num_threads)
    merged = facts.merge(counted.values())
    if "unreadable" not in merged:
      merged |= _unreadable(merged, before["splits"].get(split, {}), header["made_from"].get("images"))
    splits[split] = merged | {"shards": identity}
  text = facts.text(splits, origin or facts.Origin(**before["origin"]))
  try:
    files.write(pathlib.Path(facts.path_of(out)), text)
  except OSError as error:
    raise cannot_write(facts.path_of(out), error, "then run prepare again") from error


def _unreadable(counted: facts.Counts, before: facts.Counts, planned: Any) -> facts.Counts:
  """Returns what is known of the images of the source that are not stored because they cannot be read.

  Args:
    counted: facts of the stored examples.
    before: earlier facts of the split; empty if there are none.
    planned: number of examples of the source.
  """
  if "unreadable" in before:
    return {"unreadable": before["unreadable"]}
  return {"unreadable": {"images": 0, "first": []}} if planned == counted["images"] else {}


def _recount(out: str, split: str, names: list[str], num_threads: int) -> dict[str, facts.Counts]:
  """Returns the facts of shards by reading them; damaged records do not count. What could not be read when
  the shards were written is unknown.
  """
  opened = {name: shards.open_shard(str(pathlib.Path(out, name))) for name in names}
  progress = Progress(f"contents of {split}", sum(map(len, opened.values())), "images")
  counted = {}
  with futures.ThreadPoolExecutor(num_threads) as pool:
    for name, records in opened.items():
      tally = counting.Tally()
      for start in range(0, len(records), 64):  # few in memory at a time
        chunk = range(start, min(start + 64, len(records)))
        for count in pool.map(functools.partial(_see, records), chunk):
          progress.step()
          if count:
            tally.add(count)
      counted[name] = {key: value for key, value in tally.facts().items() if key != "unreadable"}
  progress.finish()
  return counted


def _see(records: Sequence[bytes], index: int) -> counting.Count | None:
  try:
    return counting.see_record(records[index])
  except Exception:  # the record is damaged, in whatever way
    return None
