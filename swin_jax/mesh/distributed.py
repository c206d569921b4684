"""Multi-process runs: joins the processes, and communicates between them outside of training steps."""

from collections.abc import Mapping
import contextlib
import glob
import importlib.util
import itertools
import os
import pathlib
import secrets
import socket
import urllib.request

import jax
from jax.experimental import multihost_utils
import numpy as np

from swin_jax.mesh import peers
from swin_jax.terminal import preemption, progress
from swin_jax.terminal.errors import BadInput, Fault, Preempted, cannot_write

# gRPC's variables: its proxy, and the hosts that it reaches without one.
_PROXIES, _NO_PROXY = ("grpc_proxy", "https_proxy", "http_proxy"), "no_grpc_proxy"
_METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/worker-network-endpoints"


@contextlib.contextmanager
def processes(coordinator: str | None, num_processes: int | None, process_id: int | None):
  """Joins the other processes of a run for this block; leaves them once all have finished or were preempted.

  Uses the flags if they are given, otherwise the settings of the TPU pod, Slurm or Open MPI that started
  several processes. A single process without flags does nothing. Must be entered before any use of a device.

  Args:
    coordinator: HOST:PORT of process 0.
    num_processes, process_id: number of processes, and the index of this one.

  Raises:
    BadInput: only some of the three flags are given, or `process_id` is out of range.
    Fault: the other processes could not be reached.
  """
  if coordinator is not None:
    peers.check_address(coordinator)
  given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
  missing = [f"--{name}" for name, value in given.items() if value is None]
  launcher = None
  if not missing:
    if not 0 <= process_id < num_processes:
      raise BadInput(
        f"--process_id={process_id} must be from 0 to {num_processes - 1}, as --num_processes={num_processes}"
      )
    settings = (coordinator, num_processes, process_id, None)
  elif len(missing) < 3:
    raise BadInput(
      f"--coordinator, --num_processes and --process_id go together; missing: {', '.join(missing)}"
    )
  elif launcher := find_launcher(os.environ):
    settings = None
  else:
    yield
    return
  try:
    others = _join(*(settings or _settings_of_launcher()))
  except (RuntimeError, ValueError, KeyError) as error:
    by_hand = f"as described by {launcher}; --coordinator, --num_processes and --process_id override it"
    where = by_hand if launcher else f"process 0 at {coordinator}"
    raise Fault(f"could not join the other processes ({where}): {' '.join(str(error).split())}") from error
  progress.set_process(jax.process_index())
  asked = itertools.count()
  preemption.agree_by(lambda: multihost_utils.reached_preemption_sync_point(next(asked)))
  try:
    yield
  except Preempted as stopped:
    # Everything is saved, so it does not matter if another process has been killed in the meantime.
    others.leave(None, (preemption.exit_code(), str(stopped)))
    with contextlib.suppress(RuntimeError):
      jax.distributed.shutdown()
    raise
  except BaseException as error:
    if isinstance(error, Fault) or not isinstance(error, BadInput):
      others.settle()
    others.leave(error)
    raise
  others.leave(None)
  jax.distributed.shutdown()  # not after an error in this process alone: it would wait for the others in vain


def _settings_of_launcher() -> tuple[str, int, int, list[int] | None]:
  """Returns coordinator, number of processes, index of this one, and its devices, None for all.

  Raises:
    ValueError: the launcher does not provide all of them, or jax cannot detect them.
  """
  coordinator, ids = os.environ.get("JAX_COORDINATOR_ADDRESS"), os.environ.get("JAX_LOCAL_DEVICE_IDS")
  ids = [int(number) for number in ids.split(",")] if ids else None
  try:
    # Private, because `jax.distributed.initialize` uses these settings but does not return them.
    from jax._src import clusters

    settings = clusters.ClusterEnv.auto_detect_unset_distributed_params(
      coordinator, None, None, ids, None, peers.SECONDS_TO_JOIN
    )
  except (ImportError, AttributeError, TypeError) as error:
    raise ValueError(f"jax {jax.__version__} cannot detect its settings: {error}") from error
  if None in settings[:3]:
    raise ValueError("it does not say where process 0 is, how many there are, or which this one is")
  return settings


def _join(coordinator: str, count: int, index: int, devices: list[int] | None) -> peers.Peers:
  """Joins the other processes, for `peers` and for jax."""
  others = peers.Peers(coordinator, count, index)
  if any(name.lower() in _PROXIES for name in os.environ):
    direct = os.environ.get(_NO_PROXY) or os.environ.get("no_proxy")
    os.environ[_NO_PROXY] = ",".join(filter(None, (direct, others.jax_address.partition(":")[0])))
  jax.distributed.initialize(
    others.jax_address,
    count,
    index,
    devices,
    cluster_detection_method="deactivate",
    coordinator_bind_address=others.jax_address if index == 0 else None,
  )
  return others


def check_devices() -> None:
  """Checks that jax finds a device to compute on.

  Raises:
    BadInput: jax finds no device.
  """
  try:
    jax.devices()
  except (RuntimeError, AssertionError) as error:
    platforms = os.environ.get("JAX_PLATFORMS")
    reason = " ".join(str(error).split()) or f"is jax installed for JAX_PLATFORMS={platforms}?"
    raise BadInput(f"jax has no device to compute on: {reason}") from error


def find_launcher(environment: Mapping[str, str]) -> str | None:
  """Returns the name of the launcher that started several processes; None if there is none."""
  if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
    return "Slurm"
  if int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > 1:
    return "Open MPI"
  if importlib.util.find_spec("libtpu") and (glob.glob("/dev/accel*") or glob.glob("/dev/vfio/[0-9]*")):
    hosts = (
      environment.get("TPU_PROCESS_ADDRESSES") or environment.get("TPU_WORKER_HOSTNAMES") or _tpu_metadata()
    )
    if len(hosts.split(",")) > 1 or int(environment.get("MEGASCALE_NUM_SLICES", 1)) > 1:
      return "the TPU pod"
  return None


def _tpu_metadata() -> str:
  """Returns the hosts of this TPU slice from the cloud's metadata server; "" if there is no server."""
  request = urllib.request.Request(_METADATA, headers={"Metadata-Flavor": "Google"})
  try:
    with urllib.request.urlopen(request, timeout=5) as answer:
      return answer.read().decode()
  except OSError:
    return ""


def gather(text: str) -> list[str]:
  """Returns the texts of all processes, ordered by process; every process must call this."""
  if jax.process_count() == 1:
    return [text]
  data = np.frombuffer(text.encode(), np.uint8)
  size = int(multihost_utils.process_allgather(np.int32(len(data))).max())
  rows = multihost_utils.process_allgather(np.pad(data, (0, size - len(data))))
  return [row.tobytes().rstrip(b"\0").decode() for row in np.asarray(rows)]


def raise_first(error: BadInput | None) -> None:
  """Raises the error of process 0, if it has one, on all processes; every process must call this."""
  text = gather("" if error is None else f"{int(isinstance(error, Fault))}{error}")[0]
  if text:
    raise (Fault if text[0] == "1" else BadInput)(text[1:])


def own_rows(array: jax.Array) -> list[jax.Array]:
  """Returns the rows on this process's devices, each once and in order, as single-device pieces.

  This is the inverse of `jax.make_array_from_process_local_data`.

  Args:
    array: array that is sharded along its first dimension only.
  """
  pieces = {shard.index[0].start or 0: shard.data for shard in array.addressable_shards}
  return [pieces[start] for start in sorted(pieces)]


def gather_rows(rows: np.ndarray) -> np.ndarray:
  """Returns the rows of all processes in process order; every process must pass the same shape."""
  if jax.process_count() == 1:
    return rows
  return np.asarray(multihost_utils.process_allgather(rows, tiled=True))


def check_shared(folder: str) -> None:
  """Checks that every process sees the folder of process 0, which creates it.

  Raises:
    BadInput, Fault: process 0 cannot write it, or some hosts do not see it; the message names them.
  """
  if jax.process_count() == 1:
    return
  token = pathlib.Path(folder) / f".seen-by-all-{gather(secrets.token_hex(4))[0]}"
  error = None
  if jax.process_index() == 0:
    try:
      token.parent.mkdir(parents=True, exist_ok=True)
      token.touch()
    except OSError as e:
      error = cannot_write(f"--workdir={folder}", e)
  raise_first(error)
  blind = [name for name in gather("" if token.exists() else socket.gethostname()) if name]
  if jax.process_index() == 0:
    token.unlink(missing_ok=True)
  if blind:
    blind = ", ".join(sorted(set(blind)))
    raise BadInput(
      f"--workdir={folder} must be one folder that all hosts share; {blind} cannot see the one of process 0"
    )
