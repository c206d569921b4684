"""As many CPU devices as a test file asks for, shapes that must match, and one compile cache for the session
and the processes it starts.
"""

import gc
import importlib.metadata
import os
import signal
import tempfile

if "PYTEST_XDIST_WORKER" not in os.environ:  # the workers take the cache of the process that starts them
  _CACHE = tempfile.TemporaryDirectory(prefix="swin_jax_compiled_")
  os.environ["JAX_COMPILATION_CACHE_DIR"] = _CACHE.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
# The tests compile much and compute little: not optimised, without the fusions of older jaxlibs that take
# long to make, and in one part, as every core has a worker. The processes that tests start inherit it.
_FLAGS = " --xla_backend_optimization_level=0 --xla_cpu_parallel_codegen_split_count=1"
if tuple(map(int, importlib.metadata.version("jax").split(".")[:2])) < (0, 11):
  _FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + _FLAGS

import jax  # noqa: E402  (reads the environment)
import jax.extend  # noqa: E402
import pytest  # noqa: E402

from swin_jax.terminal import cli  # noqa: E402
from tests.support.programs import shared_programs  # noqa: E402, F401  (a fixture of every module)

gc.set_threshold(cli.COLLECT_EVERY)
# `nohup` has it ignored, which a command respects: here and in the processes that tests start it arrives.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
jax.config.update("jax_num_cpu_devices", 1)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def devices(request):
  """Gives a test file one device, as a process on a CPU has, or the number of its mark `devices`; a run over
  eight takes a quarter more time.
  """
  mark = request.node.get_closest_marker("devices")
  number = mark.args[0] if mark else 1
  if number != jax.config.jax_num_cpu_devices:
    jax.extend.backend.clear_backends()
    jax.config.update("jax_num_cpu_devices", number)


def pytest_collection_modifyitems(items):
  if not os.environ.get("SWIN_JAX_CI"):
    for item in items:
      if item.get_closest_marker("ci"):
        item.add_marker(pytest.mark.skip(reason="takes long; set SWIN_JAX_CI=1 to run it, as .ci/run does"))
