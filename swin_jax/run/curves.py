"""Draws the metrics of a run when it ends, as `python -m swin_jax.show curves` does at any time."""

import io
import os
import pathlib

import jax
from PIL import Image

from swin_jax.drawing import curves
from swin_jax.saved import metrics_file
from swin_jax.saved import workdir as saved_workdir
from swin_jax.terminal import files
from swin_jax.terminal.progress import say, warn


def draw(workdir: str) -> None:
  """Writes the picture to the workdir, or says in one line why it cannot: the run is complete without it."""
  if jax.process_index() > 0:
    return
  path = pathlib.Path(workdir) / saved_workdir.CURVES
  try:
    picture = curves.draw({os.path.basename(os.path.abspath(workdir)): metrics_file.read(workdir)})
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "PNG")
    with files.replacing(path) as partial:
      partial.write_bytes(encoded.getvalue())
  except Exception as error:  # whatever a changed metrics file or a full disk leads to
    reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
    warn(f"{path} cannot be drawn ({reason}); the run is complete without it")
    return
  say(f"drew {path}")
