"""A trained model as StableHLO, by `jax.export`: the folder that `__main__` describes."""

from collections.abc import Iterator, Mapping
import contextlib
import json
import pathlib
import shutil
from typing import Any

import flax
import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from swin_jax import pretrained
from swin_jax.errors import BadInput
from swin_jax.export import loader
from swin_jax.weights import description as descriptions
from swin_jax.weights import folder

PLATFORMS = ("cpu", "cuda", "tpu")
PROGRAM, LOADER = "model.stablehlo", "load.py"
LARGEST_BYTES = 2**31 - 2**26  # of weights inside: flatbuffers count in 31 bits, and the program needs some


def export(
    source: str,
    destination: str,
    *,
    window: Any = None,
    image_size: Any = None,
    dtype: str = "float32",
    features: bool = False,
    weights: str = "inside",
) -> Iterator[str]:
  """Writes the folder, whole or not at all.

  Args:
    source: a workdir, one WORKDIR/checkpoints/STEP, or a model folder.
    destination: the folder to make.
    window, image_size, dtype: as for `swin_jax.load`.
    features: the output of every stage instead of the logits.
    weights: "inside" the program as constants, or "beside" it.

  Yields:
    What it does, line by line.

  Raises:
    BadInput: there is no model, it cannot have that window, it is too large, or there is something at the destination.
  """
  folder.check_free(destination)
  model, nested = pretrained.load(source, window=window, image_size=image_size, dtype=dtype)
  params = flax.traverse_util.flatten_dict(nested, sep="/")
  shapes = {path: leaf.shape for path, leaf in params.items()}
  size = sum(leaf.nbytes for leaf in params.values())
  if weights == "inside" and size > LARGEST_BYTES:
    raise BadInput(f"{source} has {size / 1e9:.1f} GB of weights, and {PROGRAM} holds at most 2: give --weights=beside")
  yield f"{source}: {descriptions.summary(model.description, shapes)}"

  program, about = lower(model, params, features, weights == "beside")
  about |= {"weights": weights, "dtype": dtype, "platforms": PLATFORMS, "jax": jax.__version__}
  with folder.new(destination) as path:
    (path / PROGRAM).write_bytes(program)
    (path / folder.CONFIG).write_text(json.dumps(model.description | {"export": about}, indent=2) + "\n")
    shutil.copyfile(loader.__file__, path / LOADER)
    if weights == "beside":
      folder.write_weights(path, shapes, lambda name: np.asarray(params[name]))
    sizes = {file.name: file.stat().st_size for file in sorted(path.iterdir())}
  for kind in ("inputs", "outputs"):
    yield f"{kind}: " + ", ".join(f"{array['name']} {' × '.join(map(str, array['shape']))} {array['dtype']}" for array in about[kind])
  yield f"wrote {destination}: " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes.items())
  yield f"try it: python {pathlib.Path(destination) / LOADER}"


def lower(model: pretrained.Model, params: Mapping[str, jax.Array], features: bool, beside: bool) -> tuple[bytes, dict[str, Any]]:
  """The forward pass for all platforms and any batch size.

  float32 products are exact in float32 on all of them: GPUs and TPUs would round their factors, and once exported there is no flag for
  it any more.

  Args:
    model: what to export.
    params: its parameters, by path.
    features: the output of every stage instead of the logits.
    beside: the program takes the parameters, by path, as its first argument.

  Returns:
    The program, serialised, and its inputs (after the parameters) and outputs: name, shape and dtype of each.
  """
  (batch,) = jax.export.symbolic_shape("batch")
  height, width = model.image_size
  inputs = {"images": jax.ShapeDtypeStruct((batch, height, width, len(model.mean)), jnp.float32)}
  if features:
    names = [f"stage{i}" for i in range(len(model.description["model"]["depths"]))]
  elif model.masked:
    patch, names = model.description["model"]["patch_size"], ["reconstruction"]
    inputs["mask"] = jax.ShapeDtypeStruct((batch, -(-height // patch), -(-width // patch)), jnp.bool_)
  else:
    names = ["logits" if model.description["classification"]["num_classes"] else "pooled"]

  def forward(params, *inputs):
    nested = flax.traverse_util.unflatten_dict(params, sep="/")
    if features:
      return model.features(nested, *inputs, stages=range(len(names)))
    return model.apply(nested, *inputs)

  function = forward if beside else lambda *inputs: forward(params, *inputs)
  taken = [{path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in params.items()}] if beside else []
  with _without_paths(), jax.default_matmul_precision("highest" if model.module.encoder.dtype == jnp.float32 else None):
    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*taken, *inputs.values())
  return exported.serialize(), {
      "inputs": _arrays(inputs.keys(), inputs.values()),
      "outputs": _arrays(names, exported.out_avals),
      "calling_convention_version": exported.calling_convention_version,
  }


def _arrays(names, abstract) -> list[dict[str, Any]]:
  """For config.json; the batch is a word, all else are numbers."""
  return [
      {"name": name, "shape": [dim if isinstance(dim, int) else str(dim) for dim in array.shape], "dtype": array.dtype.name}
      for name, array in zip(names, abstract, strict=True)
  ]


@contextlib.contextmanager
def _without_paths() -> Iterator[None]:
  """Leaves the files of this machine out of what is lowered, so that it is the same everywhere; names of layers stay."""
  limit = jax.config.jax_traceback_in_locations_limit
  jax.config.update("jax_traceback_in_locations_limit", 0)
  try:
    yield
  finally:
    jax.config.update("jax_traceback_in_locations_limit", limit)
