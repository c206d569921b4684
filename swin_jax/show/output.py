"""Output folders and file names of pictures and maps."""

import os
import pathlib

from swin_jax.terminal.errors import BadInput, cannot_write


def folder(flag: str, path: str) -> pathlib.Path:
  """Returns the folder that a flag names; creates it if necessary.

  Raises:
    BadInput: the folder cannot be created or written to.
  """
  directory = pathlib.Path(path)
  try:
    directory.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise cannot_write(f"{flag}={path}", error, done="created") from error
  if not os.access(directory, os.W_OK | os.X_OK):
    raise BadInput(f"{flag}={path} cannot be written to; choose another folder")
  return directory


def new_file(where: pathlib.Path, name: str, ending: str) -> pathlib.Path:
  """Returns the path of a file that does not exist yet: NAME plus ending, else NAME-2 plus ending, and so on.

  A file of the same name may come from an image in another folder, or from an earlier command.
  """
  path, number = where / f"{name}{ending}", 1
  while path.exists():
    number += 1
    path = where / f"{name}-{number}{ending}"
  return path
