"""Sends the metrics and pictures of a run to Weights & Biases (`log.wandb`), where it is installed.

A run does not need it to go on: whatever it raises is one line.
"""

from collections.abc import Callable, Mapping
import importlib.util
import os
import pathlib
import secrets
from typing import Any

import jax
from ml_collections import ConfigDict
import numpy as np

from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import say, warn

_ID = "wandb_id.txt"  # in the workdir: the id under which the run continues


def check(config: ConfigDict) -> None:
  """Checks that wandb is installed, if the run shall use it.

  Raises:
    BadInput: it is not.
  """
  if not config.log.wandb:
    return
  spec = importlib.util.find_spec("wandb")
  if spec is None or spec.origin is None:  # a folder of that name, as wandb itself makes, is no package
    raise BadInput(
      f"config.log.wandb = '{config.log.wandb}' needs wandb, which is not installed: pip install wandb, or"
      " leave config.log.wandb empty"
    )


class WeightsAndBiases:
  """A run there, which continues when the run continues.

  Args:
    workdir: the run's folder.
    config: of the run, which names the project.
  """

  def __init__(self, workdir: str, config: ConfigDict):
    self._run = self._image = None

    def start():
      import wandb  # late, as it is optional and takes seconds

      self._image = wandb.Image
      self._run = wandb.init(
        project=config.log.wandb,
        name=os.path.basename(os.path.abspath(workdir)),
        id=_id(pathlib.Path(workdir) / _ID),
        resume="allow",
        dir=workdir,
        config=config.to_dict(),
      )
      say(f"wandb: {getattr(self._run, 'url', None) or config.log.wandb}")

    self._report(start)

  def scalars(self, step: int, values: Mapping[str, float]) -> None:
    self._try(lambda: self._run.log(dict(values), step=step))

  def picture(self, step: int, name: str, grid: np.ndarray, png: bytes) -> None:
    del png
    self._try(lambda: self._run.log({name: self._image(grid)}, step=step))

  def close(self) -> None:
    self._try(lambda: self._run.finish())

  def _try(self, function: Callable[[], Any]) -> None:
    """Calls a function; after its first error, nothing more is sent."""
    if self._run is not None:
      self._report(function)

  def _report(self, function: Callable[[], Any]) -> None:
    """Calls a function, and reports its error in one line."""
    try:
      function()
    except Exception as error:  # network, account or installation: it may raise anything
      reason = " ".join(str(error).split()) or type(error).__name__
      warn(f"wandb: {reason}; the run goes on without it")
      self._run = None


def sinks(workdir: str, config: ConfigDict) -> tuple[WeightsAndBiases, ...]:
  """Returns what a `Writer` also writes to: nothing, or in process 0 the run there if the config names a
  project.
  """
  return (WeightsAndBiases(workdir, config),) if config.log.wandb and jax.process_index() == 0 else ()


def _id(path: pathlib.Path) -> str:
  """Returns the id of the run in a workdir; makes and stores one if there is none."""
  if path.is_file():
    return path.read_text().strip()
  name = secrets.token_hex(8)
  files.write(path, name + "\n")
  return name
