"""What every command shares: flags without tracebacks, and exit codes."""

from collections.abc import Callable, Sequence
import difflib
import errno
import os
import sys
from typing import NoReturn

from absl import flags

from swin_jax import preemption
from swin_jax.errors import BadInput
from swin_jax.errors import Preempted


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


def exit_code(body: Callable[[], None]) -> int:
  """Runs a command: 0; 2 for bad input or a full disk, 75 when stopped by SIGTERM, 130 by Ctrl-C; each said in one line."""
  try:
    body()
  except BadInput as error:
    print(f"swin_jax: {error}", file=sys.stderr)
    return 2
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    where = f" for {error.filename}" if error.filename else ""
    print(f"swin_jax: no space left on the disk{where}; make room, then the same command goes on", file=sys.stderr)
    return 2
  except Preempted as stopped:
    print(f"swin_jax: {stopped}", file=sys.stderr)
    return preemption.exit_code()
  except KeyboardInterrupt:
    print("swin_jax: stopped; the same command goes on", file=sys.stderr)
    return preemption.INTERRUPTED
  return 0


def leave(code: int) -> NoReturn:
  """Ends the process; unless all went well at once, because native threads that still run would crash the interpreter's end or wait."""
  sys.stdout.flush()
  sys.stderr.flush()
  if code:
    os._exit(code)
  sys.exit(0)
