"""Reads the JSON files that this program wrote, and reports whatever is wrong with one in one line.

A schema says what a file, or a value in it, must be:

  str, int, bool, dict, ... a value of this type; an int is not a bool
  float                     a finite number, whole or not
  [schema]                  a list of such values
  {"key": schema, ...}      an object with these keys; one written "key?" may be missing, "*" is any other
  a `rules.Rule`            a value that follows the rule
"""

from collections.abc import Mapping
import json
import math
import os
import sys
from typing import Any

from swin_jax.terminal import files, rules
from swin_jax.terminal.errors import BadInput

Schema = type | list | Mapping | rules.Rule
MOST_BYTES = 2**28  # of one file; the largest that this program writes have some MB
_NAMES = {dict: "an object", list: "a list", str: "text", int: "a whole number", float: "a number"}
_NAMES |= {bool: "true or false"}


def read(path: str | os.PathLike, schema: Schema, advice: str = "", nan: bool = False) -> Any:
  """Reads a JSON file and checks it.

  Args:
    path: the file.
    schema: of its content.
    advice: how to mend it; the end of the message.
    nan: whether NaN and the infinities are allowed where the schema does not look.

  Raises:
    BadInput: the file is missing, is no regular file, is not JSON or does not match the schema; the message
      names the file and the key.
  """
  try:
    with files.open_regular(path) as file:
      size = os.fstat(file.fileno()).st_size  # a buffer of the bound would take as much memory, each time
      data = file.read(min(size, MOST_BYTES) + 1)
  except (OSError, ValueError) as error:  # ValueError: a null character in the name
    raise BadInput(
      _message(path, f"cannot be read: {getattr(error, 'strerror', None) or error}", advice)
    ) from error
  return parse(data, schema, path, advice, nan)


def parse(
  data: bytes | str, schema: Schema, where: str | os.PathLike, advice: str = "", nan: bool = False
) -> Any:
  """Returns the checked value of a JSON text; for arguments and errors, see `read`."""
  try:
    if len(data) > MOST_BYTES:
      raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
    text = data if isinstance(data, str) else data.decode()
    finite = {} if nan else {"parse_constant": _refuse_constant, "parse_float": _parse_float}
    value = json.loads(text, **finite)
    wrong = check(value, schema)
  except UnicodeDecodeError as error:
    raise BadInput(
      _message(where, f"is damaged: it is not UTF-8 text from byte {error.start} on", advice)
    ) from error
  except RecursionError as error:
    raise BadInput(
      _message(where, "is damaged: it is not valid JSON, but nested too deeply", advice)
    ) from error
  except ValueError as error:
    raise BadInput(_message(where, f"is damaged: it is not valid JSON ({error})", advice)) from error
  if wrong:
    raise BadInput(_message(where, f"is damaged: {wrong}", advice))
  return value


def check(value: Any, schema: Schema, name: str = "") -> str:
  """Returns what is wrong with a value, with the name of the key; "" if it matches the schema.

  Args:
    value: as read from JSON; tuples count as lists.
    schema: of the value.
    name: of the value, with a dot between the keys; "" for the content of a file.
  """
  subject = name or "its content"
  if isinstance(schema, Mapping):
    return _check_object(value, schema, name, subject)
  if isinstance(schema, list):
    if not isinstance(value, (list, tuple)):
      return f"{subject} must be {_NAMES[list]}, not {rules.shown(value)}"
    entries = (check(entry, schema[0], f"{name}[{i}]") for i, entry in enumerate(value))
    return next(filter(None, entries), "")
  if isinstance(schema, type):
    fits = isinstance(value, (int, float) if schema is float else schema)
    if fits and (schema is bool or not isinstance(value, bool)) and _is_finite(value):
      return ""
    return f"{subject} must be {_NAMES[schema]}, not {rules.shown(value)}"
  wrong = schema.problem(value)
  return f"{subject} = {rules.shown(value)}: {wrong}" if wrong else ""


def _check_object(value: Any, schema: Mapping, name: str, subject: str) -> str:
  if not isinstance(value, Mapping):
    return f"{subject} must be {_NAMES[dict]}, not {rules.shown(value)}"
  required = [key for key in schema if key != "*" and not key.endswith("?")]
  if missing := [key for key in required if key not in value]:
    return f"it lacks {name + '.' if name else ''}{missing[0]}"
  for key, entry in value.items():
    each = schema.get(key) or schema.get(f"{key}?") or schema.get("*")
    if each and (wrong := check(entry, each, f"{name}.{key}".lstrip("."))):
      return wrong
  return ""


def _is_finite(value: Any) -> bool:
  return not isinstance(value, (int, float)) or abs(value) <= sys.float_info.max


def _refuse_constant(name: str) -> None:
  raise ValueError(f"it holds {name}")


def _parse_float(text: str) -> float:
  if not math.isfinite(value := float(text)):
    raise ValueError(f"it holds the number {text[:20]}, which is too large")
  return value


def _message(where: str | os.PathLike, problem: str, advice: str) -> str:
  problem = " ".join(problem.split())
  return f"{os.fspath(where)} {problem}" + (f"; {advice}" if advice else "")
