"""Processes that watch each other: who is missing, who died or ended, and that jax does not notice first."""

import contextlib
import socket
import threading
import time

import pytest

from swin_jax.mesh import peers
from swin_jax.terminal import progress
from swin_jax.terminal.errors import BadInput, Fault


@pytest.fixture(name="ends")
def _ends(monkeypatch):
  """Records the exit codes with which processes end, instead of ending this one; waits briefly for others."""
  ends = []

  def end(code, line=""):
    if line:
      progress.warn(line)
    ends.append(code)

  monkeypatch.setattr(peers.leftovers, "end", end)
  monkeypatch.setattr(peers, "SECONDS_OF_GRACE", 0.05)
  monkeypatch.setattr(peers, "SECONDS_TO_JOIN", 0.5)
  return ends


def free_port():
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    return probe.getsockname()[1]


def connected():
  with socket.create_server(("localhost", 0)) as server:
    return socket.create_connection(server.getsockname()), server.accept()[0]


def join(count, **numbers):
  """Returns the `Peers` of each process, or the error that it raises, as they would be in `count` processes.

  Args:
    count: number of processes.
    numbers: process<I> → (count, index) that process I is given instead.
  """
  port, joined = free_port(), [None] * count

  def start(i):
    with contextlib.suppress(BadInput):
      try:
        joined[i] = peers.Peers(f"localhost:{port}", *numbers.get(f"process{i}", (count, i)))
      except BadInput as error:
        joined[i] = error
        raise

  threads = [threading.Thread(target=start, args=(i,)) for i in range(count)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join(10)
  return joined


def until(condition):
  deadline = time.monotonic() + 10
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.01)


def die(process):
  """Closes all its connections at once, as the kernel does."""
  with process._lock:  # it says nothing in between
    for connection in process._lines.values():
      connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("dead", [0, 2])
def test_the_others_end_when_one_dies(ends, capsys, dead):
  processes = join(3)
  die(processes[dead])
  until(lambda: len(ends) == 3)  # in this test also the dead one, which lost the others
  errors = capsys.readouterr().err
  assert set(ends) == {74} and errors.count(f"swin_jax: process {dead} on ") >= 2
  assert errors.count("The same command, given to all processes, continues") == errors.count("\n") == 3


def test_an_error_of_one_is_repeated_by_the_others(ends, capsys):
  processes = join(3)
  processes[1].leave(BadInput("no space left\nfor it"))
  until(lambda: len(ends) == 2)
  assert capsys.readouterr().err.count("swin_jax: process 1 ended: no space left for it. The same") == 2


def test_one_that_says_goodbye_may_end(ends, capsys):
  processes = join(2)
  processes[1].leave(None)
  until(lambda: processes[0]._said_bye)
  die(processes[1])
  time.sleep(0.2)
  assert 74 not in ends[1:] and "process 1" not in capsys.readouterr().err


def test_one_that_has_saved_ends_as_it_would_have(ends, capsys):
  processes = join(2)
  processes[0].leave(None, (75, "stopped, saved at step 5"))
  die(processes[1])
  until(lambda: 75 in ends)
  assert "swin_jax: stopped, saved at step 5\n" in capsys.readouterr().err


def test_an_error_waits_for_the_news_of_a_death(ends):
  processes = join(2)
  die(processes[1])
  processes[0].settle()
  assert ends, "the process would have ended meanwhile"


@pytest.mark.parametrize(
  "numbers, message",
  [
    (dict(process1=(3, 1)), "process 1 has --num_processes=3, but process 0 has 2"),
    (dict(process1=(2, 1), process2=(2, 1)), "two processes have --process_id=1; number them from 0 to 1"),
  ],
)
def test_numbers_that_disagree_are_refused(ends, numbers, message):
  joined = join(2 if len(numbers) == 1 else 3, process0=(2, 0), **numbers)
  refused = [str(each) for each in joined if type(each) is BadInput]
  assert refused == [message]


def test_a_process_that_does_not_come_is_named(ends):
  with pytest.raises(Fault, match="process 1 of 2 did not join process 0 within 0.5 s"):
    peers.Peers(f"localhost:{free_port()}", 2, 0)
  port = free_port()
  with pytest.raises(Fault, match=f"process 0 does not answer at localhost:{port} .*Connection refused"):
    peers.Peers(f"localhost:{port}", 2, 1)


def test_a_port_in_use_is_named():
  with socket.create_server(("", 0)) as server:
    port = server.getsockname()[1]
    with pytest.raises(Fault, match=f"cannot listen at the port of --coordinator=localhost:{port}: .*in use"):
      peers.Peers(f"localhost:{port}", 2, 0)


def test_jax_reaches_its_service_and_does_not_see_it_end_before_this_process():
  holding = threading.Event()
  holding.set()
  (jax, near), (far, service) = connected(), connected()
  threading.Thread(target=peers._join_sockets, args=(near, far, holding.is_set), daemon=True).start()
  jax.sendall(b"question")
  assert service.recv(100) == b"question"
  service.sendall(b"answer")
  assert jax.recv(100) == b"answer"
  service.close()
  jax.settimeout(0.3)
  with pytest.raises(TimeoutError):
    jax.recv(100)
  holding.clear()
  jax.settimeout(10)
  assert jax.recv(100) == b""


@pytest.mark.parametrize("address", ["10.0.0.1:4567", "host-0.pod:1", "[::1]:65535"])
def test_addresses(address):
  peers.check_address(address)


@pytest.mark.parametrize(
  "address", ["", "foo", "foo:", ":80", "foo:bar", "foo:0", "foo:65536", "::1:80", "a b:1"]
)
def test_what_is_no_address_is_refused(address):
  with pytest.raises(BadInput, match="is not HOST:PORT of process 0"):
    peers.check_address(address)
