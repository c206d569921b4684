"""Writes files and folders atomically: they are complete or absent, even after a power failure.

What a killed process leaves half-written is removed by the next process that writes the same file or folder.
"""

from collections.abc import Callable, Iterator
import contextlib
import errno
import os
import pathlib
import re
import stat
import tempfile
from typing import BinaryIO

from swin_jax.terminal import leftovers
from swin_jax.terminal.errors import BadInput, cannot_write, is_of_storage

PARTIAL = ".partial"  # suffix of files being written, or left by a process that died
_OF_PARTIAL = rf"\.[0-9a-f]{{1,16}}\{PARTIAL}"  # earlier versions wrote shorter numbers
# Errors of fsync on a folder where the file system does not support it (some network and FUSE file systems).
_CANNOT_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def write(path: pathlib.Path, text: str) -> None:
  """Writes a text file; on an error, `path` keeps its previous content."""
  with replacing(path) as partial:
    partial.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields the name of a file to write, which replaces `path` when the block ends without an error.

  The content reaches the disk before the name does, and the name before this returns. After an error the
  partial file is removed and `path` is unchanged; after a crash a file `path.*.partial` remains until `path`
  is written again.
  """
  with _partial(path, pathlib.Path.touch) as partial:
    yield partial
    _sync(partial)
    os.replace(partial, path)
  _sync_folder(path.parent)


@contextlib.contextmanager
def making_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields a folder to fill, which becomes `path` when the block ends without an error. See `replacing`.

  Raises:
    OSError: `path` is neither absent nor an empty folder, or writing fails, for example because the disk is
      full.
  """
  with _partial(path, pathlib.Path.mkdir) as partial:
    yield partial
    for folder, _, names in os.walk(partial):
      for name in names:
        _sync(pathlib.Path(folder, name))
      _sync_folder(pathlib.Path(folder))
    os.replace(partial, path)
  _sync_folder(path.parent)


def is_plain_name(name: str) -> bool:
  """Returns whether a name from a file can be that of an entry of a folder: it is printable, and no path."""
  return name.isprintable() and name not in ("", ".", "..") and not set(name) & set("/\\")


class NotRegular(OSError):
  """A file is a folder, a pipe, a socket or a device: opening it may wait forever, and it may have no end."""


def open_regular(path: str | os.PathLike) -> BinaryIO:
  """Opens a regular file for reading.

  Raises:
    NotRegular: it is no regular file; `strerror` says what it is.
    OSError: it does not exist, or cannot be read.
  """
  check_regular(path)  # opening a device may have an effect of its own
  handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # it may be a pipe by now
  try:
    check_regular(path, handle)
    return open(handle, "rb")
  except BaseException:
    os.close(handle)
    raise


def check_regular(path: str | os.PathLike, handle: int | None = None) -> int:
  """Checks that a file is a regular file, and returns its size in bytes.

  Args:
    path: of the file.
    handle: of the file, if it is open.

  Raises:
    NotRegular: it is not.
    OSError: it does not exist, or cannot be examined.
  """
  status = os.stat(path if handle is None else handle)
  if stat.S_ISDIR(status.st_mode):
    raise NotRegular(errno.EISDIR, "it is a folder, not a file", os.fspath(path))
  if not stat.S_ISREG(status.st_mode):
    raise NotRegular(errno.EINVAL, "it is not a regular file", os.fspath(path))
  return status.st_size


def remove_dead(folder: pathlib.Path) -> None:
  """Removes what killed processes left half-written in a folder."""
  leftovers.remove_dead(folder, f".*{_OF_PARTIAL}")


@contextlib.contextmanager
def _partial(path: pathlib.Path, create: Callable[[pathlib.Path], None]) -> Iterator[pathlib.Path]:
  """Yields a new name next to `path`, which this process holds; removes what is left there in the end.

  Leftovers of killed processes under other such names are removed first. Errors of the storage name `path`.
  """
  leftovers.remove_dead(path.parent, re.escape(path.name) + _OF_PARTIAL)
  partial = None
  try:
    partial = leftovers.create(lambda token: path.with_name(f"{path.name}.{token}{PARTIAL}"), create)
    yield partial
  except OSError as error:
    # The user does not know the partial file; and a failed `write` names no file at all.
    if is_of_storage(error) and str(error.filename or partial).startswith(f"{path}."):
      error.filename = str(path)
    raise
  finally:
    if partial:
      leftovers.remove(partial)
      leftovers.release(partial)


def _sync(path: pathlib.Path) -> None:
  handle = os.open(path, os.O_RDONLY)
  try:
    os.fsync(handle)
  finally:
    os.close(handle)


def _sync_folder(path: pathlib.Path) -> None:
  try:
    _sync(path)
  except OSError as error:
    if error.errno not in _CANNOT_SYNC:
      raise


def check_free(destination: str) -> None:
  """Checks that a destination can be created, and that it does not exist or is an empty folder.

  Raises:
    BadInput: the destination exists, or cannot be created.
  """
  path = pathlib.Path(destination)
  try:
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
      raise BadInput(f"{destination} already exists; choose another name")
    if not path.name:  # ".", or the root
      raise BadInput(f"{destination} cannot be created there; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):  # os.access knows nothing of file systems like /proc
      pass
  except OSError as error:
    raise cannot_write(destination, error, done="created") from error
