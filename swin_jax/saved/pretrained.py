"""`swin_jax.load`: loads a trained model, for notebooks and the commands that export and show models."""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from swin_jax.kernels import window_attention
from swin_jax.saved import description as descriptions
from swin_jax.saved import folder, transfer
from swin_jax.saved.model import Model
from swin_jax.saved.saved import Saved
from swin_jax.terminal.errors import BadInput


def load(
  path: str,
  *,
  window: int | tuple[int, int] | None = None,
  image_size: int | tuple[int, int] | None = None,
  dtype: str = "float32",
  kernel: str = "auto",
) -> tuple[Model, Any]:
  """Loads a trained model.

  Args:
    path: a model folder, a run's workdir (its newest intact checkpoint), or one WORKDIR/checkpoints/STEP. Of
      `swin_jax.load` also public weights, which are then converted into a cache: hf://OWNER/NAME[/FILE], or a
      file or folder that `python -m swin_jax.weights import` reads.
    window: tokens, or (height, width); a window other than that of training, for all stages.
    image_size: pixels, or (height, width); needed where V1's windows depend on it.
    dtype: of the matrix products and activations, "float32" (full precision, which is slow on GPUs and
      TPUs) or "bfloat16".
    kernel: attention kernel; "xla" runs on every platform, "auto" is the fastest known on this device,
      "gpu" is experimental and needs a GPU.

  Returns:
    The model, and its parameters: a tree of float32 arrays on the first device.

  Raises:
    BadInput: there is no model, it does not support that window, or the device cannot run that kernel.
  """
  if dtype not in ("float32", "bfloat16"):
    raise BadInput(f"dtype must be 'float32' or 'bfloat16', not {dtype!r}")
  if kernel not in window_attention.CHOICES:
    raise BadInput(f"kernel must be one of {window_attention.CHOICES}, not {kernel!r}")
  window_attention.check(kernel, jax.local_devices()[0].platform)
  return open_model(folder.open_saved(str(path)), window, image_size, dtype, kernel)


def open_model(
  saved: Saved, window: Any = None, image_size: Any = None, dtype: str = "float32", kernel: str = "auto"
) -> tuple[Model, Any]:
  """Loads a saved model that is already open; see `load`."""
  description = descriptions.adapt(descriptions.describe(saved.config, saved.source), window, image_size)
  params, _ = read(saved, description)
  return Model(description, dtype, kernel=window_attention.choose(kernel, jax.local_devices()[0])), params


def read(
  saved: Saved, description: dict[str, Any], rules: transfer.Rules = transfer.DEFAULT
) -> tuple[Any, transfer.Report]:
  """Reads the parameters of a saved model for a description adapted from its own, onto the first device.

  Returns:
    The parameters, and the report of how each was transferred.

  Raises:
    BadInput: the parameters cannot be adapted to the description.
  """
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  shapes = descriptions.parameter_shapes(description)
  expected = {path: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=here) for path, shape in shapes.items()}
  arrays, report = transfer.read_all(saved, expected, rules)
  return flax.traverse_util.unflatten_dict(arrays, sep="/"), report
