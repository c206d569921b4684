"""Persistent cache of compiled programs, and messages about compilation."""

from collections.abc import Callable, Iterator
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
# Warnings of jax about the cache; jax then continues without it.
_TROUBLE = r"Error (reading|writing) persistent compilation cache entry for '(.*?)': (.*)"
_ZSTANDARD = b"\x28\xb5\x2f\xfd"  # magic number of entries that jax compressed with zstandard
_COMPILE = "/jax/core/compile/"  # events of tracing, lowering and compilation
_PROGRAM = f"{_COMPILE}backend_compile_duration"  # one event per program, compiled or loaded
_LOADED = "/jax/compilation_cache/cache_hits"


@contextlib.contextmanager
def cached_in(folder: str | None) -> Iterator[None]:
  """Caches the programs compiled in this block in a folder, and loads those that the folder already holds.

  An entry that cannot be read or written is reported in one line, and the run continues. A damaged entry is
  replaced.

  Args:
    folder: None for $JAX_COMPILATION_CACHE_DIR or, if that is not set, `_DEFAULT`; "" for no cache.
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
def timed() -> Iterator[Callable[[], float]]:
  """Yields a function that returns the seconds that this block has spent on compilation so far."""
  seconds = []

  def count(event: str, duration: float, **__) -> None:
    if event.startswith(_COMPILE):
      seconds.append(duration)

  jax.monitoring.register_event_duration_secs_listener(count)
  try:
    yield lambda: sum(seconds)
  finally:
    jax.monitoring.unregister_event_duration_listener(count)


@contextlib.contextmanager
def reported(what: str, least_seconds: float = 0.0) -> Iterator[None]:
  """Prints the duration of this block if it compiled a program or loaded one from the cache, and says which.

  Args:
    what: name of what is compiled, for the message.
    least_seconds: shorter blocks are not reported.
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
    compilation_cache.reset_cache()  # otherwise jax keeps the folder of the first program


def _explain(folder: str, action: str, program: str, reason: str) -> None:
  reason = " ".join(reason.split())
  if action == "writing":
    say(f"the compiled {program} cannot be stored in {folder}: {reason}")
    return
  say(f"the compiled {program} in {folder} cannot be read and is compiled again: {reason}")
  for path in pathlib.Path(folder).glob(f"{program}-*-cache"):
    if _is_damaged(path):
      path.unlink(missing_ok=True)


def _is_damaged(path: pathlib.Path) -> bool:
  """Returns whether a cache entry can no longer be decompressed; False if that is unknown."""
  try:
    data = path.read_bytes()
    zlib.decompress(data)
  except OSError:
    return False
  except zlib.error:
    return not data.startswith(_ZSTANDARD)
  return False
