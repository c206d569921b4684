"""Maps, windows and shifts of every stage, from a config and an image size."""

import math
from typing import NamedTuple

import numpy as np

from swin_jax.models import windows
from swin_jax.models.backbone import Level
from swin_jax.models.swin.config import Size, SwinConfig
from swin_jax.terminal.errors import BadInput


class StageGeometry(NamedTuple):
  """The map of one stage and its windows; sizes are in tokens, one entry per axis.

  Attributes:
    map: size of the map.
    padded: size of the padded map: the smallest that the window divides.
    window: window that the stage actually uses.
    shift: shift of the windows of odd blocks; even blocks are not shifted.
    tokens: number of tokens of the map without padding.
  """

  map: Size
  padded: Size
  window: Size
  shift: Size
  tokens: int


_MOST_TOKENS = 100 * 100  # of a window: the table of its pairs of tokens takes 400 MB


def geometry(config: SwinConfig, size: Size) -> tuple[StageGeometry, ...]:
  """Returns the geometry of every stage for images of `size` pixels; for errors, see `stage_geometry`."""
  levels = (Level(config.stride(stage), config.channels(stage)) for stage in range(config.stages))
  return tuple(stage_geometry(config, stage, level.map_size(size)) for stage, level in enumerate(levels))


def stage_geometry(config: SwinConfig, stage: int, map_size: Size) -> StageGeometry:
  """Returns the geometry of one stage for its map of `map_size` tokens.

  Raises:
    BadInput: a window has too many tokens.
  """
  window, shift = windows.window_and_shift(
    map_size, config.window_sizes[stage], True, clamp=config.clamp_windows, axes=config.clamp_axes
  )
  if math.prod(window) > _MOST_TOKENS:
    raise BadInput(
      f"stage {stage} has windows of {' × '.join(map(str, window))} tokens on a map of"
      f" {' × '.join(map(str, map_size))}; at most {_MOST_TOKENS:,} tokens are possible: use smaller windows"
    )
  # Padded before the shift; otherwise opposite edges of the image would meet inside a window.
  return StageGeometry(
    tuple(map_size), windows.padded_size(map_size, window), window, shift, math.prod(map_size)
  )


def regions(config: SwinConfig, stage: StageGeometry, shifted: bool) -> np.ndarray | None:
  """Returns labels of the tokens that may attend to each other, int32 [M, N]; see `windows.regions`.

  Args:
    config: config of the backbone; its `padding` says whether padding is a region of its own.
    stage: geometry of the block's stage.
    shifted: whether the block shifts its windows.

  Returns:
    None if every window is a single region.
  """
  image = stage.map if config.padding == "masked" else stage.padded
  shift = stage.shift if shifted else (0,) * len(stage.shift)
  return windows.regions(image, stage.padded, stage.window, shift)
