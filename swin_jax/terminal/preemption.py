"""Requests to stop: SIGTERM (a preemption notice, or a batch system at its time limit), SIGHUP (the terminal
is gone) or Ctrl-C.

While there is nothing to save, a signal ends the process at once, even during compilation, and removes what
is half-written. Later, the training loop calls `requested`, and saves before it stops. Several processes must
stop at the same step. For them, jax's preemption service receives SIGTERM from any one of the processes and
agrees on the step. Once they have joined, SIGTERM waits for the next call of `requested`, that is, until
after the first step.
"""

from collections.abc import Callable, Iterator
import contextlib
import os
import signal
import socket
import threading
from typing import NoReturn

from swin_jax.terminal import leftovers
from swin_jax.terminal.progress import warn

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
RUN_AGAIN = 75  # EX_TEMPFAIL
INTERRUPTED = 130  # exit code after Ctrl-C

_signal: int | None = None  # the first signal received
_something_to_save = False
_agree: Callable[[], bool] | None = None  # set if there are several processes
_ending, _still = threading.Event(), threading.Event()  # the process ends; the main thread does no more
_whole_process = contextlib.ExitStack()


def listen() -> None:
  """Watches for signals until the process ends; called by a command before its slow imports."""
  _whole_process.enter_context(watch())


@contextlib.contextmanager
def watch() -> Iterator[None]:
  """Watches for signals while the block runs; does nothing outside the main thread.

  SIGHUP stays ignored if it was, as under nohup. After the block its signals are forgotten, so that they stop
  nothing that the process runs later, and the previous handlers are restored.
  """
  global _signal, _something_to_save, _agree
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  _signal, _something_to_save, _agree = None, False, None
  reader, writer = socket.socketpair()
  writer.setblocking(False)
  ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
  numbers = [number for number in SIGNALS if not (number == signal.SIGHUP and ignored)]
  before = {number: signal.signal(number, _hold_still) for number in numbers}
  # Python runs handlers between two bytecodes, so not while XLA compiles; a thread that waits for this byte
  # is notified of a signal at once.
  wakeup = signal.set_wakeup_fd(writer.fileno())
  threading.Thread(target=_listen, args=(reader,), daemon=True).start()
  try:
    yield
  finally:
    signal.set_wakeup_fd(wakeup)
    for number, handler in before.items():
      signal.signal(number, handler)
    writer.close()  # ends the thread
    _signal, _something_to_save, _agree = None, False, None


def protect() -> None:
  """Marks that there is something to save: from now on, a signal waits until `requested` is called."""
  global _something_to_save
  _something_to_save = True


def agree_by(agree: Callable[[], bool]) -> None:
  """Sets the function by which several processes agree on the step at which they stop.

  It is called once for each call of `requested`.
  """
  global _agree
  _agree = agree


def requested() -> bool:
  """Returns whether to save and stop now.

  All processes must call this equally often, and all get the same answer.
  """
  return _agree() if _agree else signalled()


def signalled() -> bool:
  """Returns whether a run of one process was asked to stop; several must agree on that by `requested`."""
  return not _agree and _signal is not None


def exit_code() -> int:
  """Returns the exit code of a process that stops on request."""
  return INTERRUPTED if _signal == signal.SIGINT else RUN_AGAIN


def _listen(reader: socket.socket) -> None:
  global _signal
  while byte := reader.recv(1):
    number = byte[0]
    again, _signal = _signal, _signal or number
    if not _something_to_save or (again and number == signal.SIGINT):
      _end(number)
    if not again:
      hint = " (press Ctrl-C again to stop at once)" if number == signal.SIGINT else ""
      warn(f"stopping as soon as the run is saved{hint}")
      if _agree:
        os.kill(os.getpid(), signal.SIGTERM)  # jax's service notifies the other processes


def _end(number: int) -> NoReturn:
  """Ends the process, without letting the main thread begin a new file after the removal of the others."""
  _ending.set()
  signal.pthread_kill(threading.main_thread().ident, number)
  _still.wait(0.2)  # in a long call of a library it runs no handler, and begins no file either
  name = signal.Signals(number).name
  line = f"stopped by {name}; the same command continues from what is saved, or from the start"
  leftovers.end(exit_code(), line)


def _hold_still(*_) -> None:
  """Handles signals in the main thread: does nothing, but stops there for good if the process ends."""
  if _ending.is_set():
    _still.set()
    threading.Event().wait()
