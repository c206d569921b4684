"""Checksums of a checkpoint's files, which tell an intact checkpoint from a damaged one.

Each of n processes writes the checksums of its share of the files and the step, so a checkpoint is complete
once it holds all n lists. The evaluation, which is added later, holds its own checksum and step.
"""

from collections.abc import Mapping
import json
import pathlib
import re
from typing import Any
import zlib

import jax

from swin_jax.mesh import distributed
from swin_jax.terminal import digests, files, json_files
from swin_jax.terminal.errors import BadInput

EVALUATION = "evaluation.json"
_NAME = re.compile(r"checksums-(\d+)-of-(\d+)\.json")
_OLD_SUMS = {"*": str}  # name of a file → its checksum
_SUMS = {"step": int, "files": _OLD_SUMS}
_STEP, _SUM = "step", "sha256"  # keys of an evaluation besides its metrics


def write(folder: pathlib.Path, step: int) -> None:
  """Writes the checksums of this process's share of a committed checkpoint's files into the checkpoint."""
  index, count = jax.process_index(), jax.process_count()
  names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
  # By the name alone, so that processes agree on a file's owner even while some do not see all files yet.
  mine = [name for name in sorted(names) if zlib.crc32(name.encode()) % count == index]
  mine = [name for name in mine if not name.startswith(("checksums-", EVALUATION))]
  sums = {"step": step, "files": {name: digests.of_file(folder / name)["sha256"] for name in mine}}
  files.write(folder / f"checksums-{index}-of-{count}.json", json.dumps(sums, indent=1))


def is_written(folder: pathlib.Path) -> bool:
  """Returns whether all checksums have been written, that is, whether the save was finished."""
  counts = [int(match[2]) for path in folder.glob("*") if (match := _NAME.fullmatch(path.name))]
  return bool(counts) and len(counts) == counts[0]


def find_damage(folder: pathlib.Path) -> str | None:
  """Describes the damage to a checkpoint; returns None if it is intact.

  All processes call this, and each checks its share of the files.
  """
  share = slice(jax.process_index(), None, jax.process_count())
  return next((damage for damage in distributed.gather(_find_damage(folder, share) or "") if damage), None)


def is_trusted(folder: pathlib.Path, name: str) -> bool:
  """Returns whether a checkpoint is complete and one of its files intact, as seen by this process alone."""
  return _find_damage(folder, slice(None), name) is None


def _find_damage(folder: pathlib.Path, share: slice, only: str = "") -> str | None:
  """Describes the damage to a share of the files of a checkpoint, or to one of them."""
  try:
    if not is_written(folder):
      return "it lacks checksums: its save was not finished"
    sums = {}
    for path in sorted(path for path in folder.glob("*") if _NAME.fullmatch(path.name)):
      entries = json_files.read(path, dict)
      schema = _SUMS if "files" in entries else _OLD_SUMS
      if json_files.check(entries, schema):
        return f"{path.name} is damaged"
      if schema is _SUMS and str(entries["step"]) != folder.name:
        return f"{path.name} belongs to step {entries['step']}"
      sums |= entries["files"] if schema is _SUMS else entries
  except BadInput:
    return f"{path.name} cannot be read"
  except OSError as error:
    return f"it cannot be read: {error.strerror or error}"
  if only and only not in sums:
    return f"{only} has no checksum"
  for name in [only] if only else sorted(sums)[share]:
    try:
      if digests.of_file(folder / name)["sha256"] != sums[name]:
        return f"{name} has changed"
    except FileNotFoundError:
      return f"{name} is missing"
    except (OSError, ValueError) as error:
      return f"{name} cannot be read: {getattr(error, 'strerror', None) or error}"
  return None


def write_evaluation(folder: pathlib.Path, step: int, values: Mapping[str, float]) -> None:
  """Adds an evaluation to a checkpoint."""
  entries = dict(values) | {_STEP: step}
  files.write(folder / EVALUATION, json.dumps(entries | {_SUM: _sum_of(entries)}))


def read_evaluation(folder: pathlib.Path) -> tuple[dict[str, float] | None, str]:
  """Reads the evaluation of a checkpoint.

  Returns:
    The metrics, None if there are none or they are damaged; and a description of the damage. Evaluations
    without a step and a checksum are of older versions.
  """
  if not (folder / EVALUATION).exists():
    return None, ""
  try:
    entries = json_files.read(folder / EVALUATION, dict, nan=True)
  except BadInput as error:
    return None, str(error)
  step, checksum = entries.pop(_STEP, None), entries.pop(_SUM, None)
  if checksum is None and step is None and all(name.startswith("eval/") for name in entries):
    return entries, ""
  if checksum != _sum_of(entries | {_STEP: step}):
    return None, f"{folder / EVALUATION} has changed"
  if str(step) != folder.name:
    return None, f"{folder / EVALUATION} belongs to step {step}"
  return entries, ""


def _sum_of(entries: Mapping[str, Any]) -> str:
  return digests.of_bytes(json.dumps(entries, sort_keys=True).encode())["sha256"]
