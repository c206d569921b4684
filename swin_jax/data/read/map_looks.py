"""What some maps of a set have in common, from which `map_sets` understands all of them."""

from collections import Counter

import numpy as np

from swin_jax.data.read import labels
from swin_jax.data.read.stored import Stored

_FEW = 300  # different values that are kept
_NEAR = 64  # from black or white, in a lossy map of both
_BLURRED = 0.05  # largest share of pixels of such a map that are grey


class Looks:
  """What the maps that were looked at have in common.

  Attributes:
    count: of the maps.
    kinds: number of maps by what is remarkable about them.
    values: numbers of maps of one band, of at most about `_FEW` kinds.
    unknown: numbers of pixels that their files declare as no data.
    colours: colours of maps that are no plain numbers: of three bands, or a palette.
    palette: colour of each index, in the first map that has it.
    of_maps: values of each map of one band.
    lossy: formats of maps that change numbers.
    between: whether such a map holds more than black and white.
  """

  def __init__(self):
    self.count, self.kinds, self.between = 0, Counter(), False
    self.values: set[float] = set()
    self.unknown: set[float] = set()
    self.colours: set[labels.Colour] = set()
    self.palette: dict[int, labels.Colour] = {}
    self.of_maps: list[set[float]] = []
    self.lossy: set[str] = set()

  def add(self, stored: Stored) -> None:
    """Adds a map."""
    self.count += 1
    self.kinds["lossy"] += bool(stored.lossy)
    self.lossy |= {stored.lossy} - {""}
    self.kinds["alpha ignored"] += stored.ignores_alpha
    if stored.unknown is not None and stored.unknown.any():
      self.kinds["unknown"] += 1
      self.unknown |= set(np.unique(stored.numbers[stored.unknown])[:_FEW].tolist())
    if stored.palette is not None:
      indices = np.unique(stored.numbers).tolist()
      pairs = {i: tuple(map(int, stored.palette[i])) for i in indices if i < len(stored.palette)}
      self.colours |= set(pairs.values())
      self.kinds["palette"] += 1
      self.kinds["other palette"] += any(self.palette.setdefault(i, pairs[i]) != pairs[i] for i in pairs)
    if not stored.is_grey:
      self.kinds["colours"] += 1
      flat = stored.numbers.reshape(-1, stored.numbers.shape[-1])[:, :3]
      self.colours |= set(map(tuple, np.unique(flat, axis=0)[:_FEW].tolist()))
      return
    self.kinds["three equal channels"] += stored.numbers.shape[-1] == 3
    values = stored.numbers[..., 0]
    values = np.unique(values if stored.unknown is None else values[~stored.unknown])
    if stored.lossy:
      grey = (stored.numbers >= _NEAR) & (stored.numbers <= 255 - _NEAR)
      self.between |= bool(grey.mean() > _BLURRED)
    elif values.dtype != bool:
      held = set(values[:_FEW].tolist())
      self.of_maps.append(held)
      self.values |= held if len(self.values) < _FEW else set()
