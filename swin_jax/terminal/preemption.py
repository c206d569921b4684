"""The wish to stop: SIGTERM (a preemption notice, a batch system at its time limit) or Ctrl-C.

While there is nothing to save, a signal ends the process at once, even in the middle of a compilation; later
the loop asks `requested` and saves first. Several processes must stop at the same step: there jax's
preemption service takes SIGTERM, from any one of them, and agrees on the step; from the moment they have
joined SIGTERM waits for the next `requested`, after the first step that is.
"""

from collections.abc import Callable
import os
import signal
import socket
import sys
import threading

RUN_AGAIN = 75  # EX_TEMPFAIL
INTERRUPTED = 130  # by Ctrl-C

_signal: int | None = None  # the first that was received
_something_to_save = False
_wakeup: tuple[socket.socket, socket.socket] | None = None  # kept open
_agree: Callable[[], bool] | None = None  # of several processes


def watch() -> None:
  """Starts to watch for signals, on the main thread, before anything slow.

  A command that runs later in the same process calls it again, and forgets the signals of the first.
  """
  global _wakeup, _signal, _something_to_save, _agree
  _signal, _something_to_save, _agree = None, False, None
  if _wakeup:
    return
  _wakeup = reader, writer = socket.socketpair()
  writer.setblocking(False)
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: None)
  # Python runs handlers between two bytecodes, so not while XLA compiles; a thread that waits for this byte
  # hears of a signal at once.
  signal.set_wakeup_fd(writer.fileno())
  threading.Thread(target=_listen, args=(reader,), daemon=True).start()


def protect() -> None:
  """From here on there is something to save: a signal waits until `requested` is asked."""
  global _something_to_save
  _something_to_save = True


def agree_by(agree: Callable[[], bool]) -> None:
  """Tells by what several processes agree on the step at which they stop; it is called once for each
  `requested`.
  """
  global _agree
  _agree = agree


def requested() -> bool:
  """Whether to save and stop now. All processes ask equally often, and all get the same answer."""
  return _agree() if _agree else _signal is not None


def exit_code() -> int:
  """Of a process that stops because it was asked to."""
  return INTERRUPTED if _signal == signal.SIGINT else RUN_AGAIN


def _listen(reader: socket.socket) -> None:
  global _signal
  while True:
    number = reader.recv(1)[0]
    again, _signal = _signal, _signal or number
    if not _something_to_save or (again and number == signal.SIGINT):
      print(
        "swin_jax: stopped; the same command goes on from the last checkpoint, or anew if there is none",
        file=sys.stderr,
        flush=True,
      )
      sys.stdout.flush()
      os._exit(exit_code())
    if not again:
      hint = " (Ctrl-C again: at once)" if number == signal.SIGINT else ""
      print(f"swin_jax: stopping as soon as the run is saved{hint}", file=sys.stderr, flush=True)
      if _agree:
        os.kill(os.getpid(), signal.SIGTERM)  # jax's service tells the others
