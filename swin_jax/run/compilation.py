"""Compilation: its results, kept from one run to the next, and what is printed about it."""

from collections.abc import Iterator
import contextlib
import math
import os
import pathlib
import re
import time
import warnings
import zlib

import jax
from jax.experimental.compilation_cache import compilation_cache

from swin_jax.terminal.progress import say

_DEFAULT = "~/.cache/swin_jax/compiled"
# The warnings of jax, which goes on without the cache.
_TROUBLE = r"Error (reading|writing) persistent compilation cache entry for '(.*?)': (.*)"
_ZSTANDARD = b"\x28\xb5\x2f\xfd"  # begins what jax has compressed where zstandard is installed
_PROGRAM = "/jax/core/compile/backend_compile_duration"  # one event for each program, compiled or loaded
_LOADED = "/jax/compilation_cache/cache_hits"


@contextlib.contextmanager
def cached_in(folder: str | None) -> Iterator[None]:
  """Keeps in a folder what is compiled in this block, and loads it from there when it is compiled again.

  An entry that cannot be read or written is reported in one line, and the run goes on. A damaged one is
  replaced.

  Args:
    folder: None for $JAX_COMPILATION_CACHE_DIR or, where that is not set, `_DEFAULT`; empty to keep nothing.
  """
  if folder is None:
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR", os.path.expanduser(_DEFAULT))
  before = jax.config.jax_compilation_cache_dir
  with warnings.catch_warnings():
    show = warnings.showwarning

    def explain(message, *rest, **more):
      if trouble := re.match(_TROUBLE, str(message), re.DOTALL):
        _explain(folder, *trouble.groups())
      else:
        show(message, *rest, **more)

    warnings.filterwarnings("always", _TROUBLE)
    warnings.showwarning = explain
    _use(folder)
    try:
      yield
    finally:
      _use(before)


@contextlib.contextmanager
def reported(what: str, least_seconds: float = 0.0) -> Iterator[None]:
  """Prints how long this block took if it compiled a program, and whether that came from the cache.

  Args:
    what: is compiled.
    least_seconds: that it must take to be worth a line.
  """
  programs, loaded, start = [], [], time.perf_counter()

  def count_programs(event: str, _: float, **__) -> None:
    if event == _PROGRAM:
      programs.append(event)

  def count_loaded(event: str, **_) -> None:
    if event == _LOADED:
      loaded.append(event)

  jax.monitoring.register_event_duration_secs_listener(count_programs)
  jax.monitoring.register_event_listener(count_loaded)
  try:
    yield
  finally:
    jax.monitoring.unregister_event_duration_listener(count_programs)
    jax.monitoring.unregister_event_listener(count_loaded)
  seconds = time.perf_counter() - start
  if programs and seconds >= least_seconds:
    how = "loaded from the cache" if len(loaded) == len(programs) else "compiled"
    say(f"{what}: {how} in {math.ceil(seconds)} s")


def _use(folder: str | None) -> None:
  if folder != jax.config.jax_compilation_cache_dir:
    jax.config.update("jax_compilation_cache_dir", folder)
    compilation_cache.reset_cache()  # else the folder of the first program is used for good


def _explain(folder: str, action: str, program: str, reason: str) -> None:
  reason = " ".join(reason.split())
  if action == "writing":
    say(f"the compiled {program} cannot be kept in {folder}: {reason}")
    return
  say(f"the compiled {program} in {folder} cannot be read and is compiled again: {reason}")
  for path in pathlib.Path(folder).glob(f"{program}-*-cache"):
    if _is_damaged(path):
      path.unlink(missing_ok=True)


def _is_damaged(path: pathlib.Path) -> bool:
  """Whether an entry of the cache can no longer be decompressed; False where that is not known."""
  try:
    data = path.read_bytes()
    zlib.decompress(data)
  except OSError:
    return False
  except zlib.error:
    return not data.startswith(_ZSTANDARD)
  return False
