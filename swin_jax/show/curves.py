"""Draws the metrics of one or several runs: loss, learning rate, and the metrics of the evaluations."""

from collections.abc import Sequence
import os

from PIL import Image

from swin_jax.drawing import curves
from swin_jax.saved import metrics_file
from swin_jax.terminal.errors import BadInput


def picture(workdirs: Sequence[str]) -> Image.Image:
  """Returns the charts of the runs in these workdirs, in one picture.

  Raises:
    BadInput: a folder holds no metrics of a run, or a run is given twice.
  """
  names = _names(workdirs)
  runs = {name: metrics_file.read(path) for name, path in zip(names, workdirs, strict=True)}
  try:
    return Image.fromarray(curves.draw(runs))
  except ValueError as error:
    raise BadInput(f"{' and '.join(workdirs)}: {error}") from error


def _names(workdirs: Sequence[str]) -> list[str]:
  """Returns the shortest ends of the paths that tell the runs apart."""
  parts = [os.path.abspath(path).split(os.sep) for path in workdirs]
  for count in range(1, max(map(len, parts)) + 1):
    names = ["/".join(path[-count:]) for path in parts]
    if len(set(names)) == len(names):
      return names
  raise BadInput("a run is given twice; give each once")
