"""The file that --json names."""

import pathlib

from swin_jax.terminal.errors import BadInput


def check(path: pathlib.Path | None) -> None:
  """Refuses, before anything is measured, a file that could not be written in the end.

  Raises:
    BadInput: its folder is not there, or it is a folder itself.
  """
  if path and not path.absolute().parent.is_dir():
    raise BadInput(f"--json={path}: there is no folder {path.parent}")
  if path and path.is_dir():
    raise BadInput(f"--json={path} is a folder: name a file in it")
