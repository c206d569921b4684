"""Reads files of data: one that is not a regular file is damaged data, not failing storage."""

from collections.abc import Iterator
import contextlib
import os
from typing import BinaryIO

from swin_jax.data.read import limits
from swin_jax.terminal import files


def check(path: str) -> int:
  """Returns the size of a file in bytes.

  Raises:
    OSError: it does not exist, or cannot be examined.
    ValueError: it is a folder, a pipe, a socket or a device.
  """
  with _as_damage():
    return files.check_regular(path)


def read(path: str) -> bytes:
  """Returns the content of an image file.

  Raises:
    OSError: the file does not exist or cannot be read; the error carries its name.
    ValueError: it is not a plain file, or too large.
  """
  try:
    with _open(path) as file:
      limits.check_bytes(os.fstat(file.fileno()).st_size)
      return file.read()
  except OSError as error:
    error.filename = path  # only errors of opening carry it
    raise


def head(path: str, count: int) -> bytes:
  """Returns the first bytes of a file; raises as `check`."""
  with _open(path) as file:
    return file.read(count)


def _open(path: str) -> BinaryIO:
  with _as_damage():
    return files.open_regular(path)


@contextlib.contextmanager
def _as_damage() -> Iterator[None]:
  try:
    yield
  except files.NotRegular as error:
    raise ValueError("is not a plain file") from error
