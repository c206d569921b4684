"""Worker processes that read and augment: they end with their parent, leave signals to it, and are named in
an error when they die.

grain starts and feeds them (`mp_prefetch`), stops them through an event, and notices within a second when one
that it waits for has died.
"""

from collections.abc import Callable, Iterator
import contextlib
import functools
import multiprocessing
import os
import pathlib
import queue
import re
import signal
import threading

import grain

from swin_jax.data.feed import exchange
from swin_jax.terminal import preemption, quiet
from swin_jax.terminal.errors import Fault
from swin_jax.terminal.progress import warn

SECONDS_OF_SILENCE = 10  # without a batch, until a line says so; the next follow after twice that, and so on
SECONDS_TO_NOTICE = 30  # time for grain to report a dead worker; it does so within 1 s or never
SECONDS_TO_END = 60  # time for the workers to end; grain itself kills them after 25 s
_HINTS = {
  signal.SIGKILL: ", as happens when memory runs out: use fewer data.num_workers or data.num_threads, or a "
  "machine with more memory",
  signal.SIGBUS: ", as happens when /dev/shm is full: enlarge it (docker run --shm-size), or use fewer"
  " data.num_workers",
}


def initialiser() -> Callable[[int, int], None]:
  """Returns the function that a worker process calls first, grain's `worker_init_fn`."""
  return functools.partial(_begin, exchange.token())


def _begin(token: str, worker: int, workers: int) -> None:
  """Prepares this worker process; it will end when its parent is gone.

  A parent killed by SIGKILL cannot tell its workers to end.
  """
  del worker, workers
  exchange.name_shared_memory(token)
  quiet.pillow()

  def wait():
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


def watch(batches: grain.DatasetIterator, num_workers: int) -> Iterator[dict]:
  """Yields the batches of an iterator fed by `num_workers` processes; ends the processes with it.

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
    # The wording is grain's; a test checks that it still is.
    died = re.match(r"Worker process was terminated unexpectedly with exit code (-?\d+)", str(error))
    if not died:
      raise
    code = int(died[1])
    pid = next((f" {worker.pid}" for worker in workers if worker.exitcode == code), "")
    how = f"ended with exit code {code}; its output is above"
    if code < 0:
      how = f"was killed by {signal.Signals(-code).name}{_HINTS.get(-code, '')}"
    raise Fault(
      f"data worker process{pid} {how}. The same command continues from the last checkpoint"
    ) from error
  finally:
    for worker in workers:
      if _is_stopped(worker):  # it could not end
        with contextlib.suppress(ProcessLookupError):
          os.kill(worker.pid, signal.SIGCONT)
    if not drawn.end(SECONDS_TO_END):
      for worker in set(multiprocessing.active_children()) - others:
        worker.kill()


def _next(
  drawn: "_Drawing", others: set[multiprocessing.Process], workers: set[multiprocessing.Process]
) -> dict | None:
  """Returns the next batch; None at the end.

  Args:
    drawn: the iterator to read from.
    others: child processes that are not workers.
    workers: known workers; new ones are added as soon as they are alive.

  Raises:
    RuntimeError: a worker died. Raised by grain, or here in its place when grain blocks on something that the
      worker held.
    Fault: the run was asked to stop while it waited for a batch.
  """
  waited, silent, next_line = 0, 0, SECONDS_OF_SILENCE
  while True:
    try:
      return drawn.next(timeout=1.0)
    except queue.Empty:
      workers |= set(multiprocessing.active_children()) - others
      silent += 1
      if silent >= SECONDS_OF_SILENCE and preemption.signalled():
        raise Fault(f"no data for {silent} s{_who(workers)}") from None
      if silent == next_line:
        next_line *= 2
        if (who := _who(workers)) or drawn.has_begun or silent > SECONDS_TO_NOTICE:  # workers start slowly
          warn(f"waiting for data for {silent} s{who}")
      dead = next((worker for worker in workers if worker.exitcode), None)
      waited += bool(dead)
      if waited > SECONDS_TO_NOTICE:
        raise RuntimeError(
          f"Worker process was terminated unexpectedly with exit code {dead.exitcode}"
        ) from None


def _who(workers: set[multiprocessing.Process]) -> str:
  """Returns which workers do not answer because they are stopped, for a message; "" if none is."""
  order = sorted(workers, key=lambda worker: worker.pid)
  stopped = [
    f"; worker {n} of {len(order)} (process {worker.pid}) is stopped and does not answer; to continue it:"
    f" kill -CONT {worker.pid}"
    for n, worker in enumerate(order)
    if _is_stopped(worker)
  ]
  return "".join(stopped)


def _is_stopped(worker: multiprocessing.Process) -> bool:
  """Returns whether a process is stopped, as by SIGSTOP or a debugger; False where that is unknown."""
  try:
    return pathlib.Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] in "tT"
  except (OSError, IndexError):
    return False


class _Drawing:
  """Draws the batches of an iterator in a thread, one ahead.

  The thread blocks signals because the processes that it starts inherit its signal mask; the main thread
  still receives Ctrl-C. If a worker dies while it holds a lock, only this thread waits forever.
  """

  def __init__(self, batches: grain.DatasetIterator):
    self._batches, self._queue, self._ended = batches, queue.Queue(1), threading.Event()
    self.has_begun = False
    self._thread = threading.Thread(target=self._draw, daemon=True)
    self._thread.start()

  def next(self, timeout: float) -> dict | None:
    """Returns the next batch, or None at the end.

    Raises:
      queue.Empty: there is no batch within `timeout` seconds.
      Exception: whatever the iterator raises.
    """
    item = self._queue.get(timeout=timeout)
    self.has_begun = True
    if isinstance(item, BaseException):
      raise item
    return item

  def end(self, timeout: float) -> bool:
    """Closes the iterator; returns whether it closed within `timeout` seconds."""
    self._ended.set()
    self._thread.join(timeout)
    return not self._thread.is_alive()

  def _draw(self) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, exchange.SIGNALS)
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
