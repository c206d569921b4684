"""Writes the output of a run for users and other programs: metrics, TensorBoard events and pictures."""

from collections.abc import Callable, Mapping
import json
import pathlib
import sys

import jax
import numpy as np
from PIL import Image

from swin_jax.terminal import files


class Writer:
  """Writes `metrics.jsonl`, TensorBoard events and pictures to the workdir of a run; only process 0 writes.

  Args:
    workdir: the run's folder.
    step: step that the run continues from; lines of later steps, written before an interruption, are dropped.
    evaluated: whether the evaluation of this step is complete; if not, its lines are dropped too.
  """

  def __init__(self, workdir: str, step: int, evaluated: bool):
    self._workdir = pathlib.Path(workdir)
    self.nonfinite_path = self._workdir / "nonfinite.jsonl"
    self._active = jax.process_index() == 0
    if not self._active:
      return
    path = self._workdir / "metrics.jsonl"
    for file in (path, self.nonfinite_path):
      if file.exists():
        kept = [line for line in file.read_text().splitlines() if _is_before(line, step, evaluated)]
        files.write(file, "".join(line + "\n" for line in kept))
    self._lines = path.open("a")
    self._board = _summary_writer()(str(self._workdir / "tensorboard"), purge_step=step + 1)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    if not self._active:
      return
    self._lines.write(json.dumps({"step": step} | dict(values)) + "\n")
    self._lines.flush()
    for name, value in values.items():
      self._board.add_scalar(name, value, step)

  def nonfinite(self, step: int, records: list[int]) -> None:
    """Records the indices of the examples of a skipped step in `nonfinite.jsonl`."""
    if self._active:
      with self.nonfinite_path.open("a") as file:
        file.write(json.dumps({"step": step, "records": records}) + "\n")

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
      Path of the PNG file; None on processes other than 0.
    """
    if not self._active:
      return None
    grid = legend(picture_grid(images))
    folder = self._workdir / "pictures"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{step:07d}.png"
    Image.fromarray(grid).save(path)
    self._board.add_image(name, grid, step, dataformats="HWC")
    return path

  def close(self) -> None:
    if self._active:
      self._lines.close()
      self._board.close()


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


def _summary_writer() -> type:
  """Imports the writer of TensorBoard events without torch, which it would load for seconds if installed."""
  without_torch = {} if "torch" in sys.modules else {"torch": None}
  sys.modules.update(without_torch)
  try:
    from tensorboardX import SummaryWriter
  finally:
    for name in without_torch:
      del sys.modules[name]
  return SummaryWriter


def _is_before(line: str, step: int, evaluated: bool) -> bool:
  try:
    entry = json.loads(line)
    return entry["step"] < step or (
      entry["step"] == step and (evaluated or not any(name.startswith("eval/") for name in entry))
    )
  except (ValueError, KeyError, TypeError):
    return False  # cut short by an interruption
