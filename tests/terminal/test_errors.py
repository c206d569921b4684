"""Failures of the storage end a command with another exit code than mistakes of the user."""

import errno
import os

import pytest

from swin_jax.terminal import cli
from swin_jax.terminal.errors import BadInput, Fault, cannot_write


def _raise(error):
  raise error


@pytest.mark.parametrize(
  "number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.ESTALE]
)
def test_a_failure_of_the_storage_is_one_line_wherever_it_is_raised(number, capsys):
  for error in (
    OSError(number, os.strerror(number), "runs/x"),
    cannot_write("runs/x", OSError(number, os.strerror(number))),
  ):
    assert cli.exit_code(lambda error=error: _raise(error)) == cli.FAULT
    (line,) = capsys.readouterr().err.splitlines()
    cause = "no space left on the disk" if number in (errno.ENOSPC, errno.EDQUOT) else os.strerror(number)
    assert cause in line and "runs/x" in line and line.endswith("the same command continues")


def test_a_path_that_cannot_be_is_bad_input():
  error = cannot_write("--out=x/y", NotADirectoryError(errno.ENOTDIR, "Not a directory"), done="created")
  assert type(error) is BadInput and not isinstance(error, Fault)
  assert str(error) == "--out=x/y cannot be created: Not a directory; choose another name"
