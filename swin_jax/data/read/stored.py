"""Pixels as a file stores them, and what the file declares about them."""

from typing import NamedTuple

import numpy as np


class Stored(NamedTuple):
  """The pixels of an image, a raster or a map.

  Attributes:
    numbers: [height, width, bands], of any type.
    missing: bool [height, width, bands or 1], pixels that the file declares as no data; None if it declares
      none.
    scales: (scale, offset) of every band; None if numbers mean themselves.
    palette: uint8 [entries, 3], colours of the numbers; None if the file has no palette.
    lossy: name of the file's format if it changes numbers, "" if it does not.
    ignores_alpha: whether colours of a map are declared transparent, which leaves them the classes that they
      are.
  """

  numbers: np.ndarray
  missing: np.ndarray | None = None
  scales: tuple[np.ndarray, np.ndarray] | None = None
  palette: np.ndarray | None = None
  lossy: str = ""
  ignores_alpha: bool = False

  def part(self, slices: tuple[slice, slice]) -> "Stored":
    """Returns a box of pixels."""
    return self._replace(
      numbers=self.numbers[slices], missing=None if self.missing is None else self.missing[slices]
    )

  @property
  def unknown(self) -> np.ndarray | None:
    """Pixels that hold no data in any band, bool [height, width]; None as in `missing`."""
    return None if self.missing is None else self.missing.all(axis=-1)

  @property
  def is_grey(self) -> bool:
    """Whether there is one band, or three that are equal, as in grey images saved as colours."""
    bands = np.moveaxis(self.numbers, -1, 0)
    return len(bands) == 1 or len(bands) == 3 and all(np.array_equal(bands[0], band) for band in bands[1:])

  @property
  def colours(self) -> np.ndarray:
    """The colours that a viewer shows, [height, width, 3], of one band (grey or palette) or three."""
    if self.palette is not None:
      return self.palette[np.minimum(self.numbers[..., 0], len(self.palette) - 1)]
    numbers = self.numbers.astype(np.uint8) * np.uint8(255) if self.numbers.dtype == bool else self.numbers
    return numbers.repeat(3, axis=-1) if numbers.shape[-1] == 1 else numbers
