"""Encoding of arrays in records: the output of `numpy.save`, deflated, after a marker with which no image
file begins.

The encoding describes itself (type, shape, order), so tiles of any type and number of bands share one kind of
record.
"""

import io
import math
import os
import threading
from typing import IO
import zlib

import numpy as np

from swin_jax.data.read import archives, limits, plain_files

_MARK = b"npy+zlib\n"
# Bytes that a record may expand to: the numbers of the largest image as float32, and a header.
_LARGEST = 4 * limits.NUMBERS * limits.MAX_PIXELS + 2**16
_HEAD = 2**16  # bytes in which the header of an .npy file lies; numpy refuses longer ones
_LEVEL = 1  # higher levels save a few per cent and take several times as long
# numpy parses the headers of arrays with `ast`, in which only one thread at a time is safe on Python 3.11:
# another one makes it fail with "AST constructor recursion depth mismatch" (CPython issue 106905).
_PARSING = threading.Lock()


def pack(array: np.ndarray) -> bytes:
  """Encodes an array of any shape and numeric type as bytes."""
  out = io.BytesIO()
  np.save(out, np.ascontiguousarray(array), allow_pickle=False)
  return _MARK + zlib.compress(out.getvalue(), _LEVEL)


def is_packed(record: object) -> bool:
  """Returns whether `pack` wrote this record."""
  return isinstance(record, bytes) and record.startswith(_MARK)


def unpack(record: bytes) -> np.ndarray:
  """Decodes the output of `pack`.

  Raises:
    ValueError: the record is damaged.
  """
  try:
    stream = zlib.decompressobj()
    content = stream.decompress(memoryview(record)[len(_MARK) :], _LARGEST)
    if stream.unconsumed_tail or not stream.eof:
      raise EOFError(f"it is cut short, or larger than {_LARGEST:,} bytes")
    return load(io.BytesIO(content))
  except (zlib.error, EOFError, OSError) as error:
    raise ValueError(f"holds a damaged array: {error}") from error


def load(file: str | IO[bytes], mmap_mode: str | None = None) -> np.ndarray | np.lib.npyio.NpzFile:
  """Returns `numpy.load` of an .npy or .npz without pickled objects; safe in any number of threads.

  The arrays of an .npz are read by `member`. An .npy is read only if it holds what its header claims.

  Raises:
    OSError, ValueError, EOFError, zipfile.BadZipFile: the file cannot be read.
  """
  if isinstance(file, str):
    start, size = plain_files.head(file, _HEAD), plain_files.check(file)
  else:
    start, size = file.read(_HEAD), file.seek(0, os.SEEK_END)
    file.seek(0)
  if start.startswith(np.lib.format.MAGIC_PREFIX):
    shape(start, size)
  elif not start.startswith(b"PK"):
    raise ValueError("it is damaged, or neither .npy nor .npz" if size else limits.EMPTY)
  with _PARSING:
    return np.load(file, mmap_mode=mmap_mode, allow_pickle=False)


def member(arrays: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
  """Returns an array of an opened .npz; safe in any number of threads.

  Raises:
    KeyError, ValueError, EOFError, zipfile.BadZipFile: it does not exist, or cannot be read.
  """
  return load(io.BytesIO(archives.read(arrays.zip, f"{name}.npy")))


def shape_of_member(arrays: np.lib.npyio.NpzFile, name: str) -> tuple[int, ...]:
  """Returns the shape of an array of an opened .npz from its header; raises as `member`."""
  entry = f"{name}.npy"
  return shape(archives.read(arrays.zip, entry, _HEAD), arrays.zip.getinfo(entry).file_size)


def shape(start: bytes, size: int) -> tuple[int, ...]:
  """Returns the shape of an array from the header of its .npy file; safe in any number of threads.

  Args:
    start: the first bytes of the file, with the whole header.
    size: number of bytes of the file.

  Raises:
    ValueError: this is not the header of an .npy file, or it claims more numbers than the file holds.
  """
  file = io.BytesIO(start)
  try:
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with _PARSING:
      lengths, _, dtype = read(file)
  except Exception as error:  # numpy raises whatever Python's tokenizer and parser raise
    raise ValueError("it is damaged: numpy cannot read its header") from error
  if not all(type(length) is int for length in lengths):  # numpy lets True pass, and fails later
    raise ValueError(f"it is damaged: its header has the shape {lengths}")
  if dtype.hasobject or not dtype.itemsize:
    raise ValueError(f"it holds {dtype}, not numbers or text")
  claimed, held = math.prod(lengths) * dtype.itemsize, size - file.tell()
  if min(lengths, default=0) < 0 or claimed > held:
    raise ValueError(
      f"its header claims an array {list(lengths)} of {claimed:,} bytes, but it holds {held:,}"
    )
  return lengths
