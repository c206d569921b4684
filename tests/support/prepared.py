"""Runs the command `prepare` in this process, and reads its output."""

import pathlib

import pytest

from swin_jax.data.prepare import __main__ as prepare
from swin_jax.data.prepare import writing
from swin_jax.data.read import array_files
from swin_jax.terminal.errors import BadInput
from tests.support.opened import open_source


def main(*words) -> int:
  """Returns the exit code of the command with these arguments."""
  return prepare.main(["prepare", *map(str, words)])


def run(source, out, **options) -> None:
  writing.prepare(str(source), str(out), **options)


def bad(source, out, **options) -> str:
  """Returns the one-line error with which `prepare` refuses."""
  with pytest.raises(BadInput) as error:
    run(source, out, **options)
  assert "\n" not in str(error.value)
  return str(error.value)


def files(out: pathlib.Path) -> dict[str, bytes]:
  """Returns {name: content} of a folder that `prepare` wrote."""
  return {path.name: path.read_bytes() for path in sorted(out.iterdir())}


def read(out, split="train"):
  """Opens one split of a folder that `prepare` wrote."""
  return open_source("array_record", str(out), split)


def pixels(example) -> bytes:
  """Returns what the image of a record holds, without its encoding."""
  packed = array_files.is_packed(example.image)
  return array_files.unpack(example.image).tobytes() if packed else example.image


def refused(function, *arguments) -> str:
  """Returns the one-line error with which a function refuses its arguments."""
  with pytest.raises(BadInput) as error:
    function(*arguments)
  assert "\n" not in str(error.value)
  return str(error.value)
