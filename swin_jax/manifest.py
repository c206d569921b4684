"""Checksums of a checkpoint's files: what tells a whole one from a damaged one."""

from collections.abc import Sequence
import hashlib
import json
import pathlib

import jax

from swin_jax import distributed
from swin_jax import files

NAME = "manifest.json"


def write(folder: pathlib.Path, leave_out: Sequence[str] = ()) -> None:
  """Writes the checksum of every file of a committed checkpoint into it, but for files of these names."""
  paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in leave_out]
  files.write(folder / NAME, json.dumps({str(path.relative_to(folder)): _checksum(path) for path in paths}, indent=1))


def find_damage(folder: pathlib.Path) -> str | None:
  """What is wrong with a checkpoint, in words; None if it is whole. All processes call this, and each looks at its share."""
  return next((damage for damage in distributed.gather(_find_damage(folder) or "") if damage), None)


def _find_damage(folder: pathlib.Path) -> str | None:
  manifest = folder / NAME
  if not manifest.exists():
    return "it has no checksums: its save was not finished"
  try:
    sums = json.loads(manifest.read_text())
  except ValueError:
    return f"{NAME} cannot be read"
  for name, checksum in list(sums.items())[jax.process_index() :: jax.process_count()]:
    path = folder / name
    if not path.exists():
      return f"{name} is missing"
    if _checksum(path) != checksum:
      return f"{name} has changed"
  return None


def _checksum(path: pathlib.Path) -> str:
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()
