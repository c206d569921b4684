"""What this process and its data workers exchange: files, and the shared memory and semaphores of grain.

Their names contain the token of this process, which holds a file with that token as long as it lives. They
are removed when it ends, or, if it is killed together with its workers, by the next process of the same user
that starts workers.
"""

import atexit
import contextlib
import functools
import multiprocessing
from multiprocessing import resource_tracker, shared_memory, util
import pathlib
import pickle
import re
import secrets
import signal
import sys
import tempfile
import weakref

from swin_jax.terminal import leftovers, preemption
from swin_jax.terminal.errors import Fault, reason

PREFIX = "swin_jax_"
# Ctrl-C and a scheduler's signals reach every process of a job. Only the parent decides what to do, and it
# still needs the processes that it has started.
SIGNALS = (*preemption.SIGNALS, signal.SIGUSR1)
MEMORY = pathlib.Path("/dev/shm")  # where Linux shows shared memory and semaphores
SECONDS_TO_DIE = 2  # time for killed workers to vanish


class Sent:
  """An object that reaches worker processes through a file and is unpickled there as the original object.

  The arguments of a new process go through a pipe. If that process died early, the parent would block forever
  once the unread rest exceeds the pipe's 64 KiB; a list of a million files is larger.

  Raises:
    Fault: the file cannot be written.
  """

  def __init__(self, value):
    folder = None
    try:
      folder = pathlib.Path(tempfile.gettempdir())  # tries several, and fails if it can write to none
      leftovers.remove_dead(folder, rf"{PREFIX}{leftovers.TOKEN}\.pickle")
      self._path = leftovers.create(lambda token: folder / f"{PREFIX}{token}.pickle", _private_file)
      weakref.finalize(self, _remove, self._path)
      with open(self._path, "wb") as file:
        pickle.dump(value, file)
    except OSError as error:
      where = f"a temporary file in {folder}" if folder else "temporary files"
      raise Fault(
        f"{where} cannot be written: {reason(error)}; make room or set TMPDIR to another folder, then the"
        " same command continues"
      ) from error

  def __reduce__(self):
    return _receive, (str(self._path),)


def _receive(path: str):
  with open(path, "rb") as file:
    return pickle.load(file)


@functools.cache
def token() -> str:
  """Returns the token of this process; the first call removes what dead processes left.

  From then on, the semaphores of this process and its workers carry the token.
  """
  _start_tracker()
  if not MEMORY.is_dir():
    return leftovers.token()
  remove_dead()
  held = leftovers.create(lambda token: MEMORY / f"{PREFIX}{token}", _private_file)
  atexit.register(_remove, held)
  util.Finalize(None, _free_memory, exitpriority=0)  # after grain's, which ends the workers
  leftovers.at_end(_abandon_workers)
  _name_semaphores(held.name)
  return held.name.removeprefix(PREFIX)


def remove_dead() -> None:
  """Removes what dead processes of this user left in memory."""
  leftovers.remove_dead(MEMORY, PREFIX + leftovers.TOKEN)
  for path in MEMORY.iterdir():
    owner = re.search(f"{PREFIX}{leftovers.TOKEN}", path.name)
    if owner and not (MEMORY / owner[0]).exists():
      with contextlib.suppress(OSError):  # of another user
        path.unlink()


def _name_semaphores(prefix: str) -> None:
  """Makes the names of the semaphores of this process and its workers begin with `prefix`.

  Python has no public way to choose the names of semaphores and shared memory. Where it changes the private
  one, they keep its names, and what a kill of the tracker together with this process leaves is not removed.
  """
  with contextlib.suppress(AttributeError):
    multiprocessing.current_process()._config["semprefix"] = f"/{prefix}"


def name_shared_memory(owner: str) -> None:
  """Makes the shared memory that this worker creates carry the token of the process that owns it.

  See `_name_semaphores` for a Python without this private function.
  """
  if hasattr(shared_memory, "_make_filename"):
    shared_memory._make_filename = lambda: f"/{PREFIX}{owner}-{secrets.token_hex(4)}"


def _start_tracker() -> None:
  """Starts the process that frees shared memory after a crash.

  It ignores signals to the whole group, and does not warn about what it frees. It is started here, because
  starting it unblocks SIGINT and SIGTERM, which must not happen in the thread that starts the workers.
  """
  blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
  sys.warnoptions.append("ignore:resource_tracker:UserWarning")  # it inherits both
  try:
    resource_tracker.ensure_running()
  finally:
    sys.warnoptions.pop()
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _free_memory() -> None:
  """Frees the shared memory of batches that live until the end, as jax on a CPU computes in it."""
  for path in MEMORY.glob(f"{PREFIX}{token()}-*"):
    with contextlib.suppress(OSError, ValueError):  # it is empty if its worker was killed while making it
      memory = shared_memory.SharedMemory(path.name)
      memory.close()
      memory.unlink()  # tells the tracker too
    path.unlink(missing_ok=True)


def _abandon_workers() -> None:
  """Kills the workers of this process, which ends at once, and removes what they and it have in memory."""
  workers = multiprocessing.active_children()
  for worker in workers:
    worker.kill()
  for worker in workers:
    worker.join(SECONDS_TO_DIE)
  for path in MEMORY.glob(f"*{PREFIX}{token()}?*"):
    path.unlink(missing_ok=True)


def _private_file(path: pathlib.Path) -> None:
  path.touch(mode=0o600, exist_ok=False)


def _remove(path: pathlib.Path) -> None:
  path.unlink(missing_ok=True)
  leftovers.release(path)
