"""The processes of a run watch each other: if one dies, the others end within seconds, in one line, with exit
code 74.

Without this, a collective operation waits for a dead process for minutes, and then jax's coordination service
aborts the process. Its clients also abort as soon as they lose process 0. So they do not talk to it directly:

  jax in process i → relay in process i → process 0 at the coordinator's address → jax's service in process 0

Each process also holds one connection to that address for lines of text: "bye" before it ends well, "ended …"
with its error before it ends early, and from process 0 "lost …" when another one has ended. The kernel closes
the connection of a process that dies; keep-alive packets reveal a machine that is gone.
"""

from collections.abc import Callable
import contextlib
import errno
import re
import socket
import threading
import time

from swin_jax.terminal import cli, leftovers, progress
from swin_jax.terminal.errors import BadInput, Fault

SECONDS_TO_JOIN = 45  # from the first process to the last
SECONDS_OF_GRACE = 3  # for this process to report the same error, or a signal that all have received
KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # notices within 30 s
_HELLO = "swin_jax"
_LOCAL = "127.0.0.1"


def check_address(coordinator: str) -> None:
  """Checks that an address given by the user is HOST:PORT; an IPv6 address as HOST is in brackets.

  Raises:
    BadInput: it has another form.
  """
  match = re.fullmatch(r"(?:\[[0-9a-fA-F:.%]+\]|[\w.-]+):(\d{1,5})", coordinator)
  if not match or not 1 <= int(match[1]) <= 65535:
    raise BadInput(
      f"--coordinator={coordinator} is not HOST:PORT of process 0 with a port from 1 to 65535, such as"
      " 10.0.0.1:4567"
    )


class Peers:
  """The other processes of this run. Returns once all have joined.

  Args:
    coordinator: HOST:PORT, where process 0 listens.
    count: number of processes.
    index: index of this one.

  Attributes:
    jax_address: address at which jax in this process reaches its coordination service.

  Raises:
    BadInput: the processes do not agree on their numbers.
    Fault: the others cannot be reached.
  """

  def __init__(self, coordinator: str, count: int, index: int):
    host, _, port = coordinator.rpartition(":")
    self._host, self._port = host.strip("[]"), int(port)
    self._count, self._index = count, index
    self._lines: dict[int, socket.socket] = {}  # process → connection for text
    self._said_bye: set[int] = set()
    self._leaving = False
    self._lock, self._all_joined = threading.Lock(), threading.Event()
    self._outcome: tuple[int, str] | None = None
    self._lost = threading.Event()
    if index == 0:
      self._inner = _free_port()
      self.jax_address = f"{_LOCAL}:{self._inner}"
      try:
        self._listen(self._port, self._greet, everywhere=True)
      except OSError as error:
        raise Fault(
          f"process 0 cannot listen at the port of --coordinator={coordinator}: {error.strerror or error}; "
          "choose another port"
        ) from error
      self._wait_for_all()
    else:
      self.jax_address = f"{_LOCAL}:{self._listen(0, self._relay)}"
      self._join()

  def leave(self, error: BaseException | None, outcome: tuple[int, str] | None = None) -> None:
    """Tells the others that this process ends.

    Args:
      error: why it ends early; None if it ends well, then the others may go on.
      outcome: exit code and last line of this process if one of the others dies after this call.
    """
    self._outcome, self._leaving = outcome, error is None
    if error is None:
      self._tell("bye")
      return
    self._lost.set()  # it ends by itself, and needs no other reason
    self._tell(f"ended {self._index} {' '.join(str(error).split()) or type(error).__name__}")

  def settle(self) -> None:
    """Waits, after an error that the death of another process may have caused, until that would be known."""
    if self._lost.wait(SECONDS_OF_GRACE / 2):
      time.sleep(10 * SECONDS_OF_GRACE)  # this process ends meanwhile

  def _wait_for_all(self) -> None:
    deadline = time.monotonic() + SECONDS_TO_JOIN
    while self._count > 1 and not self._all_joined.wait(min(SECONDS_TO_JOIN, progress.SECONDS_BETWEEN_LINES)):
      missing = [str(i) for i in range(1, self._count) if i not in self._lines]
      missing = f"process{'es' * (len(missing) > 1)} {', '.join(missing[:10])}" + " …" * (len(missing) > 10)
      if time.monotonic() > deadline:
        raise Fault(
          f"{missing} of {self._count} did not join process 0 within {SECONDS_TO_JOIN} s; start all processes"
          " together, with the same --coordinator and --num_processes"
        )
      progress.say(f"waiting for {missing} of {self._count}")

  def _join(self) -> None:
    where = f"{self._host}:{self._port}"
    try:
      connection = _connect(self._host, self._port)
    except OSError as error:
      raise Fault(
        f"process 0 does not answer at {where} ({error.strerror or error}); start all processes together, and"
        " check --coordinator"
      ) from error
    _keep_alive(connection)
    connection.settimeout(2 * SECONDS_TO_JOIN)
    hello = f"{_HELLO} {self._index} {self._count} {socket.gethostname()}\n"
    file = connection.makefile("rw", encoding="utf-8", errors="replace")
    try:
      file.write(hello)
      file.flush()
      answer = file.readline().strip()
    except OSError:
      answer = ""
    if answer.startswith("no "):
      raise BadInput(answer.removeprefix("no "))
    if answer != "go":
      raise Fault(f"process 0 at {where} ended before all processes had joined; see its output")
    connection.settimeout(None)
    self._lines[0] = connection
    _start(self._read, 0, self._host, file)

  def _greet(self, connection: socket.socket) -> None:
    """Serves a connection to process 0: jax of another process, or its lines of text."""
    connection.settimeout(SECONDS_TO_JOIN)
    if connection.recv(1, socket.MSG_PEEK) != _HELLO[:1].encode():
      connection.settimeout(None)
      _join_sockets(connection, _connect(_LOCAL, self._inner), lambda: False)
      return
    file = connection.makefile("r", encoding="utf-8", errors="replace")
    _, index, count, host = file.readline().split()
    index, count = int(index), int(count)
    with self._lock:
      refusal = ""
      if count != self._count:
        refusal = f"process {index} has --num_processes={count}, but process 0 has {self._count}"
      elif index in self._lines or index == 0:
        refusal = f"two processes have --process_id={index}; number them from 0 to {self._count - 1}"
      if refusal:
        connection.sendall(f"no {refusal}\n".encode())
        connection.close()
        return
      self._lines[index] = connection
      complete = len(self._lines) == self._count - 1
    connection.settimeout(None)
    _keep_alive(connection)
    _start(self._read, index, host, file)
    if complete:
      self._tell("go")
      self._all_joined.set()

  def _relay(self, connection: socket.socket) -> None:
    """Serves jax of this process; it learns of the end of process 0 only once this one ends too."""
    upstream = _connect(self._host, self._port)
    _keep_alive(upstream)
    _join_sockets(connection, upstream, lambda: not (self._leaving and 0 in self._said_bye))

  def _read(self, index: int, host: str, file) -> None:
    """Reads the lines of another process until it ends."""
    with contextlib.suppress(OSError):
      for line in file:
        what, _, text = line.strip().partition(" ")
        if what == "bye":
          self._said_bye.add(index)
        elif what == "ended":
          number, _, text = text.partition(" ")
          self._lose(f"process {number} ended: {text}")
          return
        elif what == "lost":
          self._lose(text)
          return
    if index not in self._said_bye:
      self._lose(f"process {index} on {host} died or cannot be reached; see its output")

  def _lose(self, text: str) -> None:
    with self._lock:
      if self._lost.is_set():
        return
      self._lost.set()
    if self._index == 0:
      self._tell(f"lost {text}")
    time.sleep(SECONDS_OF_GRACE)
    code, line = self._outcome or (
      cli.FAULT,
      f"{text}. The same command, given to all processes, continues from the last checkpoint",
    )
    leftovers.end(code, line)

  def _tell(self, text: str) -> None:
    for connection in list(self._lines.values()):
      with contextlib.suppress(OSError):
        connection.sendall(f"{text}\n".encode("utf-8", "replace"))

  def _listen(self, port: int, serve: Callable[[socket.socket], None], *, everywhere: bool = False) -> int:
    """Serves each connection to a port in its own thread; returns the port."""
    server = _serve(port) if everywhere else socket.create_server((_LOCAL, port), backlog=1024)

    def accept():
      while True:
        _start(serve, server.accept()[0])

    _start(accept)
    return server.getsockname()[1]


def _serve(port: int) -> socket.socket:
  """Opens a port of all networks, of IPv4 and, where the machine has it, of IPv6."""
  if socket.has_dualstack_ipv6():
    try:
      return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    except OSError as error:
      if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # IPv6 is known, but switched off
        raise
  return socket.create_server(("", port), backlog=1024)


def _start(function: Callable, *arguments) -> None:
  def run():
    with contextlib.suppress(OSError, ValueError):  # a connection breaks, or speaks another language
      function(*arguments)

  threading.Thread(target=run, daemon=True).start()


def _connect(host: str, port: int) -> socket.socket:
  """Connects to a port, which may open late.

  Raises:
    OSError: it does not open within `SECONDS_TO_JOIN`.
  """
  deadline = time.monotonic() + SECONDS_TO_JOIN
  while True:
    try:
      connection = socket.create_connection((host, port), timeout=5)
    except OSError:
      if time.monotonic() > deadline:
        raise
      time.sleep(0.2)
    else:
      connection.settimeout(None)
      return connection


def _join_sockets(one: socket.socket, other: socket.socket, holds: Callable[[], bool]) -> None:
  """Copies bytes both ways until an end closes; keeps `one` open after the end of `other` while `holds()`."""

  def copy(source, target, hold):
    with contextlib.suppress(OSError):
      while data := source.recv(1 << 16):
        target.sendall(data)
    while hold():
      time.sleep(0.1)
    for each in (source, target):
      with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)

  for each in (one, other):
    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
  _start(copy, one, other, lambda: False)
  copy(other, one, holds)


def _keep_alive(connection: socket.socket) -> None:
  connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
  for name, value in KEEP_ALIVE.items():
    if hasattr(socket, name):
      connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind((_LOCAL, 0))
    return probe.getsockname()[1]
