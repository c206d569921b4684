"""Reads images ahead of the model, in threads; one that cannot be read is named and leaves a gap."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from typing import Any, NamedTuple, TypeVar

import numpy as np

from swin_jax.data.feed import reading

_Key, _Value = TypeVar("_Key"), TypeVar("_Value")


class Loaded(NamedTuple):
  """One image.

  Attributes:
    name: its relative path.
    image: what was read; None if it cannot be read.
    problem: why it cannot; "" if it can.
  """

  name: str
  image: Any
  problem: str = ""


class Source:
  """Images by number, as `data.feed.reading.read` takes them."""

  def __init__(self, read: Callable[[int], tuple[str, Any]], name: Callable[[int], str]):
    self._read, self.name = read, name

  def __getitem__(self, index: int) -> tuple[str, Any]:
    return self._read(index)

  def load(self, index: int) -> Loaded:
    """Reads an image; tries again for half a minute if the storage fails.

    Raises:
      Fault: the storage still fails.
    """
    try:
      return Loaded(*reading.read(self, index))
    except (ValueError, RuntimeError, *reading.ANSWERS) as error:
      problem = error.strerror if isinstance(error, OSError) else str(error)
      return Loaded(self.name(index), None, " ".join(str(problem).split()) or "cannot be read")


class Batch(NamedTuple):
  """Consecutive images of one size.

  Attributes:
    loaded: the images, without their pixels.
    pixels: [size, height, width, bands]; 0 where an image cannot be read, and after the last.
  """

  loaded: list[Loaded]
  pixels: np.ndarray


def batch(source: Source, shape: tuple[int, ...], dtype: str, size: int, indices: range) -> Batch:
  """Reads a batch of images that all have one shape, padded to `size`."""
  loaded = [source.load(index) for index in indices]
  pixels = np.zeros((size, *shape), dtype)
  for row, each in enumerate(loaded):
    if not each.problem:
      pixels[row] = each.image
  return Batch([each._replace(image=None) for each in loaded], pixels)


def ahead(
  function: Callable[[_Key], _Value], keys: Iterable[_Key], num_threads: int, count: int
) -> Iterator[_Value]:
  """Yields function(key) for every key, in order, computed in threads up to `count` keys ahead."""
  waiting = collections.deque()
  with futures.ThreadPoolExecutor(num_threads) as pool:
    try:
      for key in keys:
        waiting.append(pool.submit(function, key))
        if len(waiting) > count:
          yield waiting.popleft().result()
      while waiting:
        yield waiting.popleft().result()
    finally:
      pool.shutdown(wait=False, cancel_futures=True)
