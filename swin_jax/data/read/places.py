"""Georeference of rasters, and GeoTIFFs of maps with the georeference of their image."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from swin_jax.data.read import gdal

_ANCHOR = "AREA_OR_POINT"


class Place(NamedTuple):
  """Georeference of a raster, as in rasterio.

  Attributes:
    crs: coordinate reference system.
    transform: affine map from pixels to that system.
    anchor: "Area" or "Point": whether a pixel stands for its area or for a point.
  """

  crs: object
  transform: object
  anchor: str = "Area"


def of(file: str) -> Place | None:
  """Reads the georeference of a raster; None if it has none.

  Raises:
    ValueError: the file cannot be read.
  """
  with gdal.opened(file) as raster:
    if raster.crs is None and raster.transform.is_identity:
      return None
    return Place(raster.crs, raster.transform, raster.tags().get(_ANCHOR, "Area"))


def check(one: Place | None, other: Place | None) -> None:
  """Raises ValueError if both rasters are georeferenced but differ in place or coordinate system."""
  if (
    one
    and other
    and (one.crs != other.crs or not one.transform.almost_equals(other.transform, precision=1e-6))
  ):
    raise ValueError("has another location on Earth than its image, or another coordinate system")


def write(
  path: str,
  pixels: np.ndarray,
  where: Place | None,
  nodata: float,
  colours: np.ndarray | None = None,
  class_names: Sequence[str] = (),
) -> None:
  """Writes a GeoTIFF of one band.

  Args:
    path: path of the file.
    pixels: [height, width].
    where: georeference, if known.
    nodata: value of pixels without data.
    colours: uint8 [values, 3], colours in which other programs show the values 0, 1, ….
    class_names: names of the values 0, 1, …, written as metadata of the band.

  Raises:
    OSError: the file cannot be written, for example because the disk is full.
  """
  placed = dict(crs=where.crs, transform=where.transform) if where else {}
  size = dict(height=pixels.shape[0], width=pixels.shape[1], count=1)
  with gdal.creating(
    path, dtype=pixels.dtype.name, nodata=nodata, compress="deflate", **size, **placed
  ) as raster:
    raster.write(pixels, 1)
    if where:
      raster.update_tags(**{_ANCHOR: where.anchor})
    raster.set_band_description(1, "predicted class" if class_names else "predicted value")
    raster.update_tags(1, **{f"class_{i}": name for i, name in enumerate(class_names)})
    if colours is not None:
      raster.write_colormap(1, {i: (*map(int, colour), 255) for i, colour in enumerate(colours)})
