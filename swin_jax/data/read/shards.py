"""A prepared set on disk: ArrayRecord shards and one small JSON file per split, written by `prepare` and read
in training.

  {path}/{split}.json                              class and band names, number of shards, source and settings
  {path}/manifest.json                             digests of all files of the set, see `manifest`
  {path}/{split}-00003-of-00008.array_record       msgpack {"image": bytes, "label": int, "name": str},
                                                   group_size:1; with maps also "target": bytes, see
                                                   `targets.encode`

The JSON file is written first and gives the number of shards; a shard gets its final name when it is
complete.
"""

from collections.abc import Sequence
from concurrent import futures
import copy
import errno
import glob
import json
import os
import pathlib
import re
from typing import Any

from array_record.python import array_record_data_source, array_record_module
import msgpack

from swin_jax.data.read import manifest
from swin_jax.data.read.example import Example, no_split
from swin_jax.data.read.targets import Target
from swin_jax.terminal import files, json_files, rules
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed
from swin_jax.terminal.printable import printable

VERSION = 1
_SCHEMA = {
  "class_names": rules.Items(rules.Text(), range(1_000_001)),
  "num_shards": rules.Whole(1, 100_000),
  "made_from": dict,
  "band_names?": [str],
  "targets?": rules.Choice(*(target.value for target in Target)),
}
_ADVICE = "delete it and run prepare again"
# One record per chunk, else a random read decodes its neighbours too. Images are already compressed.
_WRITER_OPTIONS = "group_size:1,uncompressed"


def shard_path(path: str, split: str, shard: int, num_shards: int) -> str:
  return os.path.join(path, f"{split}-{shard:05d}-of-{num_shards:05d}.array_record")


def names(split: str, num_shards: int) -> list[str]:
  """Returns the names of the shards of a split."""
  return [os.path.basename(shard_path("", split, shard, num_shards)) for shard in range(num_shards)]


def _header_path(path: str, split: str) -> str:
  return os.path.join(path, f"{split}.json")


def pack(example: Example) -> bytes:
  """Encodes one record. The image must be encoded."""
  return msgpack.packb({key: value for key, value in example._asdict().items() if value is not None})


def unpack(record: bytes) -> Example:
  """Decodes the output of `pack`.

  Raises:
    ValueError: the bytes are not a record written by `pack`.
  """
  try:
    example = Example(**msgpack.unpackb(record))
  except TypeError as error:
    raise ValueError("is not a record that prepare wrote") from error
  if not (
    isinstance(example.image, bytes)
    and type(example.label) is int
    and isinstance(example.name, str)
    and isinstance(example.target, bytes | None)
  ):
    raise ValueError("is not a record that prepare wrote")
  return example


def open_writer(path: str) -> Any:
  """Opens an ArrayRecordWriter, which raises RuntimeError when the disk is full."""
  return array_record_module.ArrayRecordWriter(path, _WRITER_OPTIONS)


def count_records(path: str) -> int:
  """Returns the number of records in a shard; -1 if it is missing, truncated or its index is damaged."""
  if not os.path.isfile(path):
    return -1
  reader = array_record_module.ArrayRecordReader(path)
  # A truncated file opens with no records and raises no exception.
  count = reader.num_records() if reader.ok() else -1
  if count >= 0:  # a reader that is not ok raises on close
    reader.close()
  return count


def open_shard(path: str) -> Sequence[bytes]:
  """Opens a shard for reading in any number of threads: no records if it is damaged. A damaged record raises
  RuntimeError, see `explain`.
  """
  count = count_records(path)
  # The record count in the name avoids opening the file again here.
  return array_record_data_source.ArrayRecordDataSource([f"{path}[0:{count}]"]) if count > 0 else ()


def explain(error: RuntimeError, record: str) -> OSError | ValueError:
  """Converts ArrayRecord's only exception type: OSError if a system call failed, else ValueError, which means
  damage.

  A reader that failed while it opened its file, or whose file handle is stale, keeps failing. In that case
  copy the data source: the copy reopens its files.
  """
  failed = re.match(r"\w+\(\) failed: ([^;]*)(?:; (?:reading|opening) ([^;]*))?", str(error))
  if not failed:
    return ValueError(f"{record}: {error}")
  number = next((number for number in errno.errorcode if os.strerror(number) == failed[1]), errno.EIO)
  return OSError(number, failed[1], failed[2] or record)


def read_header(path: str, split: str) -> dict[str, Any]:
  """Reads the JSON file of a split.

  Raises:
    BadInput: the file is missing or damaged.
  """
  manifest.check(path, f"{split}.json", listed=False)
  where = _header_path(path, split)
  if os.path.isfile(path):
    raise BadInput(f"{path} is a file; data.path is the folder it lies in, {os.path.dirname(path) or '.'}")
  if not os.path.lexists(where):
    raise BadInput(_explain_missing(path, split))
  header = json_files.read(where, {"version": int}, _ADVICE)
  if header["version"] != VERSION:
    raise BadInput(
      f"{where} has format {header['version']}, this program reads {VERSION}: prepare the set again"
    )
  if wrong := json_files.check(header, _SCHEMA):
    raise BadInput(f"{where} is damaged: {wrong}; {_ADVICE}")
  return header


def write_header(path: str, split: str, header: dict[str, Any]) -> None:
  """Writes the JSON file of a split; creates the folder."""
  os.makedirs(path, exist_ok=True)
  files.write(pathlib.Path(_header_path(path, split)), header_text(header))


def header_text(header: dict[str, Any]) -> str:
  """Returns the content of the JSON file of a split."""
  return json.dumps(header, ensure_ascii=False)


def check_same_set(path: str, split: str, header: dict[str, Any]) -> None:
  """Raises BadInput, with the differences, if the shards of this split belong to another set."""
  existing, header = read_header(path, split), json.loads(json.dumps(header))
  if existing in (header, {key: value for key, value in header.items() if key != "band_names"}):
    return
  before, now = (value | value["made_from"] for value in (existing, header))
  names = {
    "num_shards": "shards",
    "images": "number of images",
    "listing": "files or order",
    "class_names": "class names",
  }
  others = []
  for key in before | now:
    if key != "made_from" and before.get(key) != now.get(key):
      values = "" if key in ("listing", "class_names") else f" ({before.get(key)}, now {now.get(key)})"
      others.append(names.get(key, key) + values)
  raise BadInput(
    f"{path} holds split '{split}' prepared with other {', '.join(others)}; give the same, choose another "
    "--out, or delete it"
  )


class Shards:
  """One split of a prepared set. See `example.Source`."""

  labels, listing, files = (), b"", ()

  def __init__(self, path: str, split: str):
    """Opens all shards.

    Raises:
      BadInput: the split does not exist, or shards are missing or have another size than when written.
    """
    header = read_header(path, split)
    self.class_names = tuple(map(printable, header["class_names"]))
    self.targets = Target(header.get("targets", ""))
    self.num_classes = len(self.class_names)
    self._where = _header_path(path, split)
    paths = [shard_path(path, split, shard, header["num_shards"]) for shard in range(header["num_shards"])]
    with futures.ThreadPoolExecutor(32) as pool:
      counts = list(pool.map(count_records, paths))
    names = list(map(os.path.basename, paths))
    damage = {name: f"{name} ({why})" for name, why in manifest.find_damage(path, names).items()}
    damage |= {name: name for name, count in zip(names, counts, strict=True) if count < 0}
    if damage:
      raise BadInput(
        f"{path}: {len(damage)} of {len(paths)} shards are missing or damaged:"
        f" {listed(sorted(damage.values()), 3)}; run prepare again: it writes only these"
      )
    if not sum(counts):
      raise BadInput(
        f"{path} holds no image in split '{split}', because prepare left out all of them; repair the files,"
        " or change the flags that excluded them, delete the set, and run prepare again"
      )
    # The record count in the name avoids opening each file again here; workers open the files that they read.
    self._data = array_record_data_source.ArrayRecordDataSource(
      [f"{p}[0:{count}]" for p, count in zip(paths, counts, strict=True)]
    )

  def __len__(self) -> int:
    return len(self._data)

  def __getitem__(self, index: int) -> Example:
    try:
      example = unpack(self._data[index])
    except RuntimeError as error:
      self._data = copy.copy(self._data)
      raise explain(error, f"record {index} of {self._where}") from error
    except ValueError as error:
      raise ValueError(f"record {index} of {self._where}: {error}") from error
    if example.label >= self.num_classes:
      raise BadInput(
        f"{self._where} has {self.num_classes} class names, but {example.name} has label {example.label}"
      )
    return example


def splits(path: str) -> list[str]:
  """Returns the names of the splits of a prepared set, sorted."""
  names = [
    os.path.basename(name)[: -len(".json")]
    for name in sorted(glob.glob(os.path.join(glob.escape(path), "*.json")))
  ]
  return [
    name
    for name in names
    if glob.glob(os.path.join(glob.escape(path), f"{glob.escape(name)}-*.array_record"))
  ]


def _explain_missing(path: str, split: str) -> str:
  if existing := splits(path):
    return no_split(path, split, existing)
  return (
    f"{path} holds no {split}.json, so it is not a set that prepare wrote; for a folder of images use "
    f"--config.data.source=folder, or run python -m swin_jax.data.prepare --source={path} --out=FOLDER"
  )
