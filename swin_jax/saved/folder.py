"""Model folders: model.safetensors, with our parameter paths, and config.json, which describes the model."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import errno
import json
import pathlib
import tempfile
from typing import Any

import jax
import numpy as np

from swin_jax.saved import description as descriptions
from swin_jax.saved import hub, parameters
from swin_jax.saved import tensors as tensor_files
from swin_jax.saved.saved import Saved
from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class SavedFolder:
  """The parameters in a model folder, read on demand. See `saved.Saved`.

  Args:
    source: the folder.

  Raises:
    BadInput: the folder is not a model folder.
  """

  step = None

  def __init__(self, source: str):
    self.source = str(source)
    path = pathlib.Path(source)
    try:
      config = json.loads((path / CONFIG).read_text())
    except (OSError, ValueError) as error:
      raise BadInput(f"{source} has no readable {CONFIG}, which must describe the model") from error
    if not isinstance(config, Mapping) or "model" not in config:
      raise BadInput(
        f"{source} is not a swin_jax model folder, according to its {CONFIG}; import it: python -m "
        "swin_jax.weights"
        f" import {source} DST"
      )
    self.config = descriptions.describe(config, self.source)
    self._tensors = tensor_files.open_tensors(str(path / WEIGHTS))
    self.shapes = self._tensors.shapes

  def read(self, expected: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Reads parameters by path, with the given dtypes and shardings; the given shapes must be those saved."""
    arrays = {}
    for path, leaf in expected.items():
      value = self._tensors.read(path).astype(leaf.dtype, copy=False)
      # Every process has read the value; `device_put` would compare the copies over the network.
      arrays[path] = jax.make_array_from_callback(value.shape, leaf.sharding, value.__getitem__)
    return arrays


def open_saved(source: str) -> Saved:
  """Opens a model folder, a workdir (its newest intact checkpoint), or one WORKDIR/checkpoints/STEP.

  Raises:
    BadInput: the source is none of these.
  """
  path = pathlib.Path(source)
  if (path / WEIGHTS).exists():
    return SavedFolder(source)
  if path.is_file() or hub.is_address(source):
    raise BadInput(
      f"{source} is not a model folder; convert it: python -m swin_jax.weights import {source} DST"
    )
  return parameters.SavedParameters(source)


def check_no_model(workdir: str) -> None:
  """Checks that a workdir is not a model folder.

  Training in a model folder would overwrite its description, and its weights would be mistaken for the run's.

  Raises:
    BadInput: the workdir is a model folder.
  """
  if (pathlib.Path(workdir) / WEIGHTS).exists():
    raise BadInput(
      f"--workdir={workdir} is a model folder; to start from it: --config.init_from={workdir}, and another"
      " --workdir"
    )


def check_free(destination: str) -> None:
  """Checks that a destination can be created, and that it does not exist or is an empty folder.

  Raises:
    BadInput: the destination exists, or cannot be created.
  """
  path = pathlib.Path(destination)
  try:
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
      raise BadInput(f"{destination} already exists; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path.parent):  # os.access knows nothing of file systems like /proc
      writable = path.name
  except OSError as error:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
      raise
    raise BadInput(f"{destination} cannot be created: {error.strerror or error}") from error
  if not writable:
    raise BadInput(f"{destination} cannot be created there; choose another name")


@contextlib.contextmanager
def new(destination: str) -> Iterator[pathlib.Path]:
  """Yields a folder to fill, which becomes the destination; if the block fails, nothing is left.

  Raises:
    BadInput: the destination already exists or cannot be created.
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
  """Writes a model folder, complete or not at all, one parameter at a time.

  Raises:
    BadInput: the destination already exists or cannot be created.
  """
  with new(destination) as path:
    (path / CONFIG).write_text(json.dumps(description, indent=2) + "\n")
    write_weights(path, shapes, read)


def write_weights(
  path: pathlib.Path, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], np.ndarray]
) -> None:
  """Writes the weights of a model folder, one parameter at a time."""
  tensor_files.write(
    path / WEIGHTS, ((name, shape, np.dtype(np.float32)) for name, shape in shapes.items()), read
  )
