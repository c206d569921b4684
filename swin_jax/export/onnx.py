"""Exports a forward pass to ONNX with jax2onnx, which needs an older jax: the extra onnx."""

import logging
import pathlib
from typing import Any

import jax
from jax.extend import core

from swin_jax.export.forward import Forward
from swin_jax.terminal import extras

MODEL = "model.onnx"


def write(path: pathlib.Path, forward: Forward) -> dict[str, Any]:
  """Writes model.onnx into a folder.

  Args:
    path: the folder.
    forward: what to export, in float32.

  Returns:
    The entries to add to config.json.

  Raises:
    BadInput: jax2onnx is not installed.
  """
  try:
    import jax2onnx
    import onnx
  except ImportError as error:
    raise extras.missing(
      "onnx", "--format=onnx needs jax2onnx, in an environment of its own", error
    ) from error
  logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns about every constant
  # Traced here because jax2onnx traces with a patched jax.numpy, which breaks flax's scan.
  traced = jax.make_jaxpr(lambda *inputs: forward.run(forward.weights, *inputs))(*forward.inputs.values())
  model = jax2onnx.to_onnx(
    lambda *inputs: tuple(core.jaxpr_as_fun(traced)(*inputs)),
    list(forward.inputs.values()),
    input_names=list(forward.inputs),
    output_names=list(forward.outputs),
  )
  onnx.save(model, path / MODEL)
  return {"opset": {entry.domain: entry.version for entry in model.opset_import}[""]}
