"""What a run leaves for others to read: metrics as JSON lines, TensorBoard events and pictures."""

from collections.abc import Callable, Mapping
import json
import pathlib

import jax
import numpy as np
from PIL import Image

from swin_jax.terminal import files


class Writer:
  """Writes `metrics.jsonl`, TensorBoard events and pictures of a run into its workdir; does nothing but on
  process 0.

  Args:
    workdir: the run's folder.
    step: the step the run continues from; lines of later steps, written before an interruption, are dropped.
    evaluated: whether this step's evaluation is done; if not, it will be written again.
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
    import tensorboardX  # slow, where there is a torch for it to import

    self._lines = path.open("a")
    self._board = tensorboardX.SummaryWriter(str(self._workdir / "tensorboard"), purge_step=step + 1)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    if not self._active:
      return
    self._lines.write(json.dumps({"step": step} | dict(values)) + "\n")
    self._lines.flush()
    for name, value in values.items():
      self._board.add_scalar(name, value, step)

  def nonfinite(self, step: int, records: list[int]) -> None:
    """Writes down which records a step held that was left out."""
    if self._active:
      with self.nonfinite_path.open("a") as file:
        file.write(json.dumps({"step": step, "records": records}) + "\n")

  def pictures(
    self, step: int, name: str, images: np.ndarray, legend: Callable[[np.ndarray], np.ndarray]
  ) -> pathlib.Path | None:
    """Writes uint8 [rows, columns, height, width, bands] as one grid, PNG and TensorBoard; one band is grey,
    else the first three.

    `legend` puts what its colours mean under the grid.
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
  """uint8 [rows, columns, height, width, bands] → uint8 [y, x, 3]; small images are enlarged so that a person
  sees them.
  """
  images = images[..., :3] if images.shape[-1] >= 3 else np.repeat(images[..., :1], 3, axis=-1)
  zoom = max(1, 96 // images.shape[2])
  images = images.repeat(zoom, axis=2).repeat(zoom, axis=3)
  images = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2), (0, 0)), constant_values=255)
  rows, columns, height, width, _ = images.shape
  return images.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width, 3)


def _is_before(line: str, step: int, evaluated: bool) -> bool:
  try:
    entry = json.loads(line)
    return entry["step"] < step or (
      entry["step"] == step and (evaluated or not any(name.startswith("eval/") for name in entry))
    )
  except (ValueError, KeyError, TypeError):
    return False  # cut short by an interruption
