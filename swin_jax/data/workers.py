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
import re
import signal
import threading

import grain

from swin_jax.errors import BadInput

# Ctrl-C and a scheduler's notice reach every process of a job; the parent alone decides what follows, and still needs its workers.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_HINTS = {
    signal.SIGKILL: ", as when memory runs out: take fewer data.num_workers or data.num_threads, or more memory",
    signal.SIGBUS: ", as when /dev/shm is full: make it larger (docker run --shm-size), or take fewer data.num_workers",
}


def prepare(worker: int, workers: int) -> None:
  """What a worker process does first, as `worker_init_fn` of `mp_prefetch`."""
  del worker, workers
  for number in _SIGNALS:
    signal.signal(number, signal.SIG_IGN)

  def end_with_parent():  # one killed by SIGKILL cannot tell it to
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=end_with_parent, daemon=True).start()


def watch(batches: grain.DatasetIterator, num_workers: int) -> Iterator[dict]:
  """The batches of an iterator that `num_workers` processes feed; they end with it.

  Raises:
    BadInput: a worker died.
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
    how = f"was killed by {signal.Signals(-code).name}{_HINTS.get(-code, '')}" if code < 0 else f"ended with exit code {code}; its words are above"
    raise BadInput(f"data worker process{pid} {how}. The same command goes on from the last checkpoint") from error


def _first(batches: grain.DatasetIterator) -> Iterator[dict]:
  """The first batch, drawn in a thread that blocks signals: a process starts with the mask of its thread, and it takes a second to
  come to `prepare`. The main thread meanwhile hears Ctrl-C."""
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
