"""Alpha channels are masks, and scans in image formats are cut like rasters."""

import io
import struct
import warnings
import zipfile
import zlib

import numpy as np
from PIL import Image
import pytest
import rasterio
from rasterio.enums import ColorInterp

from swin_jax.data.prepare import kept, tiles
from swin_jax.data.read import (
  array_files,
  decoding,
  image_arrays,
  limits,
  orientation,
  rasters,
  statistics,
)
from swin_jax.data.read.targets import Target
from swin_jax.terminal.errors import BadInput
from tests.support import label_sets, prepared
from tests.support.opened import open_source
from tests.support.rasters import scene, with_alpha, write_tif

cut = tiles.Cut


def contents(out, split="train") -> dict[str, np.ndarray]:
  """Returns {name: tile} of a split."""
  source = prepared.read(out, split)
  return {source[i].name: array_files.unpack(source[i].image) for i in range(len(source))}


def half(height=40, width=40) -> np.ndarray:
  """Returns an alpha channel whose left half is transparent."""
  return np.where(np.arange(width) < width // 2, 0, 255) * np.ones((height, 1), int)


@pytest.fixture(autouse=True)
def _quiet():
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    yield


# Alpha channels.


@pytest.mark.parametrize(
  "dtype, bands, profile",
  [("u1", 3, {}), ("u2", 1, {}), ("f4", 5, {}), ("i2", 2, dict(nodata=-9999)), ("u1", 3, dict(tiled=True))],
)
@pytest.mark.parametrize("tile", [0, 20])
@pytest.mark.parametrize("as_zip", [False, True])
def test_transparent_pixels_hold_no_data(tmp_path, dtype, bands, profile, tile, as_zip, capsys):
  pixels, alpha = scene(bands=bands, height=48, width=48).astype(dtype), half(48, 48)
  path = with_alpha(tmp_path / "in/x.tif", pixels, alpha, **profile)
  with_alpha(tmp_path / "in/y.tif", pixels, 0 * alpha, **profile)
  source = tmp_path / "in"
  if as_zip:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as file:
      for each in (path, path.with_name("y.tif")):
        file.write(each, each.name)
    source = tmp_path / "in.zip"
  prepared.run(source, tmp_path / "out", cut=cut(tile=tile, nodata=None if tile else 1e9))
  printed = capsys.readouterr().out
  assert "2 of 2 rasters looked at declare a band as alpha: its transparent pixels hold no data" in printed
  assert f", {6 if tile else 1} without data left out" in printed
  expected = np.where(alpha[..., None] == 0, np.nan, pixels.astype(np.float32))
  tiles_of = contents(tmp_path / "out")
  assert len(tiles_of) == (2 if tile else 1)
  for name, image in tiles_of.items():
    corner = name.partition(" at ")[2]
    top, left = map(int, corner.split(",")) if corner else (0, 0)
    height, width, count = image.shape
    assert count == bands
    np.testing.assert_array_equal(image, expected[top : top + height, left : left + width])
  assert len(statistics.read(tmp_path / "out")["mean"]) == bands


def test_an_alpha_channel_is_kept_on_request(tmp_path, capsys):
  pixels, alpha = scene(bands=3, height=48, width=48).astype(np.uint8), half(48, 48)
  with_alpha(tmp_path / "in/x.tif", pixels, alpha)
  prepared.run(tmp_path / "in", tmp_path / "out", cut=cut(keep_alpha=True))
  (image,) = contents(tmp_path / "out").values()
  assert image.dtype == np.uint8
  np.testing.assert_array_equal(image, np.dstack([pixels, alpha]))
  assert "as alpha" not in capsys.readouterr().out
  assert "keep_alpha (True, now None)" in prepared.bad(tmp_path / "in", tmp_path / "out")


def test_an_alpha_channel_that_holds_data_is_kept_and_reported(tmp_path, capsys):
  """Programs declare the fourth of four bands of bytes as alpha, for example near infrared."""
  pixels = np.random.default_rng(0).integers(0, 255, (48, 48, 4), np.uint8)
  path = write_tif(tmp_path / "in/x.tif", pixels, photometric="RGB", alpha="YES")
  assert rasters.about(str(path), "x.tif").alpha is not None
  prepared.run(tmp_path / "in", tmp_path / "out", cut=cut(tile=48))
  (image,) = contents(tmp_path / "out").values()
  np.testing.assert_array_equal(image, pixels)
  assert "but it holds many values, as data do, so it is kept as a band" in capsys.readouterr().err


@pytest.mark.parametrize("bands", [1, 3])
def test_a_tiff_of_colours_and_alpha_is_a_raster(tmp_path, bands):
  pixels = np.dstack([scan(48, 48)[..., :bands], half(48, 48).astype(np.uint8)])
  kind = dict(photometric="RGB") if bands == 3 else {}
  write_tif(tmp_path / "in/x.tif", pixels, alpha="YES", **kind)
  prepared.run(tmp_path / "in", tmp_path / "out")
  (image,) = contents(tmp_path / "out").values()
  np.testing.assert_array_equal(image, np.where(pixels[..., -1:] == 0, np.nan, pixels[..., :-1]))


def test_a_soft_edge_is_not_transparent(tmp_path):
  pixels, alpha = scene(bands=3, height=48, width=48).astype(np.uint8), half(48, 48)
  alpha[:, 24:27] = 100
  with_alpha(tmp_path / "in/x.tif", pixels, alpha)
  prepared.run(tmp_path / "in", tmp_path / "out")
  (image,) = contents(tmp_path / "out").values()
  np.testing.assert_array_equal(np.isnan(image[..., 0]), alpha == 0)


def test_labels_have_no_class_where_the_image_is_transparent(tmp_path):
  with_alpha(tmp_path / "in/train/images/x.tif", scene(bands=3, height=48, width=48), half(48, 48))
  label_map = np.ones((48, 48), np.uint8)
  contents = {"train/labels/x.png": label_sets.png(label_map), "classes.txt": label_sets.CLASSES}
  prepared.run(label_sets.write(tmp_path / "in", contents), tmp_path / "out", cut=cut(tile=48))
  source = open_source("array_record", str(tmp_path / "out"), "train", Target.LABELS)
  target = decoding.DecodeMapped(3, "float32")(source[0]).target
  np.testing.assert_array_equal(target, np.where(half(48, 48) == 0, 255, 1))


# Scans.


def scan(height, width, seed=0, mode="RGB") -> np.ndarray:
  shape = (height, width) if mode == "L" else (height, width, len(mode))
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def save(path, pixels, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels).save(path, **options)
  return path


@pytest.mark.parametrize("ending", ["png", "bmp", "webp", "jpg"])
@pytest.mark.parametrize("as_zip", [False, True])
def test_tiles_cover_a_scan_once(tmp_path, ending, as_zip):
  path = save(tmp_path / f"in/x.{ending}", scan(47, 71), **({"lossless": True} if ending == "webp" else {}))
  expected = np.asarray(Image.open(path).convert("RGB"))
  source = tmp_path / "in"
  if as_zip:
    source = tmp_path / "in.zip"
    with zipfile.ZipFile(source, "w") as file:
      file.write(path, path.name)
  prepared.run(source, tmp_path / "out", cut=cut(tile=16), num_threads=4)
  whole, parts = np.zeros((47, 71, 3), int) - 1, contents(tmp_path / "out")
  assert len(parts) == 2 * 4
  for name, part in parts.items():
    top, left = map(int, name.partition(" at ")[2].split(","))
    box = np.s_[top : top + part.shape[0], left : left + part.shape[1]]
    assert part.dtype == np.uint8 and (whole[box] == -1).all()
    whole[box] = part
  np.testing.assert_array_equal(whole, expected)


def test_one_scan_without_a_folder(tmp_path):
  path = save(tmp_path / "x.png", scan(40, 40))
  prepared.run(path, tmp_path / "out", cut=cut(tile=20))
  assert len(contents(tmp_path / "out")) == 4
  assert "is one image; give a folder or an archive" in prepared.bad(path, tmp_path / "other")


def test_grey_scans_next_to_colour_ones_become_colour(tmp_path):
  grey, colour = scan(20, 20, mode="L"), scan(20, 20, 1)
  save(tmp_path / "in/a/0.png", grey)
  save(tmp_path / "in/b/1.png", colour)
  save(tmp_path / "in/b/2.png", (grey > 99))
  prepared.run(tmp_path / "in", tmp_path / "out", cut=cut(tile=10))
  source = prepared.read(tmp_path / "out")
  assert source.class_names == ("a", "b") and len(source) == 12
  parts = contents(tmp_path / "out")
  np.testing.assert_array_equal(parts["a/0.png at 0,10"], np.dstack([grey[:10, 10:]] * 3))
  np.testing.assert_array_equal(parts["b/1.png at 10,0"], colour[10:, :10])
  np.testing.assert_array_equal(parts["b/2.png at 0,0"], np.dstack([(grey[:10, :10] > 99) * 255] * 3))


def test_grey_scans_alone_stay_grey(tmp_path):
  wide = np.random.default_rng(0).integers(0, 60000, (20, 20), np.uint16)
  save(tmp_path / "in/0.png", wide)
  prepared.run(tmp_path / "in", tmp_path / "out", cut=cut(tile=10))
  np.testing.assert_array_equal(contents(tmp_path / "out")["0.png at 0,0"], wide[:10, :10, None])


def test_scans_are_cut_upright_with_their_maps(tmp_path):
  pixels, label_map = scan(20, 30), np.random.default_rng(0).integers(0, 3, (20, 30), np.uint8)
  exif = Image.Exif()
  exif[0x0112] = 6
  save(tmp_path / "in/train/images/0.png", pixels, exif=exif)
  files = {"train/labels/0.png": label_sets.png(label_map), "classes.txt": label_sets.CLASSES}
  prepared.run(label_sets.write(tmp_path / "in", files), tmp_path / "out", cut=cut(tile=10))
  source = open_source("array_record", str(tmp_path / "out"), "train", Target.LABELS)
  assert len(source) == 6
  for i in range(6):
    image, target, _ = decoding.DecodeMapped(3)(source[i])
    top, left = map(int, source[i].name.partition(" at ")[2].split(","))
    box = np.s_[top : top + 10, left : left + 10]
    np.testing.assert_array_equal(image, orientation.turn(pixels, 6)[box])
    np.testing.assert_array_equal(target, orientation.turn(label_map, 6)[box])


def test_transparent_parts_of_a_scan_hold_no_data(tmp_path, capsys):
  pixels = scan(40, 40, mode="RGBA")
  pixels[..., 3] = half()
  save(tmp_path / "in/0.png", pixels)
  prepared.run(tmp_path / "in", tmp_path / "out", cut=cut(tile=20))
  assert ", 2 without data left out" in capsys.readouterr().out
  for name, image in contents(tmp_path / "out").items():
    top, left = map(int, name.partition(" at ")[2].split(","))
    np.testing.assert_array_equal(image, pixels[top : top + 20, left : left + 20, :3])
  prepared.run(tmp_path / "in", tmp_path / "kept", cut=cut(tile=20, keep_alpha=True))
  assert [image.shape for image in contents(tmp_path / "kept").values()] == [(20, 20, 4)] * 4


def declared(kind: str) -> tuple[bytes, np.ndarray, np.ndarray]:
  """Returns a PNG file that declares a transparent colour, its pixels, and where they are opaque."""
  values = np.where(half() == 0, 3, np.random.default_rng(0).integers(10, 200, (40, 40))).astype(np.uint8)
  colours, transparency = values[..., None], 3
  image, palette = Image.fromarray(values), np.random.default_rng(1).integers(0, 256, (256, 3), np.uint8)
  if kind.startswith("palette"):
    image.putpalette(palette.tobytes())
    colours, transparency = palette[values], b"\xff\xff\xff\0" if kind == "palettes" else 3
  elif kind == "colours":
    image, colours = image.convert("RGB"), np.repeat(values[..., None], 3, -1)
    transparency = (3, 3, 3)
  elif kind == "16 bits":
    colours = values[..., None].astype(np.uint16) * 257
    image, transparency = Image.fromarray(colours[..., 0]), 3 * 257
  out = io.BytesIO()
  image.save(out, "PNG", transparency=transparency)
  return out.getvalue(), colours, half()[..., None] != 0


@pytest.mark.parametrize("kind", ["grey", "palette", "palettes", "colours", "16 bits"])
def test_a_declared_colour_is_transparent_like_an_alpha_channel(kind, tmp_path, capsys):
  encoded, colours, opaque = declared(kind)
  bands = colours.shape[-1]
  assert image_arrays.shape(encoded) == (40, 40, bands)
  assert image_arrays.shape(encoded, keep_alpha=True) == (40, 40, bands + 1)
  stored = image_arrays.read(encoded)
  np.testing.assert_array_equal(stored.numbers, colours)
  np.testing.assert_array_equal(stored.missing, ~opaque)
  kept = image_arrays.read(encoded, keep_alpha=True)
  assert kept.missing is None and kept.numbers.dtype == colours.dtype
  np.testing.assert_array_equal(kept.numbers, np.dstack([colours, opaque * np.iinfo(colours.dtype).max]))
  path = tmp_path / "in/0.png"
  path.parent.mkdir()
  path.write_bytes(encoded)
  prepared.run(tmp_path / "in", tmp_path / "out", cut=cut(tile=20))
  assert ", 2 without data left out" in capsys.readouterr().out


def png_chunk(name: bytes, content: bytes) -> bytes:
  return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


@pytest.mark.parametrize(
  "depth, colour_type, samples, declared, transparent",
  [
    (1, 0, [0, 1, 1, 0, 1, 0, 0, 0], [1], [0, 1, 1, 0, 1, 0, 0, 0]),
    (2, 0, [0, 1, 2, 3], [1], [0, 1, 0, 0]),
    (4, 0, [0, 3, 14, 15], [14], [0, 0, 1, 0]),
    (8, 0, [0, 3, 14, 255], [14], [0, 0, 1, 0]),
    (16, 0, [0, 300, 65_535], [300], [0, 1, 0]),
    (16, 2, [256, 513, 1000, 256, 769, 1000], [256, 513, 1000], [1, 0]),
  ],
)
def test_a_declared_colour_of_any_depth_is_transparent(depth, colour_type, samples, declared, transparent):
  bits = "".join(f"{sample:0{depth}b}" for sample in samples)
  header = struct.pack(">2I5B", len(transparent), 1, depth, colour_type, 0, 0, 0)
  row = b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
  chunks = {b"IHDR": header, b"tRNS": struct.pack(f">{len(declared)}H", *declared)}
  chunks |= {b"IDAT": zlib.compress(row), b"IEND": b""}
  stored = image_arrays.read(b"\x89PNG\r\n\x1a\n" + b"".join(map(png_chunk, chunks, chunks.values())))
  np.testing.assert_array_equal(stored.unknown[0], np.array(transparent, bool))


def test_a_scan_above_the_limit_is_cut_if_the_limit_is_raised(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(limits, "MAX_PIXELS", 1000)
  monkeypatch.setattr(limits, "_pixels", 1000)
  save(tmp_path / "in/0.png", scan(50, 50))
  error = prepared.bad(tmp_path / "in", tmp_path / "out", cut=cut(tile=20))
  assert "has 50 × 50 pixels, more than 1,000; if you trust the file, raise --max_pixels" in error
  words = f"--source={tmp_path / 'in'}", f"--out={tmp_path / 'out'}", "--max_pixels=2500"
  assert prepared.main(*words) == 2
  assert "give --short_side or --tile" in capsys.readouterr().err
  assert prepared.main(*words, "--tile=20") == 0
  assert len(contents(tmp_path / "out")) == 4


def test_tiles_of_a_scan_follow_each_other_so_that_it_is_decoded_once(tmp_path, monkeypatch):
  for i in range(7):
    save(tmp_path / f"in/{i}.png", scan(40, 40, i))
  decoded, load = [], rasters.load
  monkeypatch.setattr(rasters, "load", lambda *args, **more: decoded.append(args[1]) or load(*args, **more))
  prepared.run(tmp_path / "in", tmp_path / "out", cut=cut(tile=10), num_threads=4)
  assert sorted(decoded) == [f"{i}.png" for i in range(7)]
  names = [example.name for example in map(prepared.read(tmp_path / "out").__getitem__, range(112))]
  files = [name.partition(" ")[0] for name in names]
  assert (
    len(set(names)) == 112 and sum(one != other for one, other in zip(files, files[1:], strict=False)) == 6
  )
  assert names[:16] != sorted(names[:16])


def test_an_array_next_to_images_stays_a_raster(tmp_path):
  write_tif(tmp_path / "in/x.tif", scene(height=20, width=20))
  save(tmp_path / "in/preview.png", scan(20, 20))
  prepared.run(tmp_path / "in", tmp_path / "out", cut=cut(tile=10))
  assert {name.partition(" ")[0] for name in contents(tmp_path / "out")} == {"x.tif"}


def test_damaged_scans_are_named(tmp_path, capsys):
  save(tmp_path / "in/0.png", scan(20, 20))
  whole = save(tmp_path / "in/1.png", scan(20, 20, 1)).read_bytes()
  (tmp_path / "in/1.png").write_bytes(whole[: len(whole) // 2])
  prepared.run(tmp_path / "in", tmp_path / "out", cut=cut(tile=10), max_bad_fraction=0.6)
  assert "1.png at 10,10: cannot be read as an image" in capsys.readouterr().err
  assert len(contents(tmp_path / "out")) == 4


# Contents that are kept.


def test_the_latest_contents_are_kept_and_failures_are_not(monkeypatch):
  calls = []

  def read(number):
    calls.append(number)
    if number < 0:
      raise BadInput("no")
    return np.zeros(number, np.uint8)

  function = kept.Kept(read)
  for number in (1, 2, 3, 4, 1, 2, 5, 3, 1):
    assert len(function(number)) == number
  assert calls == [1, 2, 3, 4, 5, 3]
  for _ in range(2):
    with pytest.raises(BadInput):
      function(-1)
  assert calls[-2:] == [-1, -1]
  monkeypatch.setattr(limits, "_pixels", 25)  # 100 bytes
  for number in (90, 91, 90):
    function(number)
  assert calls[-3:] == [90, 91, 90]


def test_a_scan_is_read_by_a_model_of_its_tiles():
  out = io.BytesIO()
  Image.fromarray(scan(9, 8, mode="L")).save(out, "PNG")
  image = rasters.read(out.getvalue(), "x.png")
  assert rasters.with_bands(image, "x.png", 3).shape == (9, 8, 3)
  assert (
    rasters.with_bands(image, "x.tif", 3).shape == rasters.with_bands(image, "x.png", 1).shape == (9, 8, 1)
  )


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_pixel_is_transparent_if_any_of_two_alpha_channels_says_so(tmp_path):
  path = write_tif(tmp_path / "x.tif", np.full((8, 8, 3), 255, np.uint8), nodata=7)
  with rasterio.open(path, "r+") as file:
    file.colorinterp = [ColorInterp.gray, ColorInterp.alpha, ColorInterp.alpha]
    alphas = np.full((2, 8, 8), 255, np.uint8)
    alphas[0, :2], alphas[1, 6:] = 0, 0
    file.write(alphas, [2, 3])
  missing = np.isnan(rasters.read(str(path), "x.tif")[..., 0])
  np.testing.assert_array_equal(missing, (alphas == 0).any(axis=0))
