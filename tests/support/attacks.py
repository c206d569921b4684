"""Files of people who mean harm, and a host that notices requests."""

import contextlib
import pathlib
import select
import socket
import zipfile

from tests.support import prepared
from tests.support.rasters import scene, write_tif

SECRET = (b"the secret of this machine; " * 40)[:1024]


class Host:
  """A host on this machine that answers no request, and counts the connections."""

  def __init__(self):
    self._socket = socket.create_server(("127.0.0.1", 0))
    self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

  def count(self) -> int:
    """Returns the number of connections since the last call."""
    number = 0
    while select.select([self._socket], [], [], 0)[0]:
      self._socket.accept()[0].close()
      number += 1
    return number

  def close(self) -> None:
    self._socket.close()


def vrt(source: str) -> bytes:
  """Returns a virtual raster of 32 × 32 pixels whose pixels are the bytes of another file."""
  return (
    '<VRTDataset rasterXSize="32" rasterYSize="32"><VRTRasterBand dataType="Byte" band="1"'
    f' subClass="VRTRawRasterBand"><SourceFilename relativeToVRT="0">{source}</SourceFilename>'
    "<ImageOffset>0</ImageOffset><PixelOffset>1</PixelOffset><LineOffset>32</LineOffset>"
    "</VRTRasterBand></VRTDataset>"
  ).encode()


def wms(url: str) -> bytes:
  """Returns the description of a service whose pixels GDAL requests from a host."""
  return (
    f'<GDAL_WMS><Service name="TMS"><ServerUrl>{url}/${{z}}/${{x}}/${{y}}.png</ServerUrl></Service>'
    "<DataWindow><UpperLeftX>-1</UpperLeftX><UpperLeftY>1</UpperLeftY><LowerRightX>1</LowerRightX>"
    "<LowerRightY>-1</LowerRightY><TileLevel>0</TileLevel></DataWindow><Projection>EPSG:4326</Projection>"
    "<BlockSizeX>32</BlockSizeX><BlockSizeY>32</BlockSizeY><BandsCount>1</BandsCount></GDAL_WMS>"
  ).encode()


def good_raster(path: pathlib.Path, seed: int = 0) -> pathlib.Path:
  """Writes a GeoTIFF of 32 × 32 pixels of one band."""
  return write_tif(path, scene(seed, 32, 32, 1, "uint8"))


def zipped(folder: pathlib.Path) -> pathlib.Path:
  """Returns a zip of a folder, next to it."""
  path = folder.with_suffix(".zip")
  with zipfile.ZipFile(path, "w") as file:
    for each in sorted(folder.rglob("*")):
      if each.is_file():
        file.write(each, each.relative_to(folder))
  return path


def records(out: pathlib.Path) -> list[bytes]:
  """Returns the pixels of every record of a prepared set, in the order of their names."""
  source = prepared.read(out)
  examples = sorted((source[i] for i in range(len(source))), key=lambda example: example.name)
  return [prepared.pixels(example) for example in examples]


@contextlib.contextmanager
def host():
  """Yields a `Host`."""
  listening = Host()
  try:
    yield listening
  finally:
    listening.close()
