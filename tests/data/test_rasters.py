"""Raster files are read according to their metadata: scales, offsets and no-data values are applied; all
other numbers stay as they are.
"""

import errno
import io
import os

import numpy as np
import pytest
import rasterio

from swin_jax.data.read import array_files, decoding, image_ops, places, rasters
from swin_jax.data.read.example import Example
from swin_jax.data.view import crops
from tests.support import images
from tests.support.rasters import scene, write_tif


def read(path, **options):
  return rasters.read(str(path), path.name, **options)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
  "dtype, expected",
  [
    (np.uint8, "uint8"),
    (np.uint16, "uint16"),
    (np.int16, "int16"),
    (np.float32, "float32"),
    (np.uint32, "float32"),
    (np.int32, "float32"),
    (np.float64, "float32"),
  ],
)
@pytest.mark.parametrize("suffix", ["tif", "npy", "npz"])
def test_any_type_and_number_of_bands(tmp_path, dtype, expected, suffix):
  array = scene(bands=7).astype(dtype)
  path = tmp_path / f"x.{suffix}"
  if suffix == "tif":
    write_tif(path, array)
  else:
    (np.save if suffix == "npy" else np.savez)(path, array)
  window = rasters.Window(3, 2, 5, 6)
  for file in (str(path), path.read_bytes()):
    assert rasters.shape(file, path.name) == (1, 12, 10, 7)
    raster = rasters.read(file, path.name)
    assert raster.dtype == expected and raster.flags.c_contiguous
    np.testing.assert_array_equal(raster, array.astype(expected))
    np.testing.assert_array_equal(
      rasters.read(file, path.name, window=window), array[3:8, 2:8].astype(expected)
    )


def test_jpeg_2000(tmp_path):
  array = scene(height=32, width=40, bands=3, dtype=np.uint16)
  with rasterio.open(
    tmp_path / "x.jp2",
    "w",
    driver="JP2OpenJPEG",
    height=32,
    width=40,
    count=3,
    dtype="uint16",
    QUALITY=100,
    REVERSIBLE="YES",
  ) as file:
    file.write(np.moveaxis(array, -1, 0))
  np.testing.assert_array_equal(read(tmp_path / "x.jp2"), array)


def test_scales_and_offsets_of_the_raster_are_applied(tmp_path):
  array = scene(bands=2, dtype=np.uint16)
  raster = read(write_tif(tmp_path / "x.tif", array, scales=(0.0001, 0.01), offsets=(-0.1, 273.15)))
  assert raster.dtype == np.float32
  np.testing.assert_allclose(raster, array * np.array([0.0001, 0.01]) + np.array([-0.1, 273.15]), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_no_data_becomes_nan(tmp_path, dtype):
  """NaN replaces the value that the file declares, the one the caller gives, and infinite values, each per
  band.
  """
  array = (scene(bands=3) // 20).astype(dtype)
  array[2, 3, 1], array[4, 5, 0] = 7, 9
  expected = array.astype(np.float32)
  expected[2, 3, 1] = np.nan
  declared = read(write_tif(tmp_path / "x.tif", array, nodata=7))
  assert declared.dtype == np.float32
  np.testing.assert_array_equal(declared, expected)
  expected[4, 5, 0] = np.nan
  np.testing.assert_array_equal(read(tmp_path / "x.tif", nodata=9), expected)
  np.save(tmp_path / "x.npy", array)
  expected[2, 3, 1] = 7
  np.testing.assert_array_equal(read(tmp_path / "x.npy", nodata=9), expected)
  assert read(tmp_path / "x.npy", nodata=77).dtype == np.float32  # tiles without gaps are float too
  assert read(tmp_path / "x.npy").dtype == dtype


def test_no_data_counts_before_the_scale(tmp_path):
  array = scene(bands=1)
  array[0, 0] = -9999
  raster = read(write_tif(tmp_path / "x.tif", array, nodata=-9999, scales=(0.1,)))
  assert np.isnan(raster[0, 0]) and np.isnan(raster).sum() == 1
  np.testing.assert_allclose(raster[1:], array[1:] * 0.1, rtol=1e-6)


def test_infinite_is_no_data(tmp_path):
  array = scene(dtype=np.float32)
  array[1, 1, 1] = np.inf
  np.save(tmp_path / "x.npy", array)
  assert np.isnan(read(tmp_path / "x.npy")[1, 1, 1]) and np.isnan(read(tmp_path / "x.npy")).sum() == 1


@pytest.mark.parametrize("dtype, scales", [(np.float64, None), (np.float32, (1e30, 1e30))])
def test_what_float32_cannot_hold_is_no_data(tmp_path, dtype, scales):
  array = scene(bands=2, dtype=dtype)
  array[1, 1, 1] = 1e300 if dtype is np.float64 else 1e30
  raster = read(write_tif(tmp_path / "x.tif", array, scales=scales))
  assert np.isnan(raster[1, 1, 1]) and np.isnan(raster).sum() == 1 and not np.isinf(raster).any()


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_impossible_scales_are_refused(tmp_path, scale):
  with pytest.raises(ValueError, match="declares a scale of 0, or a scale or offset that is not finite"):
    read(write_tif(tmp_path / "x.tif", scene(bands=1), scales=(scale,)))


@pytest.mark.parametrize("suffix", ["tif", "npy"])
def test_more_bands_than_a_model_can_read(tmp_path, suffix):
  array, path = np.zeros((8, 8, 5000), np.uint8), tmp_path / f"x.{suffix}"
  write_tif(path, array) if suffix == "tif" else np.save(path, array)
  for get in (read, lambda path: rasters.shape(str(path), path.name)):
    with pytest.raises(ValueError, match="has 5,000 bands; their number must be .* at most 4,096"):
      get(path)


def test_arrays_of_several_rasters_and_several_arrays(tmp_path):
  several = np.stack([scene(i) for i in range(4)])
  np.savez(tmp_path / "x.npz", bands=several, clouds=several[..., 0], dates=np.arange(4))
  with pytest.raises(ValueError, match=r"holds bands \[4, 12, 10, 5\], clouds \[4, 12, 10\].*--array=NAME"):
    read(tmp_path / "x.npz")
  with pytest.raises(ValueError, match="there is no array 'band'"):
    read(tmp_path / "x.npz", array="band")
  assert rasters.shape(str(tmp_path / "x.npz"), "x.npz", "bands") == (4, 12, 10, 5)
  np.testing.assert_array_equal(read(tmp_path / "x.npz", array="bands", index=2), several[2])
  np.save(tmp_path / "grey.npy", several[0, :, :, 0])
  assert read(tmp_path / "grey.npy").shape == (12, 10, 1)


@pytest.mark.parametrize(
  "name, content, message",
  [
    ("x.tif", b"rubbish", "cannot be read as a raster"),
    ("x.tif", b"", "cannot be read as a raster"),
    ("x.npy", b"rubbish", "cannot be read as an array: it is damaged"),
    ("x.npz", b"rubbish", "cannot be read as an array: it is damaged"),
    ("x.npy", np.zeros(5), r"is an array \[5\], not \[height"),
    ("x.npy", np.zeros((0, 5, 2)), r"is an array \[0, 5, 2\]"),
    ("x.npy", np.zeros((3, 5, 2), complex), "holds complex128, not real numbers"),
  ],
)
def test_what_is_no_raster_is_said_in_a_line(tmp_path, name, content, message):
  if isinstance(content, np.ndarray):
    out = io.BytesIO()
    np.save(out, content)
    content = out.getvalue()
  (tmp_path / name).write_bytes(content)
  for file in (str(tmp_path / name), content):
    with pytest.raises(ValueError, match=message) as error:
      rasters.read(file, name)
    assert "\n" not in str(error.value) and "/vsimem" not in str(error.value)


def test_a_raster_that_is_cut_short(tmp_path):
  path = write_tif(tmp_path / "x.tif", scene(height=200, width=200), compress="deflate")
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(ValueError, match="cannot be read as a raster"):
    read(path)


def test_real_rasters():
  raster = read(images.real_data("multispectral/L7_ETMs_6band.tif"))
  assert raster.shape == (352, 349, 6) and raster.dtype == np.uint8
  assert read(images.real_data("multispectral/hls_like_10band_224.tif")).shape == (224, 224, 10)


# Records.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_packed_array_is_the_array(dtype):
  array = scene(dtype=dtype)
  record = array_files.pack(array[:, ::2])
  unpacked = array_files.unpack(record)
  assert array_files.is_packed(record) and unpacked.dtype == dtype
  np.testing.assert_array_equal(unpacked, array[:, ::2])
  with pytest.raises(ValueError, match="damaged array"):
    array_files.unpack(record[:-20])


def test_files_are_no_packed_arrays():
  assert not any(map(array_files.is_packed, (images.encode(0), images.encode(0, kind="JPEG"), b"", scene())))


def test_decoding_gives_the_type_that_is_asked_for():
  decode = lambda image, bands, dtype: decoding.DecodeImage(bands, dtype)(Example(image, -1, "x")).image
  tile = scene(bands=5)
  decoded = decode(array_files.pack(tile), 5, "float32")
  assert decoded.dtype == np.float32
  np.testing.assert_array_equal(decoded, tile)
  with pytest.raises(ValueError, match=r"is int16 \[12, 10, 5\], not \[height, width, 4\]"):
    decode(array_files.pack(tile), 4, "float32")
  with pytest.raises(ValueError, match="is int16 .* not uint8"):
    decode(array_files.pack(tile), 5, "uint8")
  bytes_ = scene(bands=6, dtype=np.uint8)
  np.testing.assert_array_equal(decode(array_files.pack(bytes_), 6, "uint8"), bytes_)
  picture = decode(images.encode(0), 3, "float32")  # unscaled: 0 to 255
  assert picture.dtype == np.float32
  np.testing.assert_array_equal(picture, image_ops.decode(images.encode(0), 3))


# Augmentation of floats.


def test_resizing_leaves_out_what_holds_no_data():
  image = scene(height=16, width=16, bands=2).astype(np.float32)
  whole = image_ops.resize(image, (8, 8), "bilinear")
  gap = image.copy()
  gap[4:6, 4:6, 0] = np.nan
  resized = image_ops.resize(gap, (8, 8), "bilinear")
  np.testing.assert_array_equal(resized[..., 1], whole[..., 1])  # bands do not mix
  missing = np.isnan(resized[..., 0])
  # Its neighbours lose part of their data and are computed from the rest.
  assert missing[2, 2] and missing.sum() == 1
  far = np.ones((8, 8), bool)
  far[1:4, 1:4] = False
  np.testing.assert_allclose(resized[..., 0][far], whole[..., 0][far], rtol=1e-6)
  constant = np.where(np.isnan(gap), np.float32(np.nan), np.float32(5))
  resized = image_ops.resize(constant, (11, 7), "bicubic")
  np.testing.assert_allclose(resized[~np.isnan(resized)], 5, rtol=1e-5)


def test_floats_are_padded_with_no_data():
  cropped = [
    crops.random_crop(np.ones((4, 4, 2), np.float32), np.random.default_rng(seed), 3) for seed in range(9)
  ]
  assert np.isnan(cropped).any() and set(np.unique(np.nan_to_num(cropped, nan=-1))) == {-1, 1}


def test_rotation_is_one_of_four_each_as_likely():
  image, rng = scene(height=6, width=6), np.random.default_rng(0)
  turned = [np.rot90(image, k) for k in range(4)]
  rotated = [crops.random_rotation(image, rng) for _ in range(400)]
  which = [[np.array_equal(one, t) for t in turned].index(True) for one in rotated]
  assert (np.abs(np.bincount(which, minlength=4) - 100) < 30).all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_an_error_of_the_storage(capfd):
  """GDAL itself would print lines of its own, and name no reason."""
  with pytest.raises(OSError) as error:
    places.write("/dev/full", np.zeros((8, 8), np.float32), None, float("nan"))
  assert error.value.errno == errno.ENOSPC and capfd.readouterr().err == ""
