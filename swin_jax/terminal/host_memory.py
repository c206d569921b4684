"""Large pages (2 MiB) for the memory of computations on the CPU, on Linux.

XLA allocates and frees its CPU buffers at every run of a program, and Linux clears each page again when it is
first touched. With the default pages of 4 KiB, this takes up to a third of the time of a forward pass.
"""

from collections.abc import Mapping, Sequence
import importlib.metadata
import importlib.util
import itertools
import os
import pathlib
import platform
import sys

# Read by glibc when a program starts: large pages for large allocations; allocations below 4 MiB come from
# one heap that grows by 64 MiB.
# https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html
TUNABLES = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4194304:glibc.malloc.top_pad=67108864"
_VARIABLE = "GLIBC_TUNABLES"
# Marks the restarted process, since some systems remove GLIBC_TUNABLES from privileged programs.
_RESTARTED = "SWIN_JAX_ON_LARGE_PAGES"
_LARGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_on_large_pages(module: str) -> None:
  """Restarts this command in the same process with large pages; returns if they are unavailable or useless.

  It returns on systems other than Linux with glibc 2.35 or newer, if the system provides no large pages, if
  GPUs or TPUs compute, if malloc is already configured, or if the process does not run the command but, for
  example, a notebook.

  Args:
    module: module name of the command, as after python -m; `swin_jax` runs it by a short name.
  """
  environment = on_large_pages(os.environ)
  if environment and _RESTARTED not in environment and is_supported() and _is_command(sys.orig_argv, module):
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment | {_RESTARTED: "1"})


def _is_command(argv: Sequence[str], module: str) -> bool:
  """Returns whether a process was started as a command: as python -m, or as the program swin_jax."""
  pairs = {*itertools.pairwise(argv)}
  return bool(pairs & {("-m", module), ("-m", "swin_jax")}) or "swin_jax" in map(os.path.basename, argv[1:2])


def on_large_pages(environment: Mapping[str, str]) -> dict[str, str] | None:
  """Returns the environment of a program with large pages.

  Returns None if the program does not compute on a CPU, or if malloc is already configured.
  """
  told = environment.get(_VARIABLE, "")
  if "glibc.malloc" in told or not _computes_on_cpu(environment):
    return None
  return {**environment, _VARIABLE: ":".join(filter(None, (told, TUNABLES)))}


def is_supported() -> bool:
  """Returns whether the system offers large pages on request, and the C library supports them."""
  library, version = platform.libc_ver()
  offered = _LARGE_PAGES.exists() and "[never]" not in _LARGE_PAGES.read_text()
  return offered and library == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)


def _computes_on_cpu(environment):
  """Returns whether jax, which is not imported here, will use the CPU: as configured, or without plugins."""
  if platforms := environment.get("JAX_PLATFORMS"):
    return platforms.split(",")[0] == "cpu"
  return not importlib.util.find_spec("libtpu") and not importlib.metadata.entry_points(group="jax_plugins")
