"""Arrays in records: the round trip, and header parsing by one thread at a time."""

import ast
from concurrent import futures
import threading
import time

import numpy as np
import pytest

from swin_jax.data.read import array_files


def test_any_type_and_order_comes_back(tmp_path):
  for array in (
    np.arange(24.0, dtype=np.float32).reshape(2, 3, 4),
    np.arange(6, dtype=">i2").reshape(2, 3).T,
  ):
    got = array_files.unpack(array_files.pack(array))
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


def test_a_length_that_is_no_integer_is_damage(tmp_path):
  np.save(tmp_path / "a.npy", np.zeros((1, 3)))
  (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes().replace(b"(1, 3)", b"(True,3)"))
  with pytest.raises(ValueError, match="its header has the shape"):
    array_files.load(str(tmp_path / "a.npy"))


def test_headers_are_parsed_by_one_thread_at_a_time(monkeypatch, tmp_path):
  """On Python 3.11, numpy's header parser fails when a second thread enters it."""
  inside, most, lock = 0, 0, threading.Lock()

  def slow(read):
    def wrapped(*args, **kwargs):
      nonlocal inside, most
      with lock:
        inside += 1
        most = max(most, inside)
      time.sleep(0.002)
      try:
        return read(*args, **kwargs)
      finally:
        with lock:
          inside -= 1

    return wrapped

  np.save(tmp_path / "a.npy", np.zeros((2, 3)))
  record = array_files.pack(np.zeros((2, 3)))
  monkeypatch.setattr(ast, "literal_eval", slow(ast.literal_eval))

  def read(i):
    if i % 3 == 0:
      return array_files.unpack(record).shape
    if i % 3 == 1:
      return array_files.load(str(tmp_path / "a.npy"), mmap_mode="r").shape
    content = (tmp_path / "a.npy").read_bytes()
    return array_files.shape(content, len(content))

  with futures.ThreadPoolExecutor(8) as pool:
    assert set(pool.map(read, range(48))) == {(2, 3)}
  assert most == 1
