"""Reads entries of zip files and compressed tar files, and limits what they expand to."""

import contextlib
import gzip
import io
import struct
import tempfile
from typing import IO
import zipfile
import zlib

from swin_jax.data.read import plain_files

# An entry may expand to this many times its size or to this many bytes, whichever is larger.
_TIMES, _LEAST = 100, 2**28
_CHUNK = 2**20
# The other methods expand a few kilobytes to gigabytes in one step.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def _largest(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> int:
  """Returns how many bytes an entry may expand to."""
  # The directory may state any compressed size, but entries end where the directory begins.
  return max(_TIMES * min(entry.compress_size, archive.start_dir), _LEAST)


def read(archive: zipfile.ZipFile, name: str, most: int | None = None) -> bytes:
  """Returns the content of an entry.

  Args:
    archive: opened for reading; not safe in several threads.
    name: of the entry.
    most: number of bytes to read; None for the whole entry.

  Raises:
    KeyError: no such entry.
    ValueError: the entry is damaged, encrypted, compressed by a method other than deflate, or expands too
      far.
  """
  entry = archive.getinfo(name)
  if entry.compress_type not in _METHODS:
    raise ValueError("is compressed by another method than deflate; pack the archive with deflate")
  limit = _largest(archive, entry)
  if most is None and entry.file_size > limit:
    raise ValueError(_expands(entry, limit))
  content = io.BytesIO()
  try:
    with archive.open(entry) as file:
      while chunk := file.read(_CHUNK if most is None else min(_CHUNK, most - content.tell())):
        content.write(chunk)
        if content.tell() > limit:  # whatever the directory states
          raise ValueError(_expands(entry, limit))
  except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OverflowError, struct.error) as error:
    raise ValueError(f"cannot be read from the archive: {' '.join(str(error).split())}") from error
  return content.getvalue()


def _expands(entry: zipfile.ZipInfo, limit: int) -> str:
  return (
    f"expands from {entry.compress_size:,} to {entry.file_size:,} bytes, more than {limit:,}; if you trust"
    " the archive, unpack it and give the folder"
  )


def unpacked(path: str) -> IO[bytes]:
  """Opens a tar file for reading at any position; one that is compressed is first expanded into a file
  without a name, which vanishes with this process.

  Raises:
    OSError: it cannot be read, or there is no space to expand it.
    ValueError: it is damaged, or expands too far.
  """
  if not path.lower().endswith("gz"):
    return open(path, "rb")
  limit = max(_TIMES * plain_files.check(path), _LEAST)
  with contextlib.ExitStack() as stack:
    whole = stack.enter_context(tempfile.TemporaryFile())
    try:
      with gzip.open(path) as file:
        while chunk := file.read(_CHUNK):
          whole.write(chunk)
          if whole.tell() > limit:
            raise ValueError(f"it expands to more than {limit:,} bytes; if you trust it, unpack it")
    except (EOFError, zlib.error) as error:
      raise ValueError(f"it is damaged: {error}") from error
    whole.seek(0)
    stack.pop_all()
    return whole
