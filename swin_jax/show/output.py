"""Where what is shown is written."""

import os
import pathlib

from swin_jax.terminal.errors import BadInput


def folder(flag: str, path: str) -> pathlib.Path:
  """The folder that a flag names, made if need be.

  Raises:
    BadInput: it cannot be made, or written to.
  """
  made = pathlib.Path(path)
  try:
    made.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise BadInput(f"{flag}={path} cannot be made: {error.strerror}") from error
  if not os.access(made, os.W_OK | os.X_OK):
    raise BadInput(f"{flag}={path} cannot be written to; take another folder")
  return made


def new_file(where: pathlib.Path, name: str, ending: str) -> pathlib.Path:
  """NAME and ending or, where there is such a file, of the same name in another folder or from before, NAME-2
  and ending, and so on.
  """
  path, number = where / f"{name}{ending}", 1
  while path.exists():
    number += 1
    path = where / f"{name}-{number}{ending}"
  return path
