"""Checks values that a command line gives to config keys, by the types of the values that the config has."""

from typing import Any

from swin_jax.terminal.errors import BadInput

_NUMBERS = {int: "an integer", float: "a number"}


def check(flag: str, key: str, text: str | None, config: Any) -> None:
  """Checks that a flag gives a value of the type that its key has.

  Args:
    flag: the flag as it is written.
    key: "group.key", which the config has, perhaps with an [index].
    text: what the flag gives; None if it gives nothing.
    config: before it is changed.

  Raises:
    BadInput: it does not; the message says which type is needed, with an example, or which keys there are.
  """
  path, index, _ = key.partition("[")
  *groups, name = path.split(".")
  for each in groups:
    config = config[each]
  kind = config.get_type(name)
  try:
    value = config[name]
  except Exception:  # ConfigDict has several, such as that of a placeholder without a value
    return
  if hasattr(value, "keys"):
    keys = list(value.keys())
    raise BadInput(
      f"{flag}: config.{path} is a group and has no value of its own; set one of its keys, as in"
      f" --config.{path}.{next(iter(keys), 'KEY')}=VALUE; they are {', '.join(keys)}"
    )
  if index:
    raise BadInput(f"{flag}: config.{path} is set as a whole, as in --config.{path}={_example(value)}")
  if needed := _needed(kind, value, text, is_negated=flag.startswith(("--no", "-no"))):
    raise BadInput(f"{flag}: {needed}, as in --config.{path}={_example(value)}")


def _needed(kind: type, value: Any, text: str | None, is_negated: bool) -> str:
  """Returns what a key needs instead of a text, as the rest of a sentence; "" if the text is right."""
  from absl import flags  # late, because --help needs none
  from ml_collections.config_flags import tuple_parser

  if kind is bool:
    parser, noun = flags.BooleanParser(), "True or False"
    text = "True" if text is None else text  # the bare flag
  elif kind is tuple:
    holds = {type(entry) for entry in value} if isinstance(value, tuple) else set()
    are_numbers = bool(holds) and holds <= {int, float}
    noun = "integers" if holds == {int} else "numbers" if are_numbers else "one or more entries"
    parser, noun = tuple_parser.TupleParser(), f"{noun} separated by commas"
  elif kind in _NUMBERS:
    parser, noun = (flags.IntegerParser() if kind is int else flags.FloatParser()), _NUMBERS[kind]
  else:
    parser, noun = flags.ArgumentParser(), "a value"
  if is_negated and kind is not bool:
    return f"must be {noun}; only keys that are True or False can be negated"
  if text is None or text == "" and kind is not str:
    return f"has no value and needs {noun}"
  try:
    parsed = parser.parse(text)
  except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError, ArithmeticError):
    return f"must be {noun}"
  wrong = kind is tuple and are_numbers and any(isinstance(entry, str) for entry in parsed)
  return f"must be {noun}" if wrong else ""


def _example(value: Any) -> str:
  if isinstance(value, tuple):
    return ",".join(map(str, value)) or "()"
  return str(value) or "VALUE"
