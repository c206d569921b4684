"""Reads files that are plain files: opening a pipe would wait for ever, and a device has no end."""

import os
import stat

from swin_jax.data.read import limits


def check(path: str) -> int:
  """Returns the size of a file in bytes.

  Raises:
    OSError: it does not exist, or cannot be examined.
    ValueError: it is a folder, a pipe, a socket or a device.
  """
  about = os.stat(path)
  if not stat.S_ISREG(about.st_mode):
    raise ValueError("is not a plain file")
  return about.st_size


def read(path: str) -> bytes:
  """Returns the content of an image file.

  Raises:
    OSError: the file does not exist or cannot be read; the error carries its name.
    ValueError: it is not a plain file, or too large.
  """
  limits.check_bytes(check(path))
  try:
    with open(path, "rb") as file:
      return file.read()
  except OSError as error:
    error.filename = path  # only errors of `open` carry it
    raise


def head(path: str, count: int) -> bytes:
  """Returns the first bytes of a file; raises as `check`."""
  check(path)
  with open(path, "rb") as file:
    return file.read(count)
