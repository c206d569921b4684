"""Loads the config file that a command line names; a mistake in it is one line with its place."""

import os
import re
import traceback
from typing import Any

from swin_jax.terminal import addresses
from swin_jax.terminal.errors import BadInput

_LONGEST = 300  # characters of a message


def load(name: str) -> Any:
  """Returns the config that FILE:KIND or FILE describes, locked; the file is Python and has `get_config`.

  Raises:
    BadInput: there is no such file, it is not Python, raises an error, or returns something else.
  """
  addresses.check_local("--config", name)
  file, colon, kind = name.partition(":")
  if not os.path.isfile(file):
    raise BadInput(f"--config={file}: {'not a file' if os.path.exists(file) else 'no such file'}")
  try:
    with open(file, "rb") as opened:
      names = {"__name__": "config", "__file__": file}
      exec(compile(opened.read(), file, "exec"), names)
    if "get_config" not in names:
      raise BadInput(f"--config={file} has no function get_config; see configs/quickstart.py")
    return _locked(names["get_config"](*[kind] * bool(colon)), file)
  except (Exception, SystemExit) as error:
    if isinstance(error, BadInput):
      raise
    raise BadInput(f"--config={file}: {_in_words(error, file)}") from error


def _locked(config: Any, file: str) -> Any:
  from ml_collections import ConfigDict  # late, because --help needs none

  if not isinstance(config, ConfigDict):
    raise BadInput(
      f"--config={file}: get_config returns {type(config).__name__}, not a config that starts with"
      " common.base() of configs/common.py"
    )
  return config.lock()


def _in_words(error: BaseException, file: str) -> str:
  """Returns an error that a config file raised in one line, with the line of the file."""
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
  if isinstance(error, SyntaxError) and error.filename == file:
    lines = [error.lineno]
  kind = "" if type(error) is ValueError else f"{type(error).__name__}: "  # ValueErrors have whole sentences
  text = f"{kind}{error.args[0] if error.args else error}".replace("\\n", "\n")
  text = " ".join(text.split())
  # ml_collections lists the whole group
  text = re.sub("Other fields present: .*?(?=Did you mean|$)", "", text)
  text = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
  return text + (f" (line {lines[-1]})" if lines and lines[-1] else "")
