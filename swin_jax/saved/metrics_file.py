"""The metrics file of a run, as it is read: one JSON object a line."""

import json
import os
import pathlib
from typing import Any

from swin_jax.saved import workdir
from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput


def read(path: str) -> list[dict[str, Any]]:
  """Returns the entries of the run in a workdir, ordered by step; lines that are damaged are left out.

  Raises:
    BadInput: there is no metrics file, or it has no entry.
  """
  file = pathlib.Path(path) / workdir.METRICS
  if not os.path.isfile(file):
    raise BadInput(f"{path} holds no {workdir.METRICS}; it must be the workdir of a run")
  try:
    with files.open_regular(file) as opened:
      lines = opened.read().split(b"\n")
  except OSError as error:
    raise BadInput(f"{file} cannot be read: {error.strerror or error}") from error
  entries = []
  for line in lines:
    try:
      entry = json.loads(line.decode())
    except (ValueError, RecursionError):
      continue
    if isinstance(entry, dict) and type(entry.get("step")) is int:
      entries.append(entry)
  if not entries:
    raise BadInput(f"{file} has no entry yet; the run writes one every log.every_steps steps")
  return sorted(entries, key=lambda entry: entry["step"])
