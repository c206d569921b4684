"""The folder of a run: the names that it uses, which paths cannot be one, and what must not lie there."""

import glob
import os
import pathlib

from swin_jax.terminal.errors import BadInput

CHECKPOINTS = "checkpoints"  # folder of checkpoints, one a step
CONFIG = "config.json"  # the resolved config
PARAMETERS = "parameters.txt"  # table of all parameters
TRANSFER = "transfer.txt"  # what became of every array of the model that the run started from
METRICS = "metrics.jsonl"  # metrics by step, a line each
CURVES = "curves.png"  # the metrics as pictures, drawn when the run ends
LOCK = ".lock"  # locked while a process trains
# Files that a run replaces. Logs are not among them: a run goes on without them.
_FILES = (CONFIG, PARAMETERS, TRANSFER, LOCK)


def check(workdir: str) -> None:
  """Checks that a path can be the folder of a run, which may exist already.

  Orbax takes the path of a checkpoint for a pattern in places, and would save what it cannot restore.

  Raises:
    BadInput: the path has characters with which Orbax does not work, it or the folder of the checkpoints is
      not a folder, one of the run's files is not a file, or the path cannot be used; the message names it.
  """
  path = pathlib.Path(workdir).absolute()
  name = os.fspath(path)
  if glob.escape(name) != name or "\\" in name or "\0" in name or not _is_text(name):
    raise BadInput(
      f"--workdir={workdir} is {name!r}, but the path of a run must not contain any of * ? [ \\ or bytes that"
      " are not text: checkpoints cannot be saved there; choose another name, or give a symbolic link to it"
    )
  try:
    os.stat(path / CHECKPOINTS)
  except (FileNotFoundError, NotADirectoryError):
    pass
  except OSError as error:
    raise BadInput(f"--workdir={workdir} cannot be used: {error.strerror}") from error
  for folder in (path, path / CHECKPOINTS):
    if os.path.lexists(folder) and not os.path.isdir(folder):
      raise BadInput(
        f"{folder} is {_kind(folder)}, but must be a folder; remove it or choose another --workdir"
      )
  for file in map(path.joinpath, _FILES):
    if os.path.lexists(file) and not os.path.isfile(file):
      raise BadInput(f"{file} is {_kind(file)}, but must be a file; remove it or choose another --workdir")


def _kind(path: pathlib.Path) -> str:
  if not path.exists():
    return "a link to nowhere"
  return "a folder" if path.is_dir() else "a file" if path.is_file() else "a pipe or a device"


def _is_text(name: str) -> bool:
  try:
    return bool(name.encode())
  except UnicodeEncodeError:  # bytes of the command line that are not UTF-8
    return False
