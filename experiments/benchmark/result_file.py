"""Checks of the result file given by --json."""

import pathlib

from swin_jax.terminal.errors import BadInput


def check(path: pathlib.Path | None) -> None:
  """Checks before the measurement that the result file can be written.

  Raises:
    BadInput: its folder does not exist, or the path is a folder itself.
  """
  if path and not path.absolute().parent.is_dir():
    raise BadInput(f"--json={path}: there is no folder {path.parent}")
  if path and path.is_dir():
    raise BadInput(f"--json={path} is a folder: name a file in it")
