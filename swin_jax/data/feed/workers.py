"""Processes that read and augment: they end with their parent, leave its signals to it, and are named when
they die.

grain starts and feeds them (`mp_prefetch`), stops them by an event, and notices within a second when one that
it waits for has died.
"""

from collections.abc import Iterator
import contextlib
import multiprocessing
from multiprocessing import resource_tracker
import os
import pickle
import queue
import re
import signal
import tempfile
import threading

import grain

from swin_jax.terminal.errors import Fault

# Ctrl-C and a scheduler's notice reach every process of a job; the parent alone decides what follows, and
# still needs its workers.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_SECONDS_TO_NOTICE = 30  # that a worker has died, for grain, which does so within one, if at all
_SECONDS_TO_END = 60  # for workers; grain itself kills them after 25
_HINTS = {
  signal.SIGKILL: ", as when memory runs out: take fewer data.num_workers or data.num_threads, or more"
  " memory",
  signal.SIGBUS: ", as when /dev/shm is full: make it larger (docker run --shm-size), or take fewer"
  " data.num_workers",
}


class Sent:
  """Something that reaches worker processes by way of a file, and there is itself again.

  What a process is started with goes through a pipe. The parent would wait forever for one that died before
  it had read so much that the rest fits into the pipe, 64 KiB; and the list of a million files has more.
  """

  def __init__(self, value):
    self._file = tempfile.NamedTemporaryFile(prefix="swin_jax_", suffix=".pickle")  # noqa: SIM115  (goes with this object)
    pickle.dump(value, self._file)
    self._file.flush()

  def __reduce__(self):
    return _receive, (self._file.name,)


def _receive(path: str):
  with open(path, "rb") as file:
    return pickle.load(file)


def end_with_parent(worker: int, workers: int) -> None:
  """Ends this worker process when its parent is gone, as `worker_init_fn`: one killed by SIGKILL cannot tell
  it to.
  """
  del worker, workers

  def wait():
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


def watch(batches: grain.DatasetIterator, num_workers: int) -> Iterator[dict]:
  """The batches of an iterator that `num_workers` processes feed; they end with it.

  Raises:
    Fault: a worker died.
  """
  others, workers = set(multiprocessing.active_children()), set()
  drawn = _Drawing(batches)
  try:
    while (batch := _next(drawn, others, workers)) is not None:
      if len(workers) < num_workers:
        workers |= set(multiprocessing.active_children()) - others
      yield batch
  except RuntimeError as error:
    # grain's words, which a test holds it to.
    died = re.match(r"Worker process was terminated unexpectedly with exit code (-?\d+)", str(error))
    if not died:
      raise
    code = int(died[1])
    pid = next((f" {worker.pid}" for worker in workers if worker.exitcode == code), "")
    how = f"ended with exit code {code}; its words are above"
    if code < 0:
      how = f"was killed by {signal.Signals(-code).name}{_HINTS.get(-code, '')}"
    raise Fault(
      f"data worker process{pid} {how}. The same command goes on from the last checkpoint"
    ) from error
  finally:
    if not drawn.end(_SECONDS_TO_END):
      for worker in set(multiprocessing.active_children()) - others:
        worker.kill()


def _next(
  drawn: "_Drawing", others: set[multiprocessing.Process], workers: set[multiprocessing.Process]
) -> dict | None:
  """The next batch; None at the end.

  Args:
    drawn: where from.
    others: processes that are no workers.
    workers: those known; more are added, as soon as they are seen alive.

  Raises:
    RuntimeError: as grain does where a worker died; in its place, where grain waits for what that worker has
      taken with it.
  """
  waited = 0
  while True:
    try:
      return drawn.next(timeout=1.0)
    except queue.Empty:
      workers |= set(multiprocessing.active_children()) - others
      dead = next((worker for worker in workers if worker.exitcode), None)
      waited += bool(dead)
      if waited > _SECONDS_TO_NOTICE:
        raise RuntimeError(
          f"Worker process was terminated unexpectedly with exit code {dead.exitcode}"
        ) from None


class _Drawing:
  """Draws the batches of an iterator in a thread, one ahead.

  The thread blocks signals, because a process that it starts does so from then on; the main thread still
  hears Ctrl-C. And where a worker dies with a lock in its hand, it is this thread that waits for ever.
  """

  def __init__(self, batches: grain.DatasetIterator):
    self._batches, self._queue, self._ended = batches, queue.Queue(1), threading.Event()
    self._thread = threading.Thread(target=self._draw, daemon=True)
    self._thread.start()

  def next(self, timeout: float) -> dict | None:
    """The next batch, or None at the end; raises what the iterator raises, and queue.Empty where there is
    none in so many seconds.
    """
    found = self._queue.get(timeout=timeout)
    if isinstance(found, BaseException):
      raise found
    return found

  def end(self, timeout: float) -> bool:
    """Closes the iterator, and tells whether that was done in so many seconds."""
    self._ended.set()
    self._thread.join(timeout)
    return not self._thread.is_alive()

  def _draw(self) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    # the process that frees shared memory; starting it unblocks two of the signals
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
      with contextlib.closing(self._batches):
        for batch in self._batches:
          if not self._put(batch):
            return
        self._put(None)
    except BaseException as error:
      self._put(error)

  def _put(self, item: dict | BaseException | None) -> bool:
    while not self._ended.is_set():
      with contextlib.suppress(queue.Full):
        self._queue.put(item, timeout=0.1)
        return True
    return False
