"""Pixels as a file stores them, what the file declares about them, and the values that they mean."""

from typing import NamedTuple

import numpy as np

# all other types become float32, the type that a model sees
_KEPT = ("uint8", "uint16", "int16", "float16", "float32")


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


class Converted(NamedTuple):
  """The values that stored numbers mean.

  Attributes:
    pixels: see `rasters.read`.
    undeclared: number of pixels that became no data although nothing declares them so: infinite numbers, and
      those that float32 cannot hold.
  """

  pixels: np.ndarray
  undeclared: int


def convert(stored: Stored, nodata: float | None = None) -> Converted:
  """Converts stored numbers to the values that they mean; `nodata` as in `rasters.read`."""
  pixels, declared = stored.numbers, stored.missing
  if pixels.dtype.kind not in "uif":
    raise ValueError(f"holds {pixels.dtype}, not real numbers")
  if nodata is not None:
    missing = pixels == nodata
    declared = missing if declared is None else declared | missing
  with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is no data
    if stored.scales is not None:
      # computed in float64 first: 16-bit values with an offset would lose precision in float32
      pixels = pixels * stored.scales[0] + stored.scales[1]
    if pixels.dtype.name not in _KEPT:
      pixels = pixels.astype(np.float32)
  undeclared = 0
  if pixels.dtype.kind == "f" and (infinite := np.isinf(pixels)).any():
    undeclared = int((infinite if declared is None else infinite & ~declared).any(axis=-1).sum())
    declared = infinite if declared is None else declared | infinite
  if declared is not None:
    pixels = np.where(declared, np.float32(np.nan), pixels.astype(np.float32, copy=False))
  return Converted(np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("=")), undeclared)
