"""Our model folder: model.safetensors, with our parameter paths, and config.json, which describes the
model.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from swin_jax.saved import checkpoint, hub
from swin_jax.saved import description as descriptions
from swin_jax.saved import tensors as tensor_files
from swin_jax.saved.saved import Saved
from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class SavedFolder:
  """The parameters in a model folder, read when they are asked for. See `saved.Saved`.

  Args:
    source: the folder.

  Raises:
    BadInput: it is none.
  """

  step = None

  def __init__(self, source: str):
    self.source = str(source)
    path = pathlib.Path(source)
    try:
      config = json.loads((path / CONFIG).read_text())
    except (OSError, ValueError) as error:
      raise BadInput(f"{source} has no {CONFIG} that can be read, which must describe the model") from error
    if not isinstance(config, Mapping) or "model" not in config:
      raise BadInput(
        f"{source} is no model folder of ours, by its {CONFIG}; import it: python -m swin_jax.weights"
        f" import {source} DST"
      )
    self.config = descriptions.describe(config, self.source)
    self._tensors = tensor_files.open_tensors(str(path / WEIGHTS))
    self.shapes = self._tensors.shapes

  def read(self, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Reads the parameters of these paths into these shardings; shapes are the saved ones."""
    arrays = {}
    for path, leaf in wanted.items():
      value = self._tensors.read(path).astype(leaf.dtype, copy=False)
      # Every process has read it: `device_put` would compare what they have, over the network.
      arrays[path] = jax.make_array_from_callback(value.shape, leaf.sharding, value.__getitem__)
    return arrays


def open_saved(source: str) -> Saved:
  """The weights of a model folder, a workdir (its newest whole checkpoint), or one WORKDIR/checkpoints/STEP.

  Raises:
    BadInput: it is none of them.
  """
  path = pathlib.Path(source)
  if (path / WEIGHTS).exists():
    return SavedFolder(source)
  if path.is_file() or hub.is_address(source):
    raise BadInput(
      f"{source} is no model folder; make one of it: python -m swin_jax.weights import {source} DST"
    )
  return checkpoint.SavedParameters(source)


def check_no_model(workdir: str) -> None:
  """Refuses to train in a model folder: its description would be overwritten, and its weights be taken for
  the run's.

  Raises:
    BadInput: it is one.
  """
  if (pathlib.Path(workdir) / WEIGHTS).exists():
    raise BadInput(
      f"--workdir={workdir} is a model folder; to start from it: --config.init_from={workdir}, and another"
      " --workdir"
    )


def check_free(destination: str) -> None:
  """Refuses to write over what is there, or where nothing can be written.

  Raises:
    BadInput: there is something, or it cannot be made.
  """
  path = pathlib.Path(destination)
  try:
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
      raise BadInput(f"{destination} is there already; take another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    writable = os.access(path.parent, os.W_OK | os.X_OK) and path.name
  except OSError as error:
    raise BadInput(f"{destination} cannot be made: {error.strerror or error}") from error
  if not writable:
    raise BadInput(f"{destination} cannot be made there; take another name")


@contextlib.contextmanager
def new(destination: str) -> Iterator[pathlib.Path]:
  """A folder to fill, which then becomes the destination, or nothing if what fills it fails.

  Raises:
    BadInput: there is something already.
  """
  check_free(destination)
  with files.making_folder(pathlib.Path(destination)) as partial:
    yield partial


def write(
  destination: str,
  description: dict[str, Any],
  shapes: Mapping[str, tuple[int, ...]],
  read: Callable[[str], np.ndarray],
) -> None:
  """Writes a model folder, whole or not at all, one parameter after the other.

  Raises:
    BadInput: there is something already.
  """
  with new(destination) as path:
    (path / CONFIG).write_text(json.dumps(description, indent=2) + "\n")
    write_weights(path, shapes, read)


def write_weights(
  path: pathlib.Path, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], np.ndarray]
) -> None:
  """Writes the weights of a model folder, one parameter after the other."""
  tensor_files.write(
    path / WEIGHTS, ((name, shape, np.dtype(np.float32)) for name, shape in shapes.items()), read
  )
