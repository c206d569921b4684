"""Features of images in one .npy file, written as they are computed, and a table of its rows."""

from collections.abc import Sequence
import contextlib
import errno
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.predict.answer import Answer
from swin_jax.predict.ledger import Ledger, row
from swin_jax.saved.pretrained import Model
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import printable

ARRAY, TABLE = "features.npy", "features.csv"
POOLED, _STAGE = "pooled", "stage"
# Errors of a file system that cannot reserve space.
_CANNOT_RESERVE = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)


class Features(Answer):
  """The pooled features of each image, or the output of one stage.

  A row of the array is float32 [C], or [*map, C] of a stage. The array has a row for each image, in order;
  those of images that cannot be read are cut off at the end.
  """

  headers = {TABLE: row("row", "path")}

  def __init__(self, model: Model, params: Any, which: str):
    """Chooses the features.

    Args:
      model, params: the model.
      which: "pooled", or "stage" and its number, from 1.

    Raises:
      BadInput: there are no such features, or the model sees images of any size.
    """
    self._model, self._stage = model, None
    stages = [f"{_STAGE}{i}" for i in range(1, 1 + len(model.module.encoder.levels))]
    if model.kind.pixels:
      raise BadInput(
        "--features needs a model that sees images of one size; this one predicts the pixels of whole images"
      )
    if which not in (POOLED, *stages):
      raise BadInput(f"--features={which}: the model has {', '.join((POOLED, *stages))}")
    if which != POOLED:
      self._stage = stages.index(which)
    images = jax.ShapeDtypeStruct((1, *model.image_size, len(model.mean)), jnp.float32)
    self._shape, self._array = jax.eval_shape(self.function, params, images).shape[1:], None

  def function(self, params: Any, images: jax.Array) -> jax.Array:
    """Returns the features [B, ...] of images that are not normalised."""
    images = self._model.normalise(images)
    if self._stage is None:
      return self._model.pooled(params, images)
    return self._model.features(params, images, (self._stage,))[0].astype(jnp.float32)

  def open(self, ledger: Ledger, total: int) -> None:
    """Opens the array in the folder of the ledger, or reserves the space for it.

    Raises:
      OSError: there is no space.
    """
    self._path = ledger.folder / ARRAY
    if not self._path.exists():
      new = ledger.folder / f"{ARRAY}.new"
      np.lib.format.open_memmap(new, "w+", np.float32, (total, *self._shape)).flush()
      with open(new, "r+b") as file, _where_possible():  # a full disk would kill the process later
        os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
      os.replace(new, self._path)
    self._array = np.lib.format.open_memmap(self._path, "r+")

  def write(self, ledger: Ledger, names: Sequence[str], outputs: np.ndarray) -> None:
    """Writes the features of the images of these names."""
    self._array[ledger.rows : ledger.rows + len(names)] = outputs
    lines = (row(number, printable(name)) for number, name in enumerate(names, ledger.rows))
    ledger.write(TABLE, "".join(lines))

  def flush(self) -> None:
    """Writes the array out."""
    self._array.flush()

  def finish(self, ledger: Ledger) -> None:
    """Cuts off the rows that are not used."""
    self.flush()
    if ledger.rows == len(self._array):
      return
    header = {"descr": np.lib.format.dtype_to_descr(self._array.dtype), "fortran_order": False}
    self._array = None
    with open(self._path, "r+b") as file:
      np.lib.format.write_array_header_1_0(file, header | {"shape": (ledger.rows, *self._shape)})
      file.truncate(file.tell() + 4 * ledger.rows * math.prod(self._shape))
      os.fsync(file.fileno())


@contextlib.contextmanager
def _where_possible():
  try:
    yield
  except OSError as error:
    if error.errno not in _CANNOT_RESERVE:
      raise
