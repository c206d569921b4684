"""Processes that read and augment: they end with their parent, leave its signals to it, and are named when they die.

grain starts and feeds them (`mp_prefetch`), stops them by an event, and notices within a second when one that it waits for has died.
"""

from collections.abc import Iterator
from concurrent import futures
import contextlib
import itertools
import multiprocessing
from multiprocessing import resource_tracker
import os
import pickle
import re
import signal
import tempfile
import threading

import grain

from swin_jax.errors import Fault

# Ctrl-C and a scheduler's notice reach every process of a job; the parent alone decides what follows, and still needs its workers.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_HINTS = {
    signal.SIGKILL: ", as when memory runs out: take fewer data.num_workers or data.num_threads, or more memory",
    signal.SIGBUS: ", as when /dev/shm is full: make it larger (docker run --shm-size), or take fewer data.num_workers",
}


class Sent:
  """Something that reaches worker processes by way of a file, and there is itself again.

  What a process is started with goes through a pipe. The parent would wait forever for one that died before it had read so much
  that the rest fits into the pipe, 64 KiB; and the list of a million files has more.
  """

  def __init__(self, value):
    self._file = tempfile.NamedTemporaryFile(prefix="swin_jax_", suffix=".pickle")  # goes with this object
    pickle.dump(value, self._file)
    self._file.flush()

  def __reduce__(self):
    return _receive, (self._file.name,)


def _receive(path: str):
  with open(path, "rb") as file:
    return pickle.load(file)


def end_with_parent(worker: int, workers: int) -> None:
  """Ends this worker process when its parent is gone, as `worker_init_fn`: one killed by SIGKILL cannot tell it to."""
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
  try:
    with contextlib.closing(batches):
      for batch in itertools.chain(_first(batches), batches):
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
    raise Fault(f"data worker process{pid} {how}. The same command goes on from the last checkpoint") from error


def _first(batches: grain.DatasetIterator) -> Iterator[dict]:
  """The first batch, drawn in a thread that blocks signals, because a process that it starts does so from then on; the main thread
  still hears Ctrl-C."""
  first = futures.Future()

  def draw():
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    resource_tracker.ensure_running()  # the process that frees shared memory; starting it unblocks two of the signals
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
      first.set_result(list(itertools.islice(batches, 1)))
    except BaseException as error:  # pylint: disable=broad-exception-caught
      first.set_exception(error)

  threading.Thread(target=draw, daemon=True).start()
  yield from first.result()
