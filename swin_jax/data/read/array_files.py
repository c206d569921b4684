"""How an array lies in a record: what `numpy.save` writes, deflated, behind a mark that no image file begins
with.

It describes itself (type, shape, order), so that tiles of any type and number of bands lie in one kind of
record.
"""

import io
import zlib

import numpy as np

_MARK = b"npy+zlib\n"
_LEVEL = 1  # higher ones gain a few per cent and take several times as long


def pack(array: np.ndarray) -> bytes:
  """One array of any shape and numeric type, as bytes."""
  out = io.BytesIO()
  np.save(out, np.ascontiguousarray(array), allow_pickle=False)
  return _MARK + zlib.compress(out.getvalue(), _LEVEL)


def is_packed(record: object) -> bool:
  """Whether `pack` made this."""
  return isinstance(record, bytes) and record.startswith(_MARK)


def unpack(record: bytes) -> np.ndarray:
  """The inverse of `pack`.

  Raises:
    ValueError: it is damaged.
  """
  try:
    return np.load(io.BytesIO(zlib.decompress(record[len(_MARK) :])), allow_pickle=False)
  except (zlib.error, EOFError, OSError) as error:
    raise ValueError(f"holds a damaged array: {error}") from error
