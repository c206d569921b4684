"""Reads raster files of any number of bands and type as arrays: GeoTIFF and JPEG 2000 (by GDAL, through
rasterio), .npy and .npz. Also writes maps as GeoTIFF.

The file alone defines what its numbers mean: the scale and offset that a raster declares for a band are
applied, and pixels that the raster, its mask or the caller declares as no data become NaN. Such rasters are
float32 from here on; others keep their type, so that uint8 imagery stays uint8.
"""

import io
from typing import NamedTuple
import zipfile

import numpy as np

from swin_jax.data.read import array_files, gdal, limits

_GDAL = (".tif", ".tiff", ".jp2")
_ARRAYS = (".npy", ".npz")
EXTENSIONS = _GDAL + _ARRAYS
# all other types become float32, the type that a model sees
_KEPT = ("uint8", "uint16", "int16", "float16", "float32")


class Window(NamedTuple):
  """A box of pixels."""

  top: int
  left: int
  height: int
  width: int


def one_to_a_file(name: str) -> bool:
  """Returns whether a file of this name holds exactly one raster, so that counting need not open it."""
  return name.lower().endswith(_GDAL)


def opens_whole(name: str) -> bool:
  """Returns whether reading a window of the file costs as much as reading all of it."""
  return name.lower().endswith(".npz")


def shape(file: str | bytes | np.ndarray, name: str, array: str = "") -> tuple[int, int, int, int]:
  """Returns (rasters, height, width, bands) of a file; reads only its header if possible.

  Args:
    file: path of the file, its content, or the array that `load` returned.
    name: file name; its suffix gives the format.
    array: name of the array in an .npz; "" if it holds only one of three or four dimensions.

  Raises:
    ValueError: the file cannot be read, or is not a raster.
  """
  if isinstance(file, np.ndarray) or name.lower().endswith(_ARRAYS):
    size = load(file, name, array, header=True)
    return size if len(size) == 4 else (1, *size)
  with gdal.opened(file) as raster:
    return 1, raster.height, raster.width, raster.count


def read(
  file: str | bytes | np.ndarray,
  name: str,
  *,
  index: int = 0,
  window: Window | None = None,
  nodata: float | None = None,
  array: str = "",
) -> np.ndarray:
  """Reads a window of a raster, [height, width, bands].

  Args:
    file, name, array: as in `shape`.
    index: number of the raster in an array [rasters, height, width, bands].
    window: box of pixels to read; None for all.
    nodata: value of pixels without data, in addition to the value that the raster declares.

  Returns:
    float32 with NaN for no data if no-data pixels or scales are declared; else the stored type (wider types
    become float32).

  Raises:
    ValueError: the file cannot be read, or does not hold numbers.
  """
  if isinstance(file, np.ndarray) or name.lower().endswith(_ARRAYS):
    pixels = load(file, name, array)
    pixels = pixels[index] if pixels.ndim == 4 else pixels
    pixels = pixels[_slices(window)] if window else pixels
    limits.check_numbers(pixels.size)
    return _finish(np.array(pixels), None, nodata)
  with gdal.opened(file) as raster:
    return _read_gdal(raster, window, nodata)


def load(
  file: str | bytes | np.ndarray, name: str, array: str = "", header: bool = False
) -> np.ndarray | tuple[int, ...]:
  """Loads the array in an .npy or .npz: [height, width(, bands)] becomes [height, width, bands]; four
  dimensions stay.

  An .npy on disk is memory-mapped, so that reading a window reads no more than the window.

  Args:
    file, name, array: as in `shape`.
    header: return only the shape, without reading the numbers of an .npz.

  Raises:
    ValueError: the file cannot be read, or there is no matching array.
  """
  try:
    if isinstance(file, bytes):
      file = array_files.load(io.BytesIO(file))
    elif isinstance(file, str):
      file = array_files.load(file, mmap_mode=None if opens_whole(name) else "r")
    loaded, size = file, getattr(file, "shape", None)
    if size is None:
      with file as arrays:
        chosen, size = _choose(arrays, array)
        loaded = None if header else array_files.member(arrays, chosen)
  except _Unclear:
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


class _Unclear(ValueError):
  """It is ambiguous which array of an .npz to read, or the named one does not exist."""


def _choose(arrays, requested: str) -> tuple[str, tuple[int, ...]]:
  """Returns the name and shape of the array to read from an .npz; reads only headers."""
  shapes = {name: array_files.shape_of_member(arrays, name) for name in arrays.files}
  fitting = (
    [requested]
    if requested in shapes
    else [name for name, size in shapes.items() if not requested and len(size) in (3, 4)]
  )
  if len(fitting) == 1:
    return fitting[0], shapes[fitting[0]]
  held = ", ".join(f"{name} {list(size)}" for name, size in shapes.items()) or "nothing"
  raise _Unclear(
    f"holds {held}; " + (f"there is no array '{requested}'" if requested else "choose one with --array=NAME")
  )


def _slices(window: Window) -> tuple[slice, slice]:
  return slice(window.top, window.top + window.height), slice(window.left, window.left + window.width)


def _read_gdal(raster, window: Window | None, nodata: float | None) -> np.ndarray:
  from rasterio.enums import MaskFlags
  from rasterio.windows import Window as Box

  gdal.check_read(raster, *(window[2:] if window else (raster.height, raster.width)))
  box = window and Box(window.left, window.top, window.width, window.height)
  masked = any(MaskFlags.all_valid not in flags for flags in raster.mask_flag_enums)
  pixels = raster.read(window=box, masked=masked)
  declared = np.moveaxis(np.ma.getmaskarray(pixels), 0, -1) if masked else None
  pixels = np.moveaxis(np.ma.getdata(pixels), 0, -1)
  scales = np.asarray(raster.scales), np.asarray(raster.offsets)
  if not np.isfinite(scales).all() or not scales[0].all():
    raise ValueError("declares a scale of 0, or a scale or offset that is not finite")
  return _finish(pixels, declared, nodata, None if (scales[0] == 1).all() and not scales[1].any() else scales)


def _finish(pixels: np.ndarray, declared: np.ndarray | None, nodata: float | None, scales=None) -> np.ndarray:
  """Converts stored numbers to the values that they mean; see `read`."""
  if pixels.dtype.kind not in "uif":
    raise ValueError(f"holds {pixels.dtype}, not real numbers")
  if nodata is not None:
    missing = pixels == nodata
    declared = missing if declared is None else declared | missing
  with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is no data
    if scales is not None:
      # computed in float64 first: 16-bit values with an offset would lose precision in float32
      pixels = pixels * scales[0] + scales[1]
    if pixels.dtype.name not in _KEPT:
      pixels = pixels.astype(np.float32)
  if pixels.dtype.kind == "f" and (infinite := np.isinf(pixels)).any():
    declared = infinite if declared is None else declared | infinite
  if declared is not None:
    pixels = pixels.astype(np.float32, copy=False)
    pixels[declared] = np.nan
  return np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("="))


class Place(NamedTuple):
  """Georeference of a raster, as in rasterio: its coordinate reference system, and the affine map from pixels
  to that system.
  """

  crs: object
  transform: object


def place(file: str) -> Place | None:
  """Reads the georeference of a raster; None if it has none.

  Raises:
    ValueError: the file cannot be read.
  """
  with gdal.opened(file) as raster:
    return (
      None if raster.crs is None and raster.transform.is_identity else Place(raster.crs, raster.transform)
    )


def check_place(one: Place | None, other: Place | None) -> None:
  """Raises ValueError if both rasters are georeferenced but differ in place or coordinate system."""
  if (
    one
    and other
    and (one.crs != other.crs or not one.transform.almost_equals(other.transform, precision=1e-6))
  ):
    raise ValueError("has another location on Earth than its image, or another coordinate system")


def write(
  path: str, pixels: np.ndarray, where: Place | None, nodata: float, colours: np.ndarray | None = None
) -> None:
  """Writes a GeoTIFF of one band.

  Args:
    path: path of the file.
    pixels: [height, width].
    where: georeference, if known.
    nodata: value of pixels without data.
    colours: uint8 [values, 3], colours in which other programs show the values 0, 1, ….

  Raises:
    OSError: the file cannot be written, for example because the disk is full.
  """
  placed = where._asdict() if where else {}
  size = dict(height=pixels.shape[0], width=pixels.shape[1], count=1)
  with gdal.creating(
    path, dtype=pixels.dtype.name, nodata=nodata, compress="deflate", **size, **placed
  ) as raster:
    raster.write(pixels, 1)
    if colours is not None:
      raster.write_colormap(1, {i: (*map(int, colour), 255) for i, colour in enumerate(colours)})
