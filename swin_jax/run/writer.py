"""Writes the output of a run for users and other programs: metrics, TensorBoard events and pictures.

None of it is needed to continue the run, so a failure of the storage is one line, and the run goes on.
"""

from collections.abc import Callable, Mapping, Sequence
import io
import json
import pathlib
from typing import Protocol

import jax
import numpy as np
from PIL import Image

from swin_jax.run.events import Events
from swin_jax.run.record_file import RecordFile
from swin_jax.saved import workdir as saved_workdir
from swin_jax.terminal import files
from swin_jax.terminal.digests import Digest
from swin_jax.terminal.progress import warn


class Sink(Protocol):
  """Where metrics and pictures go in addition to the files in the workdir; no method may fail."""

  def scalars(self, step: int, values: Mapping[str, float]) -> None: ...

  def picture(self, step: int, name: str, grid: np.ndarray, png: bytes) -> None: ...  # the same, encoded

  def close(self) -> None: ...


class Writer:
  """Writes `metrics.jsonl`, TensorBoard events and pictures to the workdir of a run; only process 0 writes.

  Args:
    workdir: the run's folder.
    step: step that the run continues from; lines of later steps, written before an interruption, are dropped.
    evaluated: whether the evaluation of this step is complete; if not, its lines are dropped too.
    written: `digests` when this step was saved.
    also: further sinks of the metrics and the pictures.
  """

  def __init__(
    self,
    workdir: str,
    step: int,
    evaluated: bool,
    written: Mapping[str, Digest],
    also: Sequence[Sink] = (),
  ):
    self._workdir = pathlib.Path(workdir)
    self.nonfinite_path = self._workdir / "nonfinite.jsonl"
    self._active = jax.process_index() == 0
    if not self._active:
      return
    paths = self._workdir / saved_workdir.METRICS, self.nonfinite_path
    self._records = {path.name: RecordFile(path) for path in paths}
    self._lines, self._nonfinite = self._records.values()
    for name, file in self._records.items():
      file.keep_lines(lambda entry: _is_before(entry, step, evaluated), written.get(name))
    self._sinks = (Events(self._workdir / "tensorboard", step + 1), *also)
    self._lacks_pictures = False

  @property
  def digests(self) -> dict[str, Digest]:
    """Digests of what the run has written, by the name of the file; a resumed run compares its files."""
    return {name: file.digest for name, file in self._records.items()} if self._active else {}

  def scalars(self, step: int, values: Mapping[str, float], about: Mapping[str, float]) -> None:
    """Writes metrics.

    Args:
      step: step of the run.
      values: metrics by name.
      about: further numbers by name, which TensorBoard needs no curves of.
    """
    if self._active:
      self._lines.add(_line({"step": step, **about, **values}))
      for sink in self._sinks:
        sink.scalars(step, values)

  def nonfinite(self, step: int, records: list[int]) -> None:
    """Records the indices of the examples of a skipped step in `nonfinite.jsonl`."""
    if self._active:
      self._nonfinite.add(_line({"step": step, "records": records}))

  def pictures(
    self, step: int, name: str, images: np.ndarray, legend: Callable[[np.ndarray], np.ndarray]
  ) -> pathlib.Path | None:
    """Writes pictures as one grid, as a PNG file and to TensorBoard.

    Args:
      step: step of the run.
      name: name of the pictures, also in the file name.
      images: uint8 [rows, columns, height, width, bands]; see `picture_grid`.
      legend: grid → the grid with a legend of its colours below it.

    Returns:
      Path of the PNG file; None on processes other than 0, and if it cannot be written.
    """
    if not self._active:
      return None
    grid, encoded = legend(picture_grid(images)), io.BytesIO()
    Image.fromarray(grid).save(encoded, "PNG")
    for sink in self._sinks:
      sink.picture(step, name, grid, encoded.getvalue())
    path = self._workdir / "pictures" / f"{name}-{step:07d}.png"
    try:
      path.parent.mkdir(exist_ok=True)
      with files.replacing(path) as partial:
        partial.write_bytes(encoded.getvalue())
    except OSError as error:
      if not self._lacks_pictures:
        warn(f"{path} cannot be written ({error.strerror or error}); the run goes on")
      self._lacks_pictures = True
      return None
    return path

  def close(self) -> None:
    if self._active:
      for file in (*self._records.values(), *self._sinks):
        file.close()


def picture_grid(images: np.ndarray) -> np.ndarray:
  """Arranges images in a grid, and enlarges small ones.

  Args:
    images: uint8 [rows, columns, height, width, bands]; the first three bands are shown as red, green and
      blue, or the first as grey if there are fewer.

  Returns:
    uint8 [y, x, 3].
  """
  images = images[..., :3] if images.shape[-1] >= 3 else np.repeat(images[..., :1], 3, axis=-1)
  zoom = max(1, 96 // images.shape[2])
  images = images.repeat(zoom, axis=2).repeat(zoom, axis=3)
  images = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
  rows, columns, height, width, _ = images.shape
  return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)


def _line(entry: Mapping[str, object]) -> bytes:
  return (json.dumps(entry) + "\n").encode()


def _is_before(entry: Mapping[str, object], step: int, evaluated: bool) -> bool:
  """Returns whether a line belongs to the steps that a run has done when it continues."""
  return entry["step"] < step or (
    entry["step"] == step and (evaluated or not any(name.startswith("eval/") for name in entry))
  )
