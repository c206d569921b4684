"""Shared parts of all commands: flags, errors without tracebacks, and exit codes."""

import argparse
from collections.abc import Callable, Collection, Sequence
import difflib
import errno
import gc
import os
import re
import signal
import sys
import traceback
from typing import Any, NoReturn

from swin_jax.terminal import (
  config_help,
  config_keys,
  config_values,
  config_words,
  leftovers,
  preemption,
  rules,
  shipped,
  user_config,
)
from swin_jax.terminal.errors import BadInput, Fault, Preempted, is_of_storage, reason
from swin_jax.terminal.progress import say, warn

FAULT = 74  # EX_IOERR
# Errors that say that a path cannot be used, wherever it was given.
_BAD_PATH = (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EACCES)
# New objects between two garbage collections. Tracing creates many that stay: at Python's 700, collection
# took a tenth of the CPU time of a small run.
COLLECT_EVERY = 50_000
_OF_ABSL = re.compile("--?(no)?(flagfile|undefok)(=|$)")
# What ml_collections raises where a key or its value cannot be parsed.
_MISTAKES = (AttributeError, LookupError, TypeError, ValueError, SyntaxError, ArithmeticError, RecursionError)


class Parser(argparse.ArgumentParser):
  """A parser that reports mistakes as bad input, in one line; no flag may be given twice."""

  def __init__(self, **kwargs):
    super().__init__(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
    self.register("action", None, _StoreOnce)  # argparse would silently take the last value
    self.given: set[str] = set()  # arguments so far, of the command line that is being parsed

  def parse_known_args(self, args=None, namespace=None):
    known, rest = self._parse(args, namespace)
    if rest:  # reported here, where a subcommand knows its own flags
      self.refuse(rest[0])
    return known, rest

  def _parse(self, args, namespace):
    self.given.clear()
    return super().parse_known_args(args, namespace)

  def refuse(self, word: str) -> NoReturn:
    """Raises BadInput for a word that is not a flag of this command."""
    name = word.partition("=")[0]
    if not name.startswith("-"):
      raise BadInput(f"'{word}' is not a flag; flags are written --name=value")
    near = difflib.get_close_matches(name, list(self._option_string_actions), 1)
    raise BadInput(
      f"{name} is unknown; " + (f"did you mean {near[0]}?" if near else "--help lists all flags")
    )

  def error(self, message: str) -> NoReturn:
    raise BadInput(f"{' '.join(message.split())}; {self.prog} --help lists all flags")


class _StoreOnce(argparse.Action):
  """Stores the value of an argument; refuses a flag that already has one."""

  def __call__(self, parser, namespace, values, option_string=None):
    if self.dest in parser.given:
      before = getattr(namespace, self.dest)
      raise BadInput(
        f"{option_string} is given twice, {rules.shown(before)} and {rules.shown(values)}; give it once"
      )
    parser.given.add(self.dest)
    setattr(namespace, self.dest, values)


class ConfigParser(Parser):
  """A parser with --config=NAME[:KIND] and a flag --config.GROUP.KEY=VALUE for every key of that config.

  `parse_args` returns the config itself, locked, as `config`. absl parses only the arguments that argparse
  does not know, and its flags exist only during the call, so one process may parse several command lines.
  """

  def __init__(self, config_of: Callable[[argparse.Namespace], Any] = lambda known: None, **kwargs):
    """Creates a parser.

    Args:
      config_of: the other flags → the config if --config is missing; None if it is needed.
      kwargs: see argparse.
    """
    super().__init__(**kwargs)
    self._config_of = config_of
    self.add_argument(
      "--config",
      metavar="NAME[:KIND]",
      help="name of a config that ships with swin_jax, or path of a config file; after a colon the kind of"
      " run; --config.GROUP.KEY=VALUE changes a key",
    )
    self.add_argument(
      "--help_config",
      action="store_true",
      help="print every key of the config, with its value and meaning, and exit; without --config, the"
      " defaults",
    )

  def format_help(self):
    return "\n".join([super().format_help(), *shipped.described(), ""])

  def parse_known_args(self, args=None, namespace=None):
    known, rest = self._parse(args, namespace)
    if not known.config and rest and not config_words.KEY.match(rest[0]):
      self.refuse(rest[0])
    if known.config:
      config = user_config.load(known.config)
    elif known.help_config:
      config = shipped.module("common").base()
    else:
      config = self._config_of(known)
      if config is None:
        require(known, config="quickstart:pretrain")
    known.config = self._change(config, rest)
    if known.help_config:
      say(*config_help.lines(known.config))
      self.exit()
    return known, []

  def _change(self, loaded: Any, rest: Sequence[str]) -> Any:
    """Returns the config, modified by the flags that argparse does not know.

    Raises:
      BadInput: a key does not exist or cannot have the given value, a key is given twice, or an argument is
        not a flag.
    """
    for word in rest:
      if _OF_ABSL.match(word):  # absl would read files of flags, or ignore unknown flags
        self.refuse(word)
    given = config_words.given(rest)
    from absl import flags  # --help needs neither
    from ml_collections import config_flags

    config_keys.check(given_keys(rest), loaded)
    for flag, key, text in given:
      config_values.check(flag, key, text, loaded)
    argv, values = [self.prog, *rest], flags.FlagValues()
    try:
      config = config_flags.DEFINE_config_dict("config", loaded, flag_values=values, sys_argv=argv)
      words = values(argv)
    except flags.UnrecognizedFlagError as error:
      self.refuse(f"--{error.flagname}")
    except (flags.Error, *_MISTAKES) as error:
      raise BadInput(_clear(str(error), given_keys(argv))) from error
    if len(words) > 1:
      self.refuse(words[1])
    return config.value


def given_keys(argv: Sequence[str]) -> list[str]:
  """Returns the keys that a command line sets by --config.GROUP.KEY, as "GROUP.KEY", each once."""
  return list(dict.fromkeys(match[1] for word in argv if (match := config_words.KEY.match(word))))


def require(arguments: argparse.Namespace, **examples: str) -> None:
  """Checks that flags have a value.

  Args:
    arguments: the parsed command line.
    examples: flag → example of a value.

  Raises:
    BadInput: a flag is missing or empty; the message gives the example.
  """
  for name, example in examples.items():
    if not getattr(arguments, name):
      raise BadInput(f"--{name} is missing; for example --{name}={example}")


def number(rule: rules.Real) -> Callable[[str], float]:
  """Returns the type of a flag: a number that follows a rule."""
  kind = int if isinstance(rule, rules.Whole) else float

  def parse(text: str) -> float:
    try:
      value = kind(text)
    except ValueError:
      value = text  # the rule tells what must be there instead
    if wrong := rule.problem(value):
      raise argparse.ArgumentTypeError(f"{rules.shown(text)} {wrong}")
    return value

  return parse


def numbers(each: rules.Real, counts: Collection[int]) -> Callable[[str], list]:
  """Returns the type of a flag: comma-separated numbers, as many as `counts` allows, that follow a rule."""
  parse_one = number(each)

  def parse(text: str) -> list:
    parts = text.split(",")
    if len(parts) not in counts:
      takes = rules.amount(counts, "value")
      raise argparse.ArgumentTypeError(
        f"takes {takes}{' separated by commas' * (max(counts) > 1)}, got {len(parts)}"
      )
    return [parse_one(part) for part in parts]

  return parse


def sizes(counts: Collection[int], least: int = 1) -> Callable[[str], int | list[int]]:
  """Returns the type of a flag: one size in pixels or tokens, or several, as many as `counts` allows."""
  parse = numbers(rules.Whole(least, rules.SIDE.high), counts)

  def sizes_of(text: str) -> int | list[int]:
    values = parse(text)
    return values[0] if len(values) == 1 else values

  return sizes_of


def _clear(message: str, keys: Sequence[str]) -> str:
  """Returns ml_collections' message about a value as one line that names the key.

  Args:
    message: the message of ml_collections.
    keys: the keys that the command line sets.
  """
  # the text of a KeyError is a quoted repr, even inside another error
  message = " ".join(message.replace("\\n", "\n").replace("\\'", "'").split())
  keys = [key for key in keys if key in message] or keys
  names = "" if "config." in message else ", ".join(f"--config.{key}" for key in keys)
  return f"{names}: {message}" if names else message


def exit_code(body: Callable[[], None]) -> int:
  """Runs a command, with few garbage collections, and returns its exit code.

  0 means success; 2 bad input, 74 a fault, 75 a stop by SIGTERM or SIGHUP and 130 by Ctrl-C, each explained
  in one line on stderr; 1 a bug, with a traceback.
  """
  gc.set_threshold(COLLECT_EVERY)
  with preemption.watch():
    return _exit_code(body)


def _exit_code(body: Callable[[], None]) -> int:
  try:
    body()
  except BadInput as error:
    warn(str(error))
    return FAULT if isinstance(error, Fault) else 2
  except Preempted as stopped:
    warn(str(stopped))
    return preemption.exit_code()
  except KeyboardInterrupt:
    warn("stopped; the same command continues")
    return preemption.INTERRUPTED
  except Exception as error:
    if is_of_storage(error):
      where = f" for {error.filename}" if error.filename else ""
      warn(f"{reason(error)}{where}; once that is solved, the same command continues")
      return FAULT
    if isinstance(error, OSError) and error.errno in _BAD_PATH and error.filename:
      path = rules.shown(os.fsdecode(error.filename))
      warn(f"{path} cannot be used: {error.strerror}; choose another path or change this one")
      return 2
    # callers then use `leave`, because the interpreter's shutdown would wait for the run's other processes
    traceback.print_exc()
    return 1
  return 0


def leave(code: int) -> NoReturn:
  """Ends the process with an exit code, which a signal can no longer change.

  After an error it ends at once, because native threads that are still running could crash the interpreter's
  shutdown or block it.
  """
  for number in preemption.SIGNALS:
    signal.signal(number, signal.SIG_IGN)
  leftovers.clear()
  if code or not leftovers.flush():  # the shutdown would try to write again, and complain
    leftovers.end(code)
  sys.exit(0)
