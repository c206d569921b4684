"""Writes the manifest of a prepared set, which `data.read.manifest` reads.

Each part adds the digests and the facts (see `shard_facts`) of the shards that it writes to a file of its
own, manifest-I-of-N.jsonl: a sealed line for each shard, before the shard gets its name. The part that
completes the set merges them into manifest.json and facts.json; files without a digest, such as those of a
set older than manifests, are read for it.
"""

from collections.abc import Mapping
import contextlib
import json
import os
import pathlib
import re
from typing import Any

from swin_jax.data.prepare import shard_facts
from swin_jax.data.read import facts, manifest, shards, statistics
from swin_jax.terminal import digests, files, json_files
from swin_jax.terminal.errors import BadInput, Fault, cannot_write
from swin_jax.terminal.progress import Progress

_PARTS = "manifest-*-of-*.jsonl"
# Names of the JSON files of a set that are not of a split.
RESERVED = re.compile("statistics|facts|manifest")
_FACTS = "facts"  # of the shard, in a line of a part
_ADVICE = "make it writable, and the same command continues"


class Part:
  """The digests and the facts of the shards that one part writes.

  Args:
    out: the folder of the set.
    part: index and number of parts.
  """

  def __init__(self, out: str, part: tuple[int, int]):
    self._path = pathlib.Path(out, f"manifest-{part[0]}-of-{part[1]}.jsonl")

  def add(self, name: str, content: pathlib.Path, counts: facts.Counts) -> None:
    """Enters the digest and the facts of a shard whose content is complete, but does not have its name yet.

    Raises:
      Fault: they cannot be written.
    """
    line = json.dumps(digests.seal({_FACTS: counts}, manifest.NAME, {name: digests.of_file(content)}))
    try:
      if not os.path.isfile(self._path):  # adding to a pipe would block
        self._path.unlink(missing_ok=True)
      with open(self._path, "a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")  # on a new line, as a killed process may have left half a line
    except OSError as error:
      raise cannot_write(self._path, error, _ADVICE) from error


def read(out: str) -> dict[str, digests.Digest]:
  """Returns the digests that the manifest and the parts of a set have, by name of the file.

  Raises:
    BadInput: the manifest is damaged.
  """
  known, newer = manifest.read(out) or {}, {}
  for path in sorted(pathlib.Path(out).glob(_PARTS)):
    for name, (digest, _) in _read_part(path).items():
      # Of two parts that wrote the same shard, nobody knows which was later: the file will be read.
      newer[name] = digest if newer.get(name, digest) == digest else None
  return {name: digest for name, digest in (known | newer).items() if digest}


def lists_header(out: str, split: str, header: dict[str, Any]) -> bool:
  """Returns whether the manifest lists the JSON file of a split with exactly this content; then the shards
  belong to it, whatever happened to the file.
  """
  listed = (manifest.read(out) or {}).get(f"{split}.json")
  return listed == digests.of_bytes(shards.header_text(header).encode())


def forget(out: str, split: str) -> None:
  """Removes the files of a split from the manifest, before the split is prepared with other settings."""
  known = manifest.read(out) or {}
  ours = re.compile(rf"{re.escape(split)}(\.json|-\d+-of-\d+\.array_record)")
  if kept := {name: digest for name, digest in known.items() if not ours.fullmatch(name)}:
    if kept != known:
      _write(pathlib.Path(manifest.path_of(out)), kept)
  else:
    pathlib.Path(manifest.path_of(out)).unlink(missing_ok=True)


def finish(out: str, num_threads: int, origin: facts.Origin) -> None:
  """Writes the facts and the manifest of a set, with the files of its complete splits.

  For the arguments, see `shard_facts.complete`.

  Raises:
    Fault: the manifest cannot be written, or a file cannot be read.
  """
  folder, names = pathlib.Path(out), []
  for split in shards.splits(out):
    header = shards.read_header(out, split)
    paths = [shards.shard_path(out, split, i, header["num_shards"]) for i in range(header["num_shards"])]
    if all(map(os.path.exists, paths)):
      names += [f"{split}.json", *map(os.path.basename, paths)]
  names += [statistics.NAME] * os.path.exists(statistics.path_of(out))
  known = read(out)
  try:
    sizes = {name: os.path.getsize(folder / name) for name in names if name not in known}
    progress = Progress("digests", sum(sizes.values()) / 1e6, "MB")
    for name in sizes:
      known[name] = digests.of_file(folder / name, lambda count: progress.step(count / 1e6))
  except OSError as error:
    raise Fault(
      f"{error.filename or out} cannot be read: {error.strerror}; once that is solved, the same command"
      " continues"
    ) from error
  shard_facts.complete(
    out, {name: known[name] for name in names}, _facts_of_shards(out, known), num_threads, origin
  )
  known[facts.NAME] = digests.of_file(facts.path_of(out))
  present = {name: digest for name, digest in known.items() if os.path.exists(folder / name)}
  _write(pathlib.Path(manifest.path_of(out)), present)
  for path in folder.glob(_PARTS):
    path.unlink(missing_ok=True)


def count_again(out: str, num_threads: int) -> bool:
  """Writes the facts of a set that has a manifest, as far as they are missing; returns whether it has one."""
  known = manifest.read(out)
  if known is None:
    return False
  shard_facts.complete(out, known, {}, num_threads)
  update(out, facts.NAME)
  return True


def update(out: str, name: str) -> None:
  """Enters the present content of a file into the manifest of a set, if it has one."""
  known = manifest.read(out)
  if known is not None:
    _write(pathlib.Path(manifest.path_of(out)), known | {name: digests.of_file(os.path.join(out, name))})


def _facts_of_shards(out: str, known: Mapping[str, digests.Digest]) -> dict[str, facts.Counts]:
  """Returns the facts that the parts of a set have of shards with these digests."""
  return {
    name: counts
    for path in sorted(pathlib.Path(out).glob(_PARTS))
    for name, (digest, counts) in _read_part(path).items()
    if counts and known.get(name) == digest
  }


def _read_part(path: pathlib.Path) -> dict[str, tuple[digests.Digest, facts.Counts | None]]:
  """Returns the digests and facts of a part, without those of damaged lines, because they can be taken again;
  lines of older versions have no facts.
  """
  known = {}
  with contextlib.suppress(OSError), files.open_regular(path) as file:
    for line in filter(bytes.strip, file):
      with contextlib.suppress(BadInput, ValueError):
        document = json_files.parse(line, {digests.GROUP: dict}, path)
        counts = document.get(_FACTS)
        counts = None if json_files.check(counts, facts.SCHEMA) else counts
        known |= {name: (each, counts) for name, each in digests.read(document, manifest.NAME).items()}
  return known


def _write(path: pathlib.Path, known: dict[str, digests.Digest]) -> None:
  try:
    files.write(path, json.dumps(digests.seal({}, manifest.NAME, known), indent=1) + "\n")
  except OSError as error:
    raise cannot_write(path, error, _ADVICE) from error
