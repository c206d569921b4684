"""Reads the JSON files that this program wrote, and reports whatever is wrong with one in one line.

A schema says what a file, or a value in it, must be:

  str, int, bool, ...       a value of this type; an int is not a bool
  float                     a number, whole or not
  [schema]                  a list of such values
  {"key": schema, ...}      an object with these keys; one written "key?" may be missing, others are allowed
  a function                value → what is wrong with it, as the end of a sentence that starts with its name
                            (" must be positive"); "" if it is valid
"""

from collections.abc import Callable, Mapping
import json
import math
import os
import sys
from typing import Any

from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput

Schema = type | list | Mapping | Callable[[Any], str]
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
      data = file.read(MOST_BYTES + 1)
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
  except UnicodeDecodeError as error:
    raise BadInput(_message(where, f"is not UTF-8 text from byte {error.start} on", advice)) from error
  except RecursionError as error:
    raise BadInput(_message(where, "is not valid JSON: it is nested too deeply", advice)) from error
  except ValueError as error:
    raise BadInput(_message(where, f"is not valid JSON: {error}", advice)) from error
  if wrong := check(value, schema):
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
    if not isinstance(value, Mapping):
      return f"{subject} must be {_NAMES[dict]}, not {short(value)}"
    for key, each in schema.items():
      key, optional = key.removesuffix("?"), key.endswith("?")
      if key not in value and not optional:
        return f"it lacks {name + '.' if name else ''}{key}"
      if key in value and (wrong := check(value[key], each, f"{name}.{key}".lstrip("."))):
        return wrong
    return ""
  if isinstance(schema, list):
    if not isinstance(value, (list, tuple)):
      return f"{subject} must be {_NAMES[list]}, not {short(value)}"
    entries = (check(entry, schema[0], f"{name}[{i}]") for i, entry in enumerate(value))
    return next(filter(None, entries), "")
  if isinstance(schema, type):
    fits = isinstance(value, (int, float) if schema is float else schema)
    if fits and (schema is bool or not isinstance(value, bool)) and _is_finite(value):
      return ""
    return f"{subject} must be {_NAMES[schema]}, not {short(value)}"
  return f"{subject} = {short(value)}{wrong}" if (wrong := schema(value)) else ""


def short(value: Any) -> str:
  """Returns a value as text on one line, cut where it is long."""
  try:
    text = repr(value[:20] if isinstance(value, (list, tuple, str)) else value)
  except (ValueError, RecursionError):  # an integer of thousands of digits, or deep nesting
    return "a value too large to show"
  return text if len(text) <= 60 else f"{text[:60]}…"


def number(
  low: float = -math.inf, high: float = math.inf, *, above: float = -math.inf
) -> Callable[[Any], str]:
  """Returns the schema of a number from `low` to `high`, and larger than `above`."""
  return _in_range(float, low, high, above)


def integer(low: int, high: int = 2**31 - 1) -> Callable[[Any], str]:
  """Returns the schema of a whole number from `low` to `high`."""
  return _in_range(int, low, high, -math.inf)


def one_of(*values: Any) -> Callable[[Any], str]:
  """Returns the schema of a value among several of the same type."""

  def wrong(value):
    same = type(value) is type(values[0]) and value in values
    return "" if same else f" must be one of {', '.join(map(repr, values))}"

  return wrong


def sequence(schema: Schema, least: int = 0, most: int = 2**31 - 1) -> Callable[[Any], str]:
  """Returns the schema of a list with a limited number of entries."""

  def wrong(value):
    if not isinstance(value, (list, tuple)):
      return " must be a list"
    if not least <= len(value) <= most:
      return f" must have {least if least == most else f'{least} to {most}'} entries"
    return next((f": {text}" for each in value if (text := check(each, schema, "an entry"))), "")

  return wrong


def either(*schemas: Schema) -> Callable[[Any], str]:
  """Returns the schema of a value that matches one of several; the message is that of the first."""

  def wrong(value):
    texts = [check(value, schema, "it") for schema in schemas]
    return "" if "" in texts else f": {texts[0]}"

  return wrong


def _in_range(kind: type, low: float, high: float, above: float) -> Callable[[Any], str]:
  def wrong(value):
    if check(value, kind):
      return f" must be {_NAMES[kind]}"
    if value <= above:
      return f" must be more than {above}"
    if value < low:
      return f" must be at least {low}"
    return f" must be at most {high}" if value > high else ""

  return wrong


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
