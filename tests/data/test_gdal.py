"""Rasters from strangers: only the pixels in the file itself are read, whatever the file refers to."""

import numpy as np
import pytest
import rasterio

from swin_jax.data.read import gdal, limits, places, rasters
from tests.support import attacks, prepared
from tests.support.rasters import scene, write_tif


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
  """A request that is made must not hang the test: GDAL waits for the host, which does not answer."""
  monkeypatch.setenv("GDAL_HTTP_TIMEOUT", "1")
  monkeypatch.setenv("GDAL_HTTP_CONNECTTIMEOUT", "1")


@pytest.fixture(name="host")
def _host():
  with attacks.host() as host:
    yield host


def attack(kind: str, folder, host) -> str:
  """Writes the files of an attack into a folder; returns the name of the raster."""
  secret = folder.parent / "secret.txt"
  secret.write_bytes(attacks.SECRET)
  remote = f"/vsicurl/{host.url}/{kind.replace(' ', '-')}.tif"  # GDAL remembers what it did not get
  content = {
    "vrt": attacks.vrt(str(secret)),
    "vrt with a declaration": b'<?xml version="1.0"?>\n' + attacks.vrt(str(secret)),
    "vrt of a host": attacks.vrt(remote),
    "wms": attacks.wms(host.url),
  }
  if kind in content:
    (folder / "x.tif").write_bytes(content[kind])
    return "x.tif"
  attacks.good_raster(folder / "x.tif", 9)
  if kind == "overviews":
    with rasterio.open(folder / "x.tif", "r+") as raster:
      raster.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=remote)
  else:
    pam = '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{}</MDI></Metadata></PAMDataset>'
    mask = attacks.vrt(remote).replace(
      b"<VRTRasterBand", b'<Metadata><MDI key="INTERNAL_MASK_FLAGS_1">2</MDI></Metadata><VRTRasterBand', 1
    )
    beside = {".aux.xml": pam.format(remote).encode(), ".msk": mask, ".ovr": attacks.vrt(remote)}
    (folder / f"x.tif{kind}").write_bytes(beside[kind])
  return "x.tif"


REFUSED = {
  "vrt": "holds XML (VRTDataset), which names pixels in other files or on other hosts",
  "vrt with a declaration": "holds XML (VRTDataset)",
  "vrt of a host": "holds XML (VRTDataset)",
  "wms": "holds XML (GDAL_WMS)",
  "overviews": "it refers to overviews in another file",
}


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("kind", [*REFUSED, ".aux.xml", ".msk", ".ovr"])
def test_attacks_reach_no_file_and_no_host(kind, as_zip, tmp_path, host, capsys):
  folder = tmp_path / "set"
  folder.mkdir()
  good = [attacks.good_raster(folder / f"a{i}.tif", i).name for i in range(2)]
  name = attack(kind, folder, host)
  source = attacks.zipped(folder) if as_zip else folder
  out = tmp_path / "out"
  assert prepared.main(f"--source={source}", f"--out={out}", "--tile=16", "--max_bad_fraction=0.5") == 0
  error = capsys.readouterr().err
  assert host.count() == 0
  assert not any(
    attacks.SECRET[i : i + 16] in record for record in attacks.records(out) for i in (0, 32, 512)
  )
  if kind in REFUSED:
    assert "left out" in error and f"{name}: " in error and REFUSED[kind] in error
    assert len(attacks.records(out)) == 4 * len(good)
  else:  # the raster itself is as good as the others
    assert len(attacks.records(out)) == 4 * (len(good) + 1)
    assert ("1 files next to rasters are not read, such as x.tif" in error) != as_zip


def test_the_attacks_would_work_on_an_open_door(tmp_path, host):
  """Otherwise the test above would prove nothing."""
  for kind in ("vrt", "wms", ".aux.xml"):
    (tmp_path / kind).mkdir()
    path = tmp_path / kind / attack(kind, tmp_path / kind, host)
    try:
      with rasterio.open(path) as raster:
        pixels = raster.read()
        _ = raster.mask_flag_enums, raster.read(masked=True), raster.overviews(1)
    except rasterio.errors.RasterioIOError:
      pixels = np.zeros(0)
    assert (pixels.tobytes() == attacks.SECRET) if kind == "vrt" else host.count(), kind


def test_neighbours_of_a_raster_change_nothing(tmp_path):
  array = scene(0, 12, 10, 1, "uint8")
  path = write_tif(tmp_path / "x.tif", array)
  (tmp_path / "x.tif.aux.xml").write_text(
    f'<PAMDataset><PAMRasterBand band="1"><NoDataValue>{array[0, 0, 0]}</NoDataValue></PAMRasterBand>'
    "</PAMDataset>"
  )
  (tmp_path / "x.tfw").write_text("2\n0\n0\n-2\n100\n200\n")
  with rasterio.open(path) as raster:
    assert raster.nodata == array[0, 0, 0] and not raster.transform.is_identity
  assert rasters.read(str(path), "x.tif").dtype == np.uint8 and places.of(str(path)) is None


@pytest.mark.parametrize("driver, suffix", [("GTiff", "tif"), ("JP2OpenJPEG", "jp2"), ("PNG", "png")])
def test_allowed_formats_open_from_disk_and_memory(driver, suffix, tmp_path):
  path = tmp_path / f"a b?c#d!e[0].{suffix}"
  array = scene(0, 32, 32, 1, "uint8")
  with rasterio.MemoryFile() as memory:
    options = {"QUALITY": 100, "REVERSIBLE": "YES"} if suffix == "jp2" else {}
    with memory.open(driver=driver, height=32, width=32, count=1, dtype="uint8", **options) as raster:
      raster.write(array[..., 0], 1)
    path.write_bytes(memory.read())
  for file in (str(path), path.read_bytes()):
    np.testing.assert_array_equal(rasters.read(file, path.name), array)


def test_other_formats_and_virtual_paths_are_refused(tmp_path):
  with rasterio.MemoryFile() as memory:
    with memory.open(driver="BMP", height=4, width=4, count=1, dtype="uint8") as raster:
      raster.write(np.zeros((1, 4, 4), np.uint8))
    other = memory.read()
  for content, message in (
    (other, "it is none of GeoTIFF, JPEG 2000 and PNG"),
    (b"", "the file is empty"),
    (b"\xef\xbb\xbf <WMTS/>", "holds XML"),
  ):
    with pytest.raises(ValueError, match=message):
      rasters.shape(content, "x.tif")
  for path in ("/vsicurl/http://127.0.0.1/x.tif", "/vsizip/x.zip/x.tif", "GTIFF_DIR:1:x.tif"):
    with pytest.raises(FileNotFoundError):
      rasters.shape(path, path)
  with pytest.raises(ValueError, match="is not a plain file"):
    rasters.shape("/dev/zero", "x.tif")


def test_sizes_are_checked_before_pixels_are_read(tmp_path):
  path = tmp_path / "x.tif"
  options = dict(driver="GTiff", dtype="uint8", sparse_ok=True, tiled=True, compress="deflate")
  with rasterio.open(path, "w", height=20_000, width=20_000, count=1, **options):
    pass
  assert path.stat().st_size < 1e6
  for file in (str(path), path.read_bytes()):
    with pytest.raises(ValueError, match="has 20,000 × 20,000 pixels, more than 178,956,970; .*--max_pixels"):
      rasters.shape(file, "x.tif")
  with limits.at_most(400_000_000):
    assert rasters.shape(str(path), "x.tif") == (1, 20_000, 20_000, 1)
    assert rasters.read(str(path), "x.tif", window=rasters.Window(0, 0, 8, 8)).shape == (8, 8, 1)
  # many bands of few pixels
  with rasterio.open(path, "w", height=4000, width=4000, count=60, interleave="pixel", **options):
    pass
  with pytest.raises(ValueError, match="960,000,000 numbers at once, more than 715,827,880; cut it with"):
    rasters.read(str(path), "x.tif")
  assert rasters.read(str(path), "x.tif", window=rasters.Window(0, 0, 8, 8)).shape == (8, 8, 60)
  # a window inside one huge block
  profile = dict(tiled=True, blockxsize=64, blockysize=64, interleave="pixel")
  with gdal.opened(str(write_tif(tmp_path / "y.tif", scene(0, 90, 90, 8), **profile))) as raster:
    with limits.at_most(64 * 64 * 8 // limits.NUMBERS):
      gdal.check_read(raster, 8, 8)
    with limits.at_most(64 * 64 * 8 // limits.NUMBERS - 1), pytest.raises(ValueError, match="at once"):
      gdal.check_read(raster, 8, 8)
