"""A file that a run writes for observers: whatever happens to it, the run goes on."""

from collections.abc import Callable
import contextlib
import hashlib
import json
import os
import pathlib
from typing import Any

from swin_jax.terminal import digests, files
from swin_jax.terminal.progress import warn


class RecordFile:
  """A file that grows by whole records.

  No method raises an error of the storage, and none waits for another thread or process: the first failure is
  reported in one line, each record is tried anew, and `close` reports how many are missing.

  Args:
    path: the file; it and its folder are created with the first record.
    start: what a new file begins with.
  """

  def __init__(self, path: pathlib.Path, start: bytes = b""):
    self._path, self._start = path, start
    self._handle: int | None = None
    self._missing, self._is_refused = 0, False
    self._size, self._sha256 = 0, hashlib.sha256()  # of what the run has written

  @property
  def digest(self) -> digests.Digest:
    """Size and SHA-256 of the file, if nothing but the run has changed it."""
    return {"size": self._size, "sha256": self._sha256.hexdigest()}

  def keep_lines(self, is_kept: Callable[[dict[str, Any]], bool], written: digests.Digest | None) -> None:
    """Drops lines of the file that an earlier process wrote.

    Lines that are not JSON objects with a step are dropped too and reported; a last line without an end is
    what a process that was killed leaves, and needs no report.

    Args:
      is_kept: the object in a line → whether the line is kept.
      written: `digest` of that process at some time; a change before the end that the file then had is
        reported. None if unknown.
    """
    try:
      if not os.path.lexists(self._path):
        if written and written["size"]:
          warn(f"{self._path} is missing; the run goes on with a new one")
        return
      with files.open_regular(self._path) as file:
        data = file.read()
      kept, damaged, lines = [], [], data.split(b"\n")
      for number, line in enumerate(lines, 1):
        if (entry := _parse(line)) is None:
          damaged += [number] if line and number < len(lines) else []
        elif is_kept(entry):
          kept.append(line + b"\n")
      if damaged:
        numbers = ", ".join(map(str, damaged[:5])) + (" and others" if len(damaged) > 5 else "")
        warn(f"{self._path}: {len(damaged)} damaged lines are left out (line {numbers})")
      elif written and digests.of_bytes(data[: written["size"]]) != written:
        warn(
          f"{self._path} has changed since the run wrote it: its content has another SHA-256; the run goes on"
          " with it as it is"
        )
      self._replace(data, b"".join(kept))
    except OSError as error:
      self._is_refused = True  # with its old lines, it would contradict what is added
      self._report(error)

  def add(self, record: bytes) -> None:
    """Adds a record, whole or not at all."""
    try:
      if not self._is_refused:
        self._open()
        self._append(record)
        return
    except OSError as error:
      if not self._missing:
        self._report(error)
      self._release()
    self._missing += 1

  def close(self) -> None:
    """Closes the file, and reports how many records are missing in it."""
    self._release()
    if self._missing:
      warn(f"{self._path} lacks {self._missing} entries of this run")
      self._missing = 0

  def _open(self) -> None:
    if self._handle is not None:
      return
    self._path.parent.mkdir(parents=True, exist_ok=True)
    # without waiting for the reader of a named pipe
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_CLOEXEC
    self._handle = os.open(self._path, flags, 0o666)
    files.check_regular(self._path, self._handle)
    if self._start and not os.fstat(self._handle).st_size:
      self._append(self._start)

  def _append(self, data: bytes) -> None:
    size, rest = os.fstat(self._handle).st_size, data
    try:
      while rest:
        rest = rest[os.write(self._handle, rest) :]
    except OSError:
      os.ftruncate(self._handle, size)  # half a record would spoil the next one
      raise
    self._count(data)

  def _count(self, data: bytes) -> None:
    self._size += len(data)
    self._sha256.update(data)

  def _replace(self, data: bytes, kept: bytes) -> None:
    """Replaces the content of the file; needs no room on the disk where the end is dropped."""
    if data.startswith(kept):
      if kept != data:
        os.truncate(self._path, len(kept))
    else:
      files.write(self._path, kept.decode())
    self._count(kept)

  def _release(self) -> None:
    handle, self._handle = self._handle, None
    if handle is not None:
      with contextlib.suppress(OSError):
        os.close(handle)

  def _report(self, error: OSError) -> None:
    warn(f"{self._path} cannot be written ({error.strerror or error}); the run goes on without it")


def _parse(line: bytes) -> dict[str, Any] | None:
  """Returns the object in a line; None if it is damaged."""
  try:
    entry = json.loads(line.decode())
  except (ValueError, RecursionError):
    return None
  return entry if isinstance(entry, dict) and type(entry.get("step")) is int else None
