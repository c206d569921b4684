"""Files that must not outlive the process that made them: removed when it ends, or, after SIGKILL or a crash,
by a later process.

A process locks what it has in progress. The kernel releases the lock when the process ends, however it ends,
so what is locked belongs to a live process and is never removed, and what is not locked is left over. Some
file systems keep locks from other machines, so names say which kernel made them, and what another one made
must also be old.
"""

from collections.abc import Callable
import contextlib
import fcntl
import functools
import hashlib
import itertools
import os
import pathlib
import re
import secrets
import shutil
import socket
import sys
import threading
import time
from typing import NoReturn

from swin_jax.terminal.progress import warn

TOKEN = "[0-9a-f]{16}"  # regular expression of `token`
SECONDS_UNTIL_OLD = 3600
SECONDS_TO_PRINT = 2
_BOOT = pathlib.Path("/proc/sys/kernel/random/boot_id")  # the same in all containers of a machine
_held: dict[pathlib.Path, int] = {}  # file or folder in progress → open handle with its lock
_at_end: list[Callable[[], None]] = []


def token() -> str:
  """Returns the part of a name that makes it unique and says which kernel made it."""
  return _kernel() + secrets.token_hex(4)


def create(path_of: Callable[[str], pathlib.Path], make: Callable[[pathlib.Path], None]) -> pathlib.Path:
  """Makes a file or folder under a new name and holds it; returns its path.

  Args:
    path_of: token → path.
    make: creates the file or folder at a path.
  """
  while True:
    path = path_of(token())
    make(path)
    if hold(path):
      return path


def hold(path: pathlib.Path) -> bool:
  """Locks an existing file or folder as this process's, until `release` or the end of the process.

  On file systems without locks it is held without a lock.

  Returns:
    False if another process was faster and has removed it as a leftover.
  """
  try:
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
  except FileNotFoundError:
    return False
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    lost = not _is_open_at(handle, path)
  except BlockingIOError:  # another process is about to remove it
    lost = True
  except OSError:
    lost = False
  if lost:
    os.close(handle)
    return False
  _held[path] = handle
  return True


def release(path: pathlib.Path) -> None:
  """Unlocks what `hold` has locked."""
  if (handle := _held.pop(path, None)) is not None:
    os.close(handle)


def remove_dead(folder: pathlib.Path, pattern: str) -> None:
  """Removes the matching files and folders of this user that no live process holds.

  If that is unknown, they stay, and a line on stderr names them.

  Args:
    folder: where to look.
    pattern: regular expression of names that contain a `token`, or what earlier versions had in its place.
  """
  paths = []
  with contextlib.suppress(OSError):  # whoever writes there next reports it
    paths = sorted(path for path in folder.iterdir() if re.fullmatch(pattern, path.name))
  for path in paths:
    with contextlib.suppress(OSError):  # another process removes it, or it cannot be opened or removed
      if path.is_symlink() or path.stat().st_uid != os.getuid():
        continue
      handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
      try:
        with contextlib.suppress(BlockingIOError):  # a live process holds it
          if _is_dead(handle, path):
            remove(path)
      finally:
        os.close(handle)


def _is_dead(handle: int, path: pathlib.Path) -> bool:
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    of_this_kernel = _kernel() in path.name or not re.search(TOKEN, path.name)
    known = of_this_kernel or _seconds_unchanged(path) > SECONDS_UNTIL_OLD
  except BlockingIOError:
    raise
  except OSError:  # the file system has no locks
    known = False
  if not known:
    warn(
      f"{path} was left by a command that was killed, or belongs to one that is running on another machine;"
      " remove it if none is running"
    )
  return known and _is_open_at(handle, path)


def _seconds_unchanged(path: pathlib.Path) -> float:
  return time.time() - max(each.lstat().st_mtime for each in itertools.chain([path], path.rglob("*")))


def remove(path: pathlib.Path) -> None:
  """Removes a file or a folder, even one to which another thread is still adding files."""
  for _ in range(10):
    if path.is_dir() and not path.is_symlink():
      shutil.rmtree(path, ignore_errors=True)
    else:
      path.unlink(missing_ok=True)
    if not path.exists():
      return


def at_end(function: Callable[[], None]) -> None:
  """Registers a function that `end` calls before it removes what this process holds."""
  _at_end.append(function)


def clear() -> list[pathlib.Path]:
  """Removes everything that this process holds; returns the paths."""
  paths = list(_held)
  for path in paths:
    with contextlib.suppress(OSError):
      remove(path)
    release(path)
  return paths


def end(code: int, line: str = "") -> NoReturn:
  """Ends the process at once with an exit code, and with a line on stderr; leaves nothing half-written."""
  threading.excepthook = lambda _: None  # a thread that goes on until then may miss what is removed here
  while _at_end:
    with contextlib.suppress(Exception):
      _at_end.pop()()
  paths = clear()
  # In a thread, because a reader that has stopped reading, such as a pager, would hold up the end.
  printing = threading.Thread(target=lambda: (line and warn(line), flush()), daemon=True)
  printing.start()
  printing.join(SECONDS_TO_PRINT)
  for path in paths:  # a library that was about to open one of them has created it again
    with contextlib.suppress(OSError):
      remove(path)
  os._exit(code)


def flush() -> bool:
  """Writes out stdout and stderr; returns False if that fails: the disk is full, or the reader is gone."""
  try:
    sys.stdout.flush()
    sys.stderr.flush()
  except OSError:
    return False
  return True


def _is_open_at(handle: int, path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(handle), path.lstat())
  except FileNotFoundError:
    return False


@functools.cache
def _kernel() -> str:
  try:
    name = _BOOT.read_text()
  except OSError:
    name = socket.gethostname()
  return hashlib.sha256(name.encode()).hexdigest()[:8]
