"""Opens rasters with GDAL: only files that hold their own pixels, and nothing but the file itself.

GDAL's other drivers follow references in a file to other files and hosts, and its sidecar files do the same.
"""

from collections.abc import Iterator
import contextlib
import functools
import math
import os
import pathlib
import re
from types import ModuleType
from typing import Any
import warnings

from swin_jax.data.read import limits, plain_files
from swin_jax.terminal import extras

# Content at the beginning of a file → driver that opens it.
_DRIVERS = {
  b"II*\0": "GTiff",
  b"MM\0*": "GTiff",
  b"II+\0": "GTiff",
  b"MM\0+": "GTiff",
  b"\0\0\0\x0cjP  \r\n\x87\n": "JP2OpenJPEG",
  b"\xff\x4f\xff\x51": "JP2OpenJPEG",
  b"\x89PNG\r\n\x1a\n": "PNG",
}
FORMATS = "GeoTIFF, JPEG 2000 and PNG"
_OPTIONS = {
  "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no files next to the raster: masks, overviews, world files
  "GDAL_PAM_ENABLED": "NO",  # no .aux.xml
  # no requests: the only file name and the only suffix that are allowed do not exist
  "CPL_VSIL_CURL_ALLOWED_FILENAME": "none",
  "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": "{none}",
}
# Endings of files next to a raster that are not read, after its whole name.
SIDECARS = (".aux.xml", ".msk", ".ovr")


@contextlib.contextmanager
def opened(file: str | bytes) -> Iterator[Any]:
  """Yields a raster opened for reading, as a dataset of rasterio.

  Args:
    file: path of the file, or its content.

  Raises:
    OSError: the file does not exist or cannot be opened.
    ValueError: it is not one of `FORMATS`, is damaged or too large, or refers to other files; also for errors
      of GDAL inside the block.
    BadInput: rasterio is not installed.
  """
  rasterio = _rasterio()
  from rasterio.errors import RasterioIOError

  driver = _driver_of(file[:512] if isinstance(file, bytes) else plain_files.head(file, 512))
  with contextlib.ExitStack() as stack:
    stack.enter_context(rasterio.Env(**_OPTIONS))
    try:
      if isinstance(file, bytes):
        raster = stack.enter_context(rasterio.MemoryFile(file)).open(driver=driver)
      else:
        path = os.path.abspath(file)
        if path.startswith("/vsi"):
          raise ValueError("cannot be read as a raster: GDAL takes its path for a virtual file; move it")
        raster = rasterio.open(path, driver=driver)
      stack.enter_context(raster)
      if raster.tags(ns="OVERVIEWS"):
        raise ValueError("cannot be read as a raster: it refers to overviews in another file")
      limits.check_pixels(raster.height, raster.width)
      limits.check_bands(raster.count)
      yield raster
    except RasterioIOError as error:
      # GDAL's name of a file in memory means nothing to the user
      reason = re.sub(r"'?/vsimem/\S+?'? ", "it is ", str(error))
      raise ValueError(f"cannot be read as a raster: {' '.join(reason.split())}") from error


def check_read(raster: Any, height: int, width: int) -> None:
  """Checks that reading a window of this size takes no more memory than allowed.

  Raises:
    ValueError: the window, or a block of the file, which is always decoded whole, is too large.
  """
  block = max(map(math.prod, raster.block_shapes))
  together = raster.count if raster.interleaving and raster.interleaving.value == "PIXEL" else 1
  limits.check_numbers(max(height * width * raster.count, block * together))


@contextlib.contextmanager
def creating(path: str, **profile: Any) -> Iterator[Any]:
  """Yields a new GeoTIFF to write, as a dataset of rasterio; the file is written at the end of the block.

  GDAL fills it in memory, because it prints failures of the storage itself and reports them without a reason.

  Raises:
    OSError: the file cannot be written.
    BadInput: rasterio is not installed.
  """
  with _rasterio().MemoryFile() as memory:
    with memory.open(driver="GTiff", **profile) as raster:
      yield raster
    pathlib.Path(path).write_bytes(memory.getbuffer())


def _driver_of(head: bytes) -> str:
  for start, driver in _DRIVERS.items():
    if head.startswith(start):
      return driver
  if not head:
    raise ValueError(f"cannot be read as a raster: {limits.EMPTY}")
  if tag := re.match(rb"[\s\xef\xbb\xbf]*<(?:\?xml[^>]*>\s*<)?(\w+)", head):
    raise ValueError(
      f"cannot be read as a raster: it holds XML ({tag[1].decode()}), which names pixels in other files or on"
      f" other hosts; the formats read here are {FORMATS}"
    )
  raise ValueError(f"cannot be read as a raster: it is none of {FORMATS}")


@functools.cache
def _rasterio() -> ModuleType:
  """Imports rasterio, which is slow to import and only needed for rasters.

  Silences its warning about rasters without georeferencing, which are just as usable; once, because warning
  filters apply to all threads.
  """
  try:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning
  except ImportError as error:
    raise extras.missing("rasters", "rasters as GeoTIFF or JPEG 2000 need rasterio", error) from error
  warnings.filterwarnings("ignore", category=NotGeoreferencedWarning)
  return rasterio
