"""Encoding of arrays in records: the output of `numpy.save`, deflated, after a marker with which no image
file begins.

The encoding describes itself (type, shape, order), so tiles of any type and number of bands share one kind of
record.
"""

import io
import zlib

import numpy as np

_MARK = b"npy+zlib\n"
_LEVEL = 1  # higher levels save a few per cent and take several times as long


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
    return np.load(io.BytesIO(zlib.decompress(record[len(_MARK) :])), allow_pickle=False)
  except (zlib.error, EOFError, OSError) as error:
    raise ValueError(f"holds a damaged array: {error}") from error
