"""Memory of a CPU that computes, on Linux: in pages of 2 MiB.

XLA's buffers on a CPU are allocated and freed at every run of a program, and Linux clears each page anew when
it is first touched. In pages of 4 KiB, as they come by default, that takes up to a third of the time of a
forward pass.
"""

from collections.abc import Mapping
import importlib.metadata
import importlib.util
import itertools
import os
import pathlib
import platform
import sys

# Read by glibc when a program starts: large pages for what is large; and what is smaller than 4 MiB from one
# piece that grows by 64 MiB.
# https://sourceware.org/glibc/manual/latest/html_node/Memory-Allocation-Tunables.html
TUNABLES = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4194304:glibc.malloc.top_pad=67108864"
_VARIABLE = "GLIBC_TUNABLES"
# some systems take the variable away from programs that they trust more than others
_RESTARTED = "SWIN_JAX_ON_LARGE_PAGES"
_LARGE_PAGES = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_on_large_pages(module: str) -> None:
  """Starts this command again in its own place, where its memory is then in large pages; returns where there
  is nothing to gain.

  That is on other systems than Linux with glibc 2.35 or newer, where the system gives no large pages, where
  GPUs or TPUs compute, where malloc has been told otherwise, and where the process is not just the command,
  but a notebook, say.

  Args:
    module: of the command, as after python -m.
  """
  environment = on_large_pages(os.environ)
  if (
    environment
    and _RESTARTED not in environment
    and _can()
    and ("-m", module) in itertools.pairwise(sys.orig_argv)
  ):
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment | {_RESTARTED: "1"})


def on_large_pages(environment: Mapping[str, str]) -> dict[str, str] | None:
  """The environment of a program in large pages; None where it does not compute on a CPU, or malloc has been
  told something already.
  """
  told = environment.get(_VARIABLE, "")
  if "glibc.malloc" in told or not _computes_on_cpu(environment):
    return None
  return {**environment, _VARIABLE: ":".join(filter(None, (told, TUNABLES)))}


def _can() -> bool:
  """Whether the system has large pages for who asks, and a C library that can."""
  library, version = platform.libc_ver()
  there = _LARGE_PAGES.exists() and "[never]" not in _LARGE_PAGES.read_text()
  return there and library == "glibc" and tuple(map(int, version.split("."))) >= (2, 35)


def _computes_on_cpu(environment):
  """Whether jax, which is not imported here, will: it was told so, or has nothing else installed."""
  if platforms := environment.get("JAX_PLATFORMS"):
    return platforms.split(",")[0] == "cpu"
  return not importlib.util.find_spec("libtpu") and not importlib.metadata.entry_points(group="jax_plugins")
