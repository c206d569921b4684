"""Exports a forward pass to StableHLO with `jax.export`, together with the program that runs it."""

from collections.abc import Iterator
import contextlib
import pathlib
import shutil
from typing import Any

import jax
import jax.export
import numpy as np

from swin_jax.export import loader
from swin_jax.export.forward import Forward
from swin_jax.saved import folder

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, LOADER = "model.stablehlo", "load.py"


def write(path: pathlib.Path, forward: Forward, beside: bool) -> dict[str, Any]:
  """Writes model.stablehlo, load.py and optionally model.safetensors into a folder.

  Args:
    path: the folder.
    forward: what to export.
    beside: the program takes the weights, by path, as its first argument, instead of containing them.

  Returns:
    The entries to add to config.json.
  """
  function = forward.run if beside else lambda *inputs: forward.run(forward.weights, *inputs)
  weights = (
    [{name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in forward.weights.items()}]
    if beside
    else []
  )
  with _without_paths():
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*weights, *forward.inputs.values())
  (path / PROGRAM).write_bytes(exported.serialize())
  shutil.copyfile(loader.__file__, path / LOADER)
  if beside:
    shapes = {name: leaf.shape for name, leaf in forward.weights.items()}
    folder.write_weights(path, shapes, lambda name: np.asarray(forward.weights[name]))
  return {"platforms": PLATFORMS, "calling_convention_version": exported.calling_convention_version}


@contextlib.contextmanager
def _without_paths() -> Iterator[None]:
  """Omits this machine's file names from the lowered program, so that it is the same everywhere.

  The names of layers are kept.
  """
  limit = jax.config.jax_traceback_in_locations_limit
  jax.config.update("jax_traceback_in_locations_limit", 0)
  try:
    yield
  finally:
    jax.config.update("jax_traceback_in_locations_limit", limit)
