"""Model folders: model.safetensors, with our parameter paths, and config.json, which describes the model and
holds the digests of the folder's files.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np

from swin_jax.saved import description as descriptions
from swin_jax.saved import hub, parameters, workdir
from swin_jax.saved import tensors as tensor_files
from swin_jax.saved.saved import Saved
from swin_jax.terminal import addresses, digests, files, json_files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import Progress, say

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class SavedFolder:
  """The parameters in a model folder, read on demand. See `saved.Saved`.

  Before anything is used, the content of the weights and the size of every file are checked.

  Args:
    source: the folder.

  Raises:
    BadInput: the folder is not a model folder, or it is damaged.
  """

  step = None

  def __init__(self, source: str):
    self.source = str(source)
    path = pathlib.Path(source)
    config = json_files.read(path / CONFIG, dict, "it must describe the model")
    _check_digests(path, config)
    if "model" not in config:
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


def _check_digests(path: pathlib.Path, config: Mapping[str, Any]) -> None:
  """Checks the files of a model folder, all by size and the weights by content; says so if it has no digests.

  Raises:
    BadInput: a file is damaged; the message names it.
  """
  try:
    known = digests.read(config, CONFIG)
  except ValueError as error:
    raise BadInput(
      f"{path / CONFIG} {error}; restore it, or if you changed it yourself, delete its group"
      f" '{digests.GROUP}'"
    ) from error
  if known is None:
    if "model" in config:
      say(
        f"{path} has no {digests.GROUP}, so damage to it cannot be detected; python -m swin_jax.weights adapt"
        f" {path} DST writes a copy that has them"
      )
    return
  damage = {} if WEIGHTS in known else {WEIGHTS: f"is not listed in {CONFIG}"}
  for name, digest in known.items():
    damage |= {name: why} if (why := digests.find_damage(path / name, digest, read=False)) else {}
  if not damage:  # only now, because the sizes cost nothing
    progress = Progress(f"checking {path / WEIGHTS}", known[WEIGHTS]["size"] / 1e6, "MB")
    why = digests.find_damage(path / WEIGHTS, known[WEIGHTS], tick=lambda count: progress.step(count / 1e6))
    damage = {WEIGHTS: why} if why else {}
  for name, why in damage.items():
    raise BadInput(f"{path / name} {why}; restore it, or write the folder again")


def open_saved(source: str) -> Saved:
  """Opens a model folder, a workdir (its newest intact checkpoint), or one WORKDIR/checkpoints/STEP.

  Raises:
    BadInput: the source is none of these.
  """
  path = pathlib.Path(source)
  if not hub.is_address(source):
    addresses.check_local("", source)
  if os.path.exists(path / WEIGHTS):
    return SavedFolder(source)
  if os.path.isfile(path) or hub.is_address(source):
    raise BadInput(
      f"{source} is not a model folder; convert it: python -m swin_jax.weights import {source} DST"
    )
  if os.path.isfile(path / CONFIG) and not os.path.exists(path / workdir.CHECKPOINTS):
    raise BadInput(
      f"{source} holds no checkpoint and no {WEIGHTS}, only {CONFIG}: restore the file that is missing"
    )
  saved = parameters.SavedParameters(source)
  descriptions.describe(saved.config, saved.source)  # refuses a damaged config before anything is computed
  return saved


def check_no_model(path: str) -> None:
  """Checks that a workdir is not a model folder.

  Training in a model folder would overwrite its description, and its weights would be mistaken for the run's.

  Raises:
    BadInput: the workdir is a model folder.
  """
  if (pathlib.Path(path) / WEIGHTS).exists():
    raise BadInput(
      f"--workdir={path} is a model folder; to start from it: --config.init_from={path}, and another"
      " --workdir"
    )


@contextlib.contextmanager
def new(destination: str) -> Iterator[pathlib.Path]:
  """Yields a folder to fill, which becomes the destination; if the block fails, nothing is left.

  Raises:
    BadInput: the destination already exists or cannot be created.
  """
  files.check_free(destination)
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
    write_weights(path, shapes, read)
    write_config(path, description)


def write_config(path: pathlib.Path, description: dict[str, Any]) -> None:
  """Writes config.json, with the digests of all other files; these must be complete."""
  known = {file.name: digests.of_file(file) for file in path.iterdir() if file.name != CONFIG}
  sealed = digests.seal(description, CONFIG, known)
  (path / CONFIG).write_text(json.dumps(sealed, indent=2) + "\n")


def write_weights(
  path: pathlib.Path, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str], np.ndarray]
) -> None:
  """Writes the weights of a model folder, one parameter at a time."""
  tensor_files.write(
    path / WEIGHTS, ((name, shape, np.dtype(np.float32)) for name, shape in shapes.items()), read
  )
