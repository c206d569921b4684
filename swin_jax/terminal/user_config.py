"""Loads the config that a command line names; a mistake in its file is one line with its place."""

import difflib
from importlib.machinery import ModuleSpec
import os
import pathlib
import re
import traceback
from typing import Any

from swin_jax.terminal import addresses, shipped
from swin_jax.terminal.errors import BadInput

_LONGEST = 300  # characters of a message


def load(name: str) -> Any:
  """Returns the config that NAME:KIND or NAME describes, locked.

  NAME is a file, which is Python and has `get_config`, or the name of a config that ships with this package.

  Raises:
    BadInput: there is no such file or config, it is an address, is not Python, raises an error, or returns
      something else.
  """
  addresses.check_local("--config", name)
  stem, colon, kind = name.partition(":")
  file = _file_of(stem, colon + kind)
  shipped.provide()
  try:
    with open(file, "rb") as opened:
      # relative imports are from the shipped configs, also in a copy of one that lies elsewhere
      spec = ModuleSpec(f"{shipped.PACKAGE}.config", None)
      names = {"__name__": "config", "__file__": file, "__spec__": spec}
      exec(compile(opened.read(), file, "exec"), names)
    if "get_config" not in names:
      raise BadInput(f"--config={stem} has no function get_config; see {shipped.path_of('quickstart')}")
    return _locked(names["get_config"](*[kind] * bool(colon)), stem)
  except (Exception, SystemExit) as error:
    if isinstance(error, BadInput):
      raise
    raise BadInput(f"--config={stem}: {_in_words(error, file)}") from error


def _file_of(name: str, kind: str) -> str:
  """Returns the path of a config file.

  Args:
    name: the path, or the name of a shipped config.
    kind: the rest of the flag, for the message.

  Raises:
    BadInput: there is neither; the message names the shipped config that is nearest.
  """
  if os.path.isfile(name):
    return name
  if name in shipped.names():
    return shipped.path_of(name)
  if os.path.exists(name):
    raise BadInput(f"--config={name}: not a file")
  near = difflib.get_close_matches(pathlib.PurePath(name).stem, shipped.names(), 1)
  advice = f"did you mean --config={near[0]}{kind}?" if near else "--help lists the configs"
  raise BadInput(f"--config={name}: no such file or config; {advice}")


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
  # ValueErrors of configs have whole sentences
  kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
  text = f"{kind}{error.args[0] if error.args else error}".replace("\\n", "\n")
  if isinstance(error, ModuleNotFoundError) and error.name == "configs":
    text += f"; import from {shipped.PACKAGE}, which works everywhere"
  text = " ".join(text.split())
  # ml_collections lists the whole group
  text = re.sub("Other fields present: .*?(?=Did you mean|$)", "", text)
  text = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
  return text + (f" (line {lines[-1]})" if lines and lines[-1] else "")
