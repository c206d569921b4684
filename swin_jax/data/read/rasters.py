"""Reads raster files of any number of bands and type as arrays: GeoTIFF and JPEG 2000 (by GDAL, through
rasterio), .npy and .npz, and image files of the other formats, see `image_arrays`.

The file alone defines what its numbers mean: the scale and offset that a raster declares for a band are
applied, and pixels that the raster, its mask, its alpha channel or the caller declares as no data become NaN.
Such rasters are float32 from here on; others keep their type, so that uint8 imagery stays uint8.
"""

import io
from typing import NamedTuple
import zipfile

import numpy as np

from swin_jax.data.read import array_choice, array_files, gdal, image_arrays, limits
from swin_jax.data.read.stored import Stored, convert
from swin_jax.terminal.printable import clean

_GDAL = (".tif", ".tiff", ".jp2")
_ARRAYS = (".npy", ".npz")
EXTENSIONS = _GDAL + _ARRAYS
_SAMPLED = 512  # largest side of a sample of an alpha channel, in pixels


class Window(NamedTuple):
  """A box of pixels."""

  top: int
  left: int
  height: int
  width: int

  @property
  def slices(self) -> tuple[slice, slice]:
    """Of an array [height, width, ...]."""
    return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


def one_to_a_file(name: str) -> bool:
  """Returns whether a file of this name holds exactly one raster, so that counting need not open it."""
  return name.lower().endswith(_GDAL)


def opens_whole(name: str) -> bool:
  """Returns whether reading a window of the file costs as much as reading all of it."""
  return name.lower().endswith(".npz") or is_image(name)


def is_image(name: str) -> bool:
  """Returns whether a file of this name is read by `image_arrays`."""
  return not name.lower().endswith(EXTENSIONS)


def shape(
  file: str | bytes | np.ndarray | Stored, name: str, array: str = "", keep_alpha: bool = False
) -> tuple[int, int, int, int]:
  """Returns (rasters, height, width, bands) of a file; reads only its header if possible.

  Args:
    file: path of the file, its content, or what `load` returned.
    name: file name; its suffix gives the format.
    array: name of the array in an .npz; "" if it holds only one of three or four dimensions.
    keep_alpha: whether a declared alpha channel counts as a band.

  Raises:
    ValueError: the file cannot be read, or is not a raster.
  """
  if isinstance(file, Stored):
    return 1, *file.numbers.shape
  if isinstance(file, np.ndarray) or name.lower().endswith(_ARRAYS):
    size = load(file, name, array, header=True)
    return size if len(size) == 4 else (1, *size)
  if is_image(name):
    return 1, *image_arrays.shape(file, keep_alpha)
  with gdal.opened(file) as raster:
    return 1, raster.height, raster.width, len(_bands(raster, keep_alpha))


def read(
  file: str | bytes | np.ndarray | Stored,
  name: str,
  *,
  index: int = 0,
  window: Window | None = None,
  nodata: float | None = None,
  array: str = "",
  keep_alpha: bool = False,
) -> np.ndarray:
  """Reads a window of a raster, [height, width, bands].

  Args:
    file, name, array, keep_alpha: as in `shape`.
    index: number of the raster in an array [rasters, height, width, bands].
    window: box of pixels to read; None for all.
    nodata: value of pixels without data, in addition to the value that the raster declares.

  Returns:
    float32 with NaN for no data if no-data pixels or scales are declared; else the stored type (wider types
    become float32).

  Raises:
    ValueError: the file cannot be read, or does not hold numbers.
  """
  as_stored = stored(file, name, index=index, window=window, array=array, keep_alpha=keep_alpha)
  return convert(as_stored, nodata).pixels


def stored(
  file: str | bytes | np.ndarray | Stored,
  name: str,
  *,
  index: int = 0,
  window: Window | None = None,
  array: str = "",
  keep_alpha: bool = False,
) -> Stored:
  """Reads a window of a raster without converting its numbers; arguments and errors as in `read`."""
  if is_image(name) and not isinstance(file, Stored | np.ndarray):
    file = load(file, name, keep_alpha=keep_alpha)
  if isinstance(file, Stored):
    return file.part(window.slices) if window else file
  if isinstance(file, np.ndarray) or name.lower().endswith(_ARRAYS):
    pixels = load(file, name, array)
    pixels = pixels[index] if pixels.ndim == 4 else pixels
    pixels = pixels[window.slices] if window else pixels
    limits.check_numbers(pixels.size)
    return Stored(np.array(pixels))
  with gdal.opened(file) as raster:
    return _read_gdal(raster, window, keep_alpha)


class About(NamedTuple):
  """What the header of a raster says about its bands.

  Attributes:
    names: of the bands that hold data; empty if one has none.
    alpha: a sample of its alpha channel; None if it declares none.
  """

  names: tuple[str, ...] = ()
  alpha: np.ndarray | None = None


def about(file: str | bytes, name: str, keep_alpha: bool = False) -> About:
  """Reads what a raster says about its bands; arguments and errors as in `shape`."""
  if is_image(name) or name.lower().endswith(_ARRAYS):
    return About()
  with gdal.opened(file) as raster:
    names = [raster.descriptions[band - 1] for band in _bands(raster, keep_alpha)]
    others = set(raster.indexes) - set(_bands(raster, False))
    sides = tuple(min(side, _SAMPLED) for side in (raster.height, raster.width))
    alpha = raster.read(others.pop(), out_shape=sides) if len(others) == 1 else None
  return About(tuple(map(clean, names)) if all(names) else (), alpha)


def with_bands(image: np.ndarray, name: str, bands: int) -> np.ndarray:
  """Returns an image [height, width, bands], read from a file of this name, with three bands if it is a grey
  image file and three are needed.
  """
  return np.repeat(image, 3, axis=-1) if is_image(name) and image.shape[-1] == 1 and bands == 3 else image


def load(
  file: str | bytes | np.ndarray, name: str, array: str = "", header: bool = False, keep_alpha: bool = False
) -> np.ndarray | Stored | tuple[int, ...]:
  """Loads the array in an .npy or .npz: [height, width(, bands)] becomes [height, width, bands]; four
  dimensions stay. Also loads an image file.

  An .npy on disk is memory-mapped, so that reading a window reads no more than the window.

  Args:
    file, name, array, keep_alpha: as in `shape`.
    header: return only the shape of an array, without reading the numbers of an .npz.

  Raises:
    ValueError: the file cannot be read, or there is no matching array.
  """
  if is_image(name):
    return image_arrays.read(file, keep_alpha=keep_alpha)
  try:
    if isinstance(file, bytes):
      file = array_files.load(io.BytesIO(file))
    elif isinstance(file, str):
      file = array_files.load(file, mmap_mode=None if opens_whole(name) else "r")
    loaded, size = file, getattr(file, "shape", None)
    if size is None:
      with file as arrays:
        chosen, size = array_choice.choose(arrays, array)
        loaded = None if header else array_files.member(arrays, chosen)
  except array_choice.Unclear:
    raise
  except (EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(f"cannot be read as an array: {' '.join(str(error).split())}") from error
  size = (*size, 1) if len(size) == 2 else tuple(size)
  if len(size) not in (3, 4) or not all(size):
    raise ValueError(
      f"is an array {list(size)}, not [height, width, bands] or [rasters, height, width, bands]"
    )
  limits.check_pixels(*size[-3:-1])
  limits.check_bands(size[-1])
  return size if header else loaded.reshape(size)


def _bands(raster, keep_alpha: bool) -> list[int]:
  """Returns the numbers of the bands that hold data, from 1: all but a declared alpha channel."""
  from rasterio.enums import ColorInterp

  kept = [i for i, kind in enumerate(raster.colorinterp, 1) if keep_alpha or kind is not ColorInterp.alpha]
  return kept or list(raster.indexes)


def _read_gdal(raster, window: Window | None, keep_alpha: bool) -> Stored:
  from rasterio.enums import MaskFlags
  from rasterio.windows import Window as Box

  gdal.check_read(raster, *(window[2:] if window else (raster.height, raster.width)))
  box = window and Box(window.left, window.top, window.width, window.height)
  bands = _bands(raster, keep_alpha)
  flags = [raster.mask_flag_enums[band - 1] for band in bands]
  if keep_alpha:  # GDAL derives masks from the alpha channel
    flags = [kinds if MaskFlags.alpha not in kinds else [MaskFlags.all_valid] for kinds in flags]
  masked = any(MaskFlags.all_valid not in kinds for kinds in flags)
  pixels = raster.read(bands, window=box, masked=masked)
  missing = np.moveaxis(np.ma.getmaskarray(pixels), 0, -1) if masked else None
  pixels = np.moveaxis(np.ma.getdata(pixels), 0, -1)
  if len(bands) < raster.count and not any(MaskFlags.alpha in kinds for kinds in flags):
    # a declared value takes the place of the alpha channel in GDAL's masks
    alphas = raster.read(sorted(set(raster.indexes) - set(bands)), window=box)
    transparent = (alphas == 0).any(axis=0)[..., None]
    missing = transparent if missing is None else missing | transparent
  scales = tuple(np.asarray(numbers)[np.array(bands) - 1] for numbers in (raster.scales, raster.offsets))
  if not np.isfinite(scales).all() or not scales[0].all():
    raise ValueError("declares a scale of 0, or a scale or offset that is not finite")
  plain = (scales[0] == 1).all() and not scales[1].any()
  return Stored(pixels, missing, None if plain else scales, _palette(raster), _lossy(raster))


def _lossy(raster) -> str:
  """Returns what a raster is if its compression changes numbers; "" if it does not."""
  stored = raster.tags(ns="IMAGE_STRUCTURE")
  bounded = float(stored.get("MAX_Z_ERROR", 0)) > 0  # of LERC
  if bounded or stored.get("COMPRESSION_REVERSIBILITY") == "LOSSY" or "JPEG" in stored.get("COMPRESSION", ""):
    return "lossy JPEG 2000" if raster.driver.startswith("JP2") else "lossy TIFF"
  return ""


def _palette(raster) -> np.ndarray | None:
  try:
    colours = raster.colormap(1)
  except ValueError:  # it has none
    return None
  return np.array([colours[i][:3] for i in range(len(colours))], np.uint8)
