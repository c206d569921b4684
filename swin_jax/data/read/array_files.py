"""Encoding of arrays in records: the output of `numpy.save`, deflated, after a marker with which no image
file begins.

The encoding describes itself (type, shape, order), so tiles of any type and number of bands share one kind of
record.
"""

import io
import threading
from typing import IO
import zlib

import numpy as np

_MARK = b"npy+zlib\n"
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
    return load(io.BytesIO(zlib.decompress(record[len(_MARK) :])))
  except (zlib.error, EOFError, OSError) as error:
    raise ValueError(f"holds a damaged array: {error}") from error


def load(file: str | IO[bytes], mmap_mode: str | None = None) -> np.ndarray | np.lib.npyio.NpzFile:
  """Returns `numpy.load` of an .npy or .npz without pickled objects; safe in any number of threads.

  The arrays of an .npz are read by `member`.

  Raises:
    OSError, ValueError, EOFError, zipfile.BadZipFile: the file cannot be read.
  """
  with _PARSING:
    return np.load(file, mmap_mode=mmap_mode, allow_pickle=False)


def member(arrays: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
  """Returns an array of an opened .npz; safe in any number of threads.

  Raises:
    KeyError, ValueError, EOFError, zipfile.BadZipFile: it does not exist, or cannot be read.
  """
  return load(io.BytesIO(arrays.zip.read(f"{name}.npy")))


def shape(file: IO[bytes]) -> tuple[int, ...]:
  """Returns the shape of an array from the header of its .npy file; safe in any number of threads.

  Raises:
    ValueError: this is not the header of an .npy file.
  """
  version = np.lib.format.read_magic(file)
  read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
  with _PARSING:
    return read(file)[0]
