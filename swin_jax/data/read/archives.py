"""Reads entries of zip files, and limits what they expand to."""

import io
import struct
import zipfile
import zlib

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
