"""Keeps the latest contents of files that must be read whole, for their other tiles."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent import futures
import threading
from typing import Any

from swin_jax.data.read import limits

_MOST = 4  # files


class Kept:
  """A function of one argument that keeps its latest results, and computes each in one thread only.

  It keeps at most four, and fewer if they are larger together than one image may be.
  """

  def __init__(self, function: Callable[[Any], Any]):
    self._function, self._lock = function, threading.Lock()
    self._results: OrderedDict[Hashable, futures.Future] = OrderedDict()

  def __call__(self, argument: Hashable) -> Any:
    with self._lock:
      result = self._results.get(argument)
      is_new = result is None
      if is_new:
        result = self._results[argument] = futures.Future()
      self._results.move_to_end(argument)
    if is_new:
      try:
        result.set_result(self._function(argument))
      except BaseException as error:  # raised again in all threads that wait for it
        result.set_exception(error)
      with self._lock:
        self._forget(argument, result)
    return result.result()

  def _forget(self, argument: Hashable, result: futures.Future) -> None:
    """Removes a result that failed, and the oldest ones while there are too many."""
    if result.exception():
      self._results.pop(argument, None)
    done = [key for key, each in self._results.items() if each.done() and not each.exception()]
    sizes = {key: _size(self._results[key].result()) for key in done}
    while len(sizes) > 1 and (len(sizes) > _MOST or sum(sizes.values()) > limits.numbers()):
      oldest = next(iter(sizes))
      del self._results[oldest], sizes[oldest]


def _size(content: Any) -> int:
  """Returns the bytes of a file, of an array, or of the arrays of a tuple."""
  if isinstance(content, tuple):
    return sum(map(_size, content))
  return getattr(content, "nbytes", None) or (len(content) if isinstance(content, bytes) else 0)
