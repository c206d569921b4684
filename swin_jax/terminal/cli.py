"""What every command shares: flags without tracebacks, and exit codes."""

import argparse
from collections.abc import Callable, Sequence
import difflib
import errno
import os
import re
import sys
import traceback
from typing import NoReturn

from absl import flags

from swin_jax.terminal import preemption
from swin_jax.terminal.errors import BadInput, Fault, Preempted

FAULT = 74  # EX_IOERR


def parse_flags(argv: Sequence[str], doc: str, required: Sequence[tuple[flags.FlagHolder, str]]) -> None:
  """Parses the flags of the command line.

  Args:
    argv: command and flags.
    doc: docstring of the command, printed by --help.
    required: (flag, an example of its value).

  Raises:
    BadInput: an unknown flag, a wrong value, a word that is no flag, or a required flag that is missing.
    SystemExit: with code 0, after --help.
  """
  if {"--help", "-h", "-help"} & set(argv[1:]):
    print(f"{doc.strip()}\n{flags.FLAGS.main_module_help()}")
    sys.exit(0)
  try:
    rest = flags.FLAGS(list(argv))
  except flags.UnrecognizedFlagError as error:
    near = difflib.get_close_matches(error.flagname, list(flags.FLAGS), 1)
    hint = f"did you mean --{near[0]}?" if near else "--help lists all flags"
    raise BadInput(f"--{error.flagname} is unknown; {hint}") from error
  except flags.Error as error:
    raise BadInput(" ".join(str(error).split())) from error
  if len(rest) > 1:
    raise BadInput(f"'{rest[1]}' is no flag; flags are written --name=value")
  for flag, example in required:
    if flag.value in (None, ""):
      raise BadInput(f"--{flag.name} is missing; for example --{flag.name}={example}")


class Parser(argparse.ArgumentParser):
  """Of a command with words besides flags: what is wrong with them is bad input, said in one line."""

  def __init__(self, **kwargs):
    super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

  def parse_known_args(self, args=None, namespace=None):
    known, rest = super().parse_known_args(args, namespace)
    if rest:  # here, where a subcommand knows its own flags
      near = difflib.get_close_matches(rest[0].partition("=")[0], list(self._option_string_actions), 1)
      self.error(f"{rest[0]} is unknown" + (f"; did you mean {near[0]}?" if near else ""))
    return known, rest

  def error(self, message: str) -> NoReturn:
    raise BadInput(f"{' '.join(message.split())}; {self.prog} --help explains all")


def size(text: str) -> int | list[int]:
  """The value of a flag: a number, HEIGHT,WIDTH or a number for each stage."""
  try:
    numbers = [int(part) for part in text.split(",")]
  except ValueError as error:
    raise argparse.ArgumentTypeError(f"'{text}' must be a number, or numbers divided by commas") from error
  return numbers[0] if len(numbers) == 1 else numbers


def numbers(text: str) -> list[float]:
  """The value of a flag: numbers divided by commas."""
  try:
    return [float(part) for part in text.split(",")]
  except ValueError as error:
    raise argparse.ArgumentTypeError(f"'{text}' must be numbers divided by commas") from error


def parse_config_flags(
  argv: Sequence[str], doc: str, config: flags.FlagHolder, required: Sequence[tuple[flags.FlagHolder, str]]
) -> None:
  """As `parse_flags`, for a command with a config: also reads its file, and refuses keys and values that it
  has not.

  Args:
    argv, doc: as in `parse_flags`.
    config: the flag of the config file, which is required.
    required: the other flags that are.

  Raises:
    BadInput, SystemExit: as `parse_flags`; BadInput also for what is wrong with the config.
  """
  try:
    parse_flags(argv, doc, [(config, "configs/quickstart.py"), *required])
    _ = config.value.task  # a file that cannot be read fails only when its config is used
  except BadInput as error:
    raise BadInput(_clear(str(error), argv)) from error
  except (AttributeError, KeyError, TypeError, ValueError) as error:  # a key or value that the config refuses
    raise BadInput(_clear(str(error), argv)) from error
  except OSError as error:
    path = re.search(r"--?config[= ]([^: ]+)", " ".join(argv))[1]
    raise BadInput(f"--config={path}: there is no such file") from error


def _clear(message: str, argv: Sequence[str]) -> str:
  """What ml_collections says of a key or of an error inside a config, without tracebacks and in one line."""
  # a KeyError's text is a quoted repr, also inside another error
  message = message.replace("\\n", "\n").replace("\\'", "'")
  if "Traceback (most recent call last):" in message:
    return message.rpartition("Error: ")[2].strip()
  names = [arg.partition("=")[0].lstrip("-") for arg in argv[1:]]
  key, found, near = message.partition("Did you mean")
  if found:
    name = next(
      (name for name in names if name.startswith("config.") and key.strip("'\" \n") in name.split(".")), None
    )
    if name:
      return f"there is no config key {name}. Did you mean" + near.rstrip("'")
  name = next(
    (name for name in names if name.startswith("config.") and message.strip("'\" ") in name.split(".")), None
  )
  return (
    f"there is no config key {name}; configs/common.py lists them all" if name else " ".join(message.split())
  )


def exit_code(body: Callable[[], None]) -> int:
  """Runs a command: 0; 2 for bad input, 74 for a fault, 75 when stopped by SIGTERM, 130 by Ctrl-C, each said
  in one line; 1 for a bug.
  """
  try:
    body()
  except BadInput as error:
    print(f"swin_jax: {error}", file=sys.stderr)
    return FAULT if isinstance(error, Fault) else 2
  except Preempted as stopped:
    print(f"swin_jax: {stopped}", file=sys.stderr)
    return preemption.exit_code()
  except KeyboardInterrupt:
    print("swin_jax: stopped; the same command goes on", file=sys.stderr)
    return preemption.INTERRUPTED
  except Exception as error:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
      where = f" for {error.filename}" if error.filename else ""
      print(
        f"swin_jax: no space left on the disk{where}; make room, then the same command goes on",
        file=sys.stderr,
      )
      return FAULT
    # and then `leave`: the interpreter's own end would wait for the other processes of the run
    traceback.print_exc()
    return 1
  return 0


def leave(code: int) -> NoReturn:
  """Ends the process; unless all went well at once, because native threads that still run would crash the
  interpreter's end or wait.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  if code:
    os._exit(code)
  sys.exit(0)
