"""Packages that only some jobs need: extras of `pyproject.toml`, imported where they are used."""

from swin_jax.terminal import shipped
from swin_jax.terminal.errors import BadInput


def missing(extra: str, need: str, error: ImportError) -> BadInput:
  """Returns the error for a package of an extra that cannot be imported.

  Args:
    extra: the extra that brings it.
    need: what needs which package.
    error: why it cannot be imported.
  """
  return BadInput(f"{need} ({error}): {command(extra)}")


def command(extra: str) -> str:
  """Returns the command that installs an extra, in a clone or next to the installed package."""
  return f"pip install -e '.[{extra}]'" if shipped.in_clone() else f"pip install 'swin_jax[{extra}]'"
