"""Checksums of a checkpoint's files, which tell an intact checkpoint from a damaged one.

Each of n processes writes the checksums of its share of the files, so a checkpoint is complete once it holds
all n lists.
"""

import json
import pathlib
import re
import zlib

import jax

from swin_jax.mesh import distributed
from swin_jax.terminal import digests, files

_NAME = re.compile(r"checksums-(\d+)-of-(\d+)\.json")


def write(folder: pathlib.Path, leave_out: str) -> None:
  """Writes the checksums of this process's share of a committed checkpoint's files into the checkpoint.

  Args:
    folder: the checkpoint.
    leave_out: files whose name begins with this get no checksum.
  """
  index, count = jax.process_index(), jax.process_count()
  names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
  # By the name alone, so that processes agree on a file's owner even while some do not see all files yet.
  mine = [name for name in sorted(names) if zlib.crc32(name.encode()) % count == index]
  mine = [name for name in mine if not name.startswith(("checksums-", leave_out))]
  files.write(
    folder / f"checksums-{index}-of-{count}.json",
    json.dumps({name: digests.of_file(folder / name)["sha256"] for name in mine}, indent=1),
  )


def is_written(folder: pathlib.Path) -> bool:
  """Returns whether all checksums have been written, that is, whether the save was finished."""
  counts = [int(match[2]) for path in folder.glob("*") if (match := _NAME.fullmatch(path.name))]
  return bool(counts) and len(counts) == counts[0]


def find_damage(folder: pathlib.Path) -> str | None:
  """Describes the damage to a checkpoint; returns None if it is intact.

  All processes call this, and each checks its share of the files.
  """
  return next((damage for damage in distributed.gather(_find_damage(folder) or "") if damage), None)


def _find_damage(folder: pathlib.Path) -> str | None:
  if not is_written(folder):
    return "it lacks checksums: its save was not finished"
  sums = {}
  for path in sorted(folder.glob("checksums-*.json")):
    try:
      sums |= json.loads(path.read_text())
    except (OSError, ValueError):
      return f"{path.name} cannot be read"
  for name in sorted(sums)[jax.process_index() :: jax.process_count()]:
    try:
      if digests.of_file(folder / name)["sha256"] != sums[name]:
        return f"{name} has changed"
    except FileNotFoundError:
      return f"{name} is missing"
    except OSError as error:
      return f"{name} cannot be read: {error.strerror or error}"
  return None
