"""Maps as people have them: black and white, colours, three equal channels, other values and types.

They are read alike whatever the size, tile or container, and what is understood is reported.
"""

import io
import json
import pathlib
import zipfile

import numpy as np
from PIL import Image
import pytest
import rasterio

from swin_jax.data.read import class_files, decoding, image_arrays, labels, maps, rasters
from swin_jax.data.read.targets import Target
from swin_jax.show.truth import Truth
from tests.support import prepared
from tests.support.label_sets import CLASSES, files, jpeg, png, rgb, write
from tests.support.opened import open_source
from tests.support.rasters import scene, write_tif

TWO = "background\nobject\n"
COLOURS = ((128, 128, 128), (128, 64, 128), (64, 0, 128))
TABLE = "name,r,g,b\nroad,128,64,128\ncar,64,0,128\nsky,128,128,128\n"  # in another order than classes.txt
TYPES = ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8")
DRAWN = np.repeat([[0, 1, 2, 1, 0]], 20, 0).repeat(6, 1).astype(np.uint8)
PAINTED = np.array(COLOURS, np.uint8)[DRAWN]
HALVES = np.repeat([[0, 1]], 20, 0).repeat(15, 1).astype(np.uint8)


def saved(values, kind, mode=None, **options) -> bytes:
  out = io.BytesIO()
  image = Image.fromarray(np.asarray(values))
  (image.convert(mode) if mode else image).save(out, kind, **options)
  return out.getvalue()


def array(values) -> bytes:
  out = io.BytesIO()
  np.save(out, values)
  return out.getvalue()


def a_set(maps_by_name, classes=CLASSES, split="train", size=(20, 30)) -> dict:
  """Returns {path: content} of a set with these files of maps."""
  contents = {"classes.txt": classes} if classes else {}
  for i, (name, encoded) in enumerate(maps_by_name.items()):
    stem = name.rpartition(".")[0]
    contents |= {f"{split}/images/{stem}.jpg": jpeg(*size, i), f"{split}/labels/{name}": encoded}
  return contents


def read(path, split="train", name="array_record") -> list[np.ndarray]:
  source = open_source(name, str(path), split, Target.LABELS)
  by_name = {source[i].name: decoding.DecodeMapped(3)(source[i]).target for i in range(len(source))}
  return [by_name[name] for name in sorted(by_name)]


def read_all(tmp_path, contents, *flags, capsys=None) -> list[np.ndarray]:
  """Prepares a set as a folder and as a zip, which must be equal, and returns its maps."""
  folder = write(tmp_path / "in", contents)
  with zipfile.ZipFile(tmp_path / "in.zip", "w") as file:
    for name, data in contents.items():
      file.writestr(name, data)
  results = []
  for source, out in ((folder, "folder"), (tmp_path / "in.zip", "zip")):
    assert prepared.main(f"--source={source}", f"--out={tmp_path / out}", *flags) == 0
    results.append(read(tmp_path / out))
  np.testing.assert_equal(results[0], results[1])
  if not flags:
    np.testing.assert_equal(read(folder, name="folder"), results[0])
  return results[0]


def refusal(tmp_path, capsys, contents, *flags) -> str:
  """Returns the one line with which `prepare` refuses a set; nothing is left behind."""
  folder, out = write(tmp_path / "in", contents), tmp_path / "out"
  assert prepared.main(f"--source={folder}", f"--out={out}", *flags) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and not out.exists(), error
  return error


# Black and white.


@pytest.mark.parametrize(
  "kind, encode",
  [
    ("png", lambda x: png(x * 255)),
    ("png", lambda x: png(x)),
    ("png", lambda x: rgb(np.stack([x * 255] * 3, -1))),
    ("png", lambda x: saved(x.astype(bool), "PNG")),
    ("gif", lambda x: saved(x * 255, "GIF")),
    ("bmp", lambda x: saved(x * 255, "BMP")),
    ("jpg", lambda x: saved(x * 255, "JPEG", quality=60)),
    ("jpg", lambda x: rgb(np.stack([x * 255] * 3, -1), "JPEG", quality=60)),
    ("npy", lambda x: array(x.astype(bool))),
    ("tif", lambda x: saved(x * 255, "TIFF")),
    ("webp", lambda x: saved(x * 255, "WEBP", lossless=True)),
  ],
)
def test_masks_of_two_classes(tmp_path, kind, encode):
  contents = a_set({f"{i}.{kind}": encode(np.roll(HALVES, 4 * i, 1)) for i in range(3)}, TWO)
  for i, values in enumerate(read_all(tmp_path, contents)):
    np.testing.assert_array_equal(values, np.roll(HALVES, 4 * i, 1))


def test_0_and_255_are_reported_with_counts_once(tmp_path, capsys):
  contents = a_set({f"{i}.png": png(HALVES * 255) for i in range(3)}, TWO)
  contents |= a_set({"9.png": png(HALVES * 0)}, TWO, "val")
  prepared.run(write(tmp_path / "in", contents), tmp_path / "out")
  printed = capsys.readouterr().out
  assert printed.count("maps:") == 1
  assert "0 is class background and 255 is class object, because the 4 looked at hold no other" in printed


def test_255_is_no_class_where_the_set_has_ones_or_a_flag_says_so(tmp_path):
  some = {"0.png": png(HALVES * 255), "1.png": png(HALVES)}
  first, second = read_all(tmp_path / "a", a_set(some, TWO))
  assert set(np.unique(first)) == {0, 255} and set(np.unique(second)) == {0, 1}
  (values,) = read_all(tmp_path / "b", a_set({"0.png": png(HALVES * 255)}, TWO), "--label_values=0,1")
  assert set(np.unique(values)) == {0, 255}
  (values,) = read_all(tmp_path / "c", a_set({"0.png": png(HALVES * 255)}, CLASSES))
  assert set(np.unique(values)) == {0, 255}  # three classes


def test_a_decision_covers_all_splits(tmp_path):
  contents = a_set({"0.png": png(HALVES * 255)}, TWO) | a_set({"1.png": png(HALVES)}, TWO, "val")
  prepared.run(write(tmp_path / "in", contents), tmp_path / "out")
  assert set(np.unique(read(tmp_path / "out")[0])) == {0, 255}


def test_all_maps_are_looked_at_where_the_first_ones_leave_it_open(tmp_path, monkeypatch):
  monkeypatch.setattr("swin_jax.data.read.map_sets.MOST", 3)
  empty = {f"{i}.png": png(HALVES * 0) for i in range(7)}
  results = read_all(tmp_path, a_set(empty | {"5.png": png(HALVES * 255)}, TWO))
  np.testing.assert_array_equal(results[5], HALVES)


def test_a_mask_unlike_the_others_is_named(tmp_path, capsys, monkeypatch):
  monkeypatch.setattr("swin_jax.data.read.map_sets.MOST", 2)
  some = {f"{i}.png": png(HALVES * 255) for i in range(3)} | {"1.png": png(HALVES)}
  folder = write(tmp_path / "in", a_set(some, TWO))
  assert prepared.main(f"--source={folder}", f"--out={tmp_path / 'out'}", "--max_bad_fraction=0.5") == 0
  assert (
    "labels/1.png has label 1 in 300 pixels; there are only 2 classes (0, 255)" in capsys.readouterr().err
  )


def test_one_bit_masks_next_to_masks_of_0_and_255(tmp_path):
  some = {"0.png": png(HALVES * 255), "1.png": saved(HALVES.astype(bool), "PNG")}
  for values in read_all(tmp_path, a_set(some, TWO)):
    np.testing.assert_array_equal(values, HALVES)


def test_one_class_is_not_enough_for_masks(tmp_path, capsys):
  error = refusal(tmp_path, capsys, a_set({"0.png": png(HALVES * 255)}, "polyp\n"))
  assert "the maps hold 0 and 255, but there is only the class polyp: name both values" in error


# JPEG changes numbers.


def test_jpegs_of_several_classes_are_refused(tmp_path, capsys):
  contents = a_set({"0.jpg": saved(DRAWN * 60, "JPEG")})
  assert "1 of 1 maps looked at are JPEG, which changes labels" in refusal(tmp_path, capsys, contents)


def test_a_jpeg_among_other_maps_is_named(tmp_path, capsys):
  some = {f"{i}.png": png(DRAWN) for i in range(3)} | {"3.jpg": saved(DRAWN, "JPEG", quality=100)}
  folder = write(tmp_path / "in", a_set(some))
  assert prepared.main(f"--source={folder}", f"--out={tmp_path / 'out'}", "--max_bad_fraction=0.5") == 0
  assert "labels/3.jpg is a JPEG, which changes labels; save it as PNG" in capsys.readouterr().err


LOSSY = {"avif": dict(quality=100), "webp": dict(quality=90)}


@pytest.mark.parametrize("kind", LOSSY)
def test_other_lossy_formats_are_treated_alike(kind, tmp_path, capsys):
  contents = a_set({f"0.{kind}": saved(DRAWN * 60, kind.upper(), "RGB", **LOSSY[kind])})
  error = refusal(tmp_path, capsys, contents)
  assert f"1 of 1 maps looked at are lossy {'WebP' if kind == 'webp' else 'AVIF'}, which changes" in error
  classes = "background\nroad\n"
  masks = a_set(
    {f"0.{kind}": saved((DRAWN > 0) * np.uint8(255), kind.upper(), "RGB", **LOSSY[kind])}, classes
  )
  (values,) = read_all(tmp_path / "masks", masks)
  assert (values != (DRAWN > 0)).mean() < 0.1 and "changes their values a little" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
  "name, options, lossy",
  [
    ("x.tif", dict(driver="GTiff", compress="jpeg"), "lossy TIFF"),
    ("x.tif", dict(driver="GTiff", compress="deflate"), ""),
    ("x.tif", dict(driver="GTiff", compress="lerc", MAX_Z_ERROR=1), "lossy TIFF"),
    ("x.tif", dict(driver="GTiff", compress="lerc"), ""),
    ("x.jp2", dict(driver="JP2OpenJPEG"), "lossy JPEG 2000"),
    ("x.jp2", dict(driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES"), ""),
  ],
)
def test_a_lossy_raster_is_told_by_what_it_declares(name, options, lossy, tmp_path):
  with rasterio.open(tmp_path / name, "w", width=30, height=20, count=1, dtype="uint8", **options) as file:
    file.write(DRAWN[None])
  assert maps.open_map(str(tmp_path / name), name).lossy == lossy
  if options.get("compress") != "lerc":  # which only GDAL reads
    assert maps.open_map((tmp_path / name).read_bytes(), "x.png").lossy == lossy  # by Pillow


@pytest.mark.parametrize(
  "kind, options, lossy",
  [
    ("TIFF", dict(compression="jpeg"), "lossy TIFF"),
    ("TIFF", dict(compression="tiff_lzw"), ""),
    ("JPEG2000", dict(irreversible=True), "lossy JPEG 2000"),
    ("JPEG2000", dict(irreversible=False), ""),
  ],
)
@pytest.mark.parametrize("name", ["x", "x.png", "x.ending"])
def test_a_lossy_file_of_pillow_is_told(kind, options, lossy, name):
  name = name.replace("ending", {"TIFF": "tif", "JPEG2000": "jp2"}[kind])
  out = io.BytesIO()
  Image.fromarray(DRAWN).save(out, kind, **options)
  assert maps.open_map(out.getvalue(), name).lossy == lossy


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("exif", [b"", b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0"])
def test_a_lossy_webp_is_told_by_its_chunk(alpha, exif):
  pixels = np.repeat(DRAWN[..., None] * 60, 3, -1)
  pixels = np.dstack([pixels, np.full_like(DRAWN, 128)]) if alpha else pixels
  for options, lossy in ((dict(lossless=True), ""), (dict(quality=90), "lossy WebP")):
    stored = image_arrays.read(saved(pixels, "WEBP", exif=exif, **options), as_colours=False)
    assert stored.lossy == lossy
  frames = [Image.fromarray(pixels), Image.fromarray(255 - pixels)]
  for options, lossy in ((dict(lossless=True), ""), (dict(quality=90), "lossy WebP")):
    out = io.BytesIO()
    frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], **options)
    assert image_arrays.read(out.getvalue(), as_colours=False).lossy == lossy


def test_jpegs_of_colours_are_refused(tmp_path, capsys):
  contents = a_set({"0.jpg": rgb(np.array(COLOURS)[DRAWN], "JPEG")}) | {"class_dict.csv": TABLE}
  assert "0.jpg is a JPEG, which changes colours" in "".join(
    (prepared.main(f"--source={write(tmp_path / 'in', contents)}", f"--out={tmp_path / 'out'}") and "")
    or capsys.readouterr().err
  )


# Colours.


@pytest.mark.parametrize(
  "table",
  [
    {"classes.txt": CLASSES, "class_dict.csv": TABLE},
    {"classes.txt": CLASSES, "class_dict.csv": "class, red, green, blue\n" + TABLE[TABLE.index("road") :]},
    {"class_dict.csv": "name,r,g,b\nsky,128,128,128\nroad,128,64,128\ncar,64,0,128\n"},
    {"classes.txt": "sky 128 128 128\nroad 128,64,128\ncar\t(64, 0, 128)\n"},
    {"classes.txt": "sky #808080\nroad: #804080\ncar,#400080\n"},
    {"classes.txt": "128 128 128 sky\n128 64 128 road\n64 0 128 car\n"},
    {
      "labelmap.txt": "# label:color_rgb:parts:actions\n"
      "sky:128,128,128::\nroad:128,64,128::\ncar:64,0,128::\n"
    },
    {"label_colors.txt": "128 128 128\tsky\n128 64 128\t\troad\n64 0 128\tcar\n"},
    {"classes.json": json.dumps({"classes": ["sky", "road", "car"], "colours": COLOURS})},
  ],
)
@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P"])
def test_colours_with_a_table(tmp_path, table, kind):
  pixels = np.array(COLOURS, np.uint8)[DRAWN]
  image = Image.fromarray(pixels)
  image = image.quantize(3) if kind == "P" else image.convert(kind)
  out = io.BytesIO()
  image.save(out, "PNG")
  grey = rgb(np.full((20, 30, 3), 128))  # a map of one class, whose colour is a grey
  contents = a_set({"0.png": out.getvalue(), "1.png": grey}, None) | table
  first, second = read_all(tmp_path, contents)
  np.testing.assert_array_equal(first, DRAWN)
  np.testing.assert_array_equal(second, 0 * DRAWN)


@pytest.mark.parametrize("kind, ending", [("GIF", "gif"), ("BMP", "bmp"), ("TIFF", "tif"), ("NPY", "npy")])
def test_colours_in_other_formats(tmp_path, kind, ending):
  pixels = np.array(COLOURS, np.uint8)[DRAWN]
  encoded = array(pixels) if kind == "NPY" else saved(pixels, kind)
  contents = a_set({f"0.{ending}": encoded}) | {"class_dict.csv": TABLE}
  np.testing.assert_array_equal(read_all(tmp_path, contents)[0], DRAWN)


@pytest.mark.parametrize("given", ["128,128,128;128,64,128;64,0,128", "#808080 #804080 #400080", "file"])
def test_colours_by_a_flag(tmp_path, given):
  if given == "file":
    (tmp_path / "table.csv").write_text(TABLE)
    given = tmp_path / "table.csv"
  pixels = np.array(COLOURS, np.uint8)[DRAWN]
  (values,) = read_all(tmp_path, a_set({"0.png": rgb(pixels)}), f"--colours={given}")
  np.testing.assert_array_equal(values, DRAWN)


def test_colours_are_reported(tmp_path, capsys):
  pixels = np.array(COLOURS, np.uint8)[DRAWN]
  read_all(tmp_path, a_set({"0.png": rgb(pixels)}) | {"class_dict.csv": TABLE})
  printed = capsys.readouterr().out
  assert "maps: classes are read from a table of 3 colours; 1 of 1 looked at are coloured" in printed


def test_colours_without_a_table_are_refused(tmp_path, capsys):
  error = refusal(tmp_path, capsys, a_set({"0.png": rgb(np.array(COLOURS, np.uint8)[DRAWN])}))
  assert "1 of 1 maps looked at are coloured, for example 64,0,128" in error and "class_dict.csv" in error


def test_a_colour_that_is_not_in_the_table_is_named(tmp_path, capsys):
  pixels = np.array([*COLOURS, (1, 2, 3)], np.uint8)
  some = {f"{i}.png": rgb(pixels[DRAWN]) for i in range(3)} | {"3.png": rgb(pixels[DRAWN + (DRAWN == 2)])}
  folder = write(tmp_path / "in", a_set(some) | {"class_dict.csv": TABLE})
  assert prepared.main(f"--source={folder}", f"--out={tmp_path / 'out'}", "--max_bad_fraction=0.5") == 0
  said = capsys.readouterr().err
  assert "3.png has the colour 1,2,3 in 120 pixels, which no class has; if it means no class, give" in said
  mend = "if a class, add its name to classes.txt and this colour to class_dict.csv"
  assert f"give --no_class='1,2,3'; {mend}" in said


def test_numbers_next_to_a_table_of_colours_stay_numbers(tmp_path):
  contents = a_set({"0.png": png(DRAWN), "1.png": png(0 * DRAWN)}) | {"class_dict.csv": TABLE}
  for values, expected in zip(read_all(tmp_path, contents), (DRAWN, 0 * DRAWN), strict=True):
    np.testing.assert_array_equal(values, expected)


def test_values_that_are_labels_are_no_colours(tmp_path):
  table = {"class_dict.csv": "name,r,g,b\nsky,9,9,9\nroad,1,1,1\ncar,0,0,0\n"}
  np.testing.assert_array_equal(read_all(tmp_path, a_set({"0.png": png(HALVES)}) | table)[0], HALVES)


def test_greys_of_a_table(tmp_path):
  contents = a_set({"0.png": png(HALVES * 200)}, None)
  contents |= {"class_dict.csv": "name,r,g,b\nobject,200,200,200\nbackground,0,0,0\n"}
  np.testing.assert_array_equal(read_all(tmp_path, contents)[0], 1 - HALVES)


@pytest.mark.parametrize(
  "name, text, message",
  [
    ("class_dict.csv", "label|r|g|b\nsky|1|2|3\n", "must begin with the line name,r,g,b"),
    ("class_dict.csv", "name,r,g,b\nsky,1,2\n", "needs a name and three numbers from 0 to 255 in each row"),
    ("class_dict.csv", "name,r,g,b\nsky,1,2,300\n", "needs a name and three numbers from 0 to 255"),
    ("class_dict.csv", "name,r,g,b\nsky,1,2,3\nroad,1,2,3\n", "gives two classes the colour 1,2,3"),
    ("classes.txt", "sky 1 2 3\nroad\n", "line 2 has no colour, but others have"),
    ("classes.txt", "sky 1 2 3\nroad 1 2 999\n", "line 2 has no colour; its numbers must be from 0 to 255"),
    ("classes.json", '{"classes": ["a", "b"], "colours": [[1, 2, 3]]}', "colours must hold"),
    ("classes.json", '{"classes": ["a", "b"], "label_values": [1, 1]}', "label_values must hold a different"),
  ],
)
def test_unusable_tables_are_one_line(name, text, message):
  assert message in prepared.refused(class_files.parse, name, text, f"set/{name}")


def test_tables_that_contradict_each_other_are_refused(tmp_path, capsys):
  contents = a_set({"0.png": png(DRAWN)}) | {"class_dict.csv": TABLE.replace("car", "bus")}
  assert "class_dict.csv has no colour for the class car" in refusal(tmp_path, capsys, contents)


# Three equal channels, palettes, other values and types.


def test_three_equal_channels_are_one(tmp_path, capsys):
  pixels = np.stack([DRAWN] * 3, -1)
  contents = a_set({"0.png": rgb(pixels), "1.bmp": rgb(pixels, "BMP"), "2.png": png(DRAWN)})
  for values in read_all(tmp_path, contents):
    np.testing.assert_array_equal(values, DRAWN)
  assert "maps: 2 of 3 looked at have three equal channels, which are read as one" in capsys.readouterr().out


def test_palettes_that_differ_are_reported(tmp_path, capsys):
  encoded = []
  for colour in ((0, 0, 0), (9, 9, 9)):
    image = Image.fromarray(DRAWN, "P")
    image.putpalette([*colour, 128, 0, 0, 0, 128, 0] + [0] * 759)
    out = io.BytesIO()
    image.save(out, "PNG")
    encoded.append(out.getvalue())
  for values in read_all(tmp_path, a_set({"0.png": encoded[0], "1.png": encoded[1]})):
    np.testing.assert_array_equal(values, DRAWN)
  assert "1 of 2 looked at give a value another colour than the others do" in capsys.readouterr().err


@pytest.mark.parametrize(
  "kind, dtype",
  [(kind, dtype) for kind in ("npy", "tif") for dtype in TYPES] + [("npy", ">i4"), ("npy", "f2")],
)
def test_all_types(tmp_path, dtype, kind):
  values = DRAWN.astype(dtype)
  encoded = array(values)
  if kind == "tif":
    encoded = write_tif(tmp_path / "x.tif", values[..., None]).read_bytes()
  reader = maps.Reader(class_files.parse("classes.txt", CLASSES, "x"))
  for window in (None, rasters.Window(2, 3, 10, 20)):
    np.testing.assert_array_equal(
      reader.read(encoded, f"x.{kind}", window), DRAWN[window.slices] if window else DRAWN
    )


@pytest.mark.parametrize(
  "values, dtype",
  [((0, 100, 200), "u1"), ((11, 523, 70000), "i4"), ((-1, 0, 1), "i2"), ((0, 10**9, 255), "i8")],
)
def test_values_with_gaps(tmp_path, values, dtype, capsys):
  held = np.array(values, dtype)[DRAWN]
  flag = f"--label_values={','.join(map(str, values))}"
  (read_back,) = read_all(tmp_path, a_set({"0.npy": array(held)}), flag)
  np.testing.assert_array_equal(read_back, DRAWN)
  assert f"{values[2]} is car" in capsys.readouterr().out
  contents = a_set({"0.npy": array(held)}, None)
  contents["classes.json"] = json.dumps({"classes": ["sky", "road", "car"], "label_values": values})
  np.testing.assert_array_equal(read_all(tmp_path / "json", contents)[0], DRAWN)


def test_values_with_gaps_are_refused_with_the_flag_that_reads_them(tmp_path, capsys):
  error = refusal(tmp_path, capsys, a_set({"0.png": png(DRAWN * 100)}))
  assert "the maps hold the values 0,100,200, but labels are numbers from 0 to 2" in error
  assert "give --label_values=0,100,200" in error


@pytest.mark.parametrize(
  "flags, message",
  [
    (
      ["--label_values=1,2"],
      "--label_values gives 2, but .* has 3 classes: give one for each of sky, road, car",
    ),
    (["--label_values=1,1,2"], "must be a different whole number for each class"),
    (["--label_values=a"], "must be a different whole number for each class"),
    (["--colours=1,2,3"], "--colours gives 1, but .* has 3 classes"),
    (["--colours=1,2"], "'1,2' is not a colour"),
    (["--colours=1,2,3;1,2,3;4,5,6"], "each class needs its own colour"),
    (["--colours=absent.csv"], "must be a file like class_dict.csv"),
    (["--values_nodata=0"], "--values_nodata applies to maps of numbers"),
  ],
)
def test_flags_that_do_not_fit(tmp_path, capsys, flags, message):
  import re

  assert re.search(message, refusal(tmp_path, capsys, a_set({"0.png": png(DRAWN)}), *flags))


def test_flags_of_maps_need_maps(tmp_path, capsys):
  contents = {f"train/cat/{i}.jpg": jpeg(9, 9, i) for i in range(2)}
  error = refusal(tmp_path, capsys, contents, "--label_values=0,1")
  assert "--colours, --label_values and --no_class apply to maps of classes" in error


def test_labels_that_are_no_whole_numbers_are_named(tmp_path, capsys):
  some = {"0.npy": array(DRAWN + np.float32(0.5))}
  folder = write(tmp_path / "in", a_set(some))
  assert prepared.main(f"--source={folder}", f"--out={tmp_path / 'out'}") == 2
  assert "0.npy has value 0.5; labels are whole numbers" in capsys.readouterr().err


# One meaning, whatever the size, tile or container.


def test_a_declared_value_is_no_class_whatever_the_size_tile_or_container(tmp_path, capsys):
  large = np.random.default_rng(0).integers(0, 3, (96, 96), np.uint8)
  expected = np.where(large == 0, 255, large)
  for name, values in (("large", large), ("small", large[:40, :40])):
    write_tif(tmp_path / "in/train/images" / f"{name}.tif", scene(0, *values.shape, dtype=np.uint16))
    write_tif(tmp_path / "in/train/labels" / f"{name}.tif", values[..., None], nodata=0)
  write(tmp_path / "in", {"classes.txt": CLASSES})
  with zipfile.ZipFile(tmp_path / "in.zip", "w") as file:
    for path in sorted((tmp_path / "in").rglob("*.*")):
      file.write(path, path.relative_to(tmp_path / "in"))
  for tile in (0, 32, 64):
    for source in ("in", "in.zip"):
      out = tmp_path / f"{source}-{tile}"
      assert prepared.main(f"--source={tmp_path / source}", f"--out={out}", f"--tile={tile}") == 0
      stored = open_source("array_record", str(out), "train", Target.LABELS)
      for i in range(len(stored)):
        name, _, corner = stored[i].name.partition(" at ")
        top, left = map(int, corner.split(",")) if corner else (0, 0)
        target = decoding.DecodeMapped(5, "float32")(stored[i]).target
        height, width = target.shape
        np.testing.assert_array_equal(target, expected[top : top + height, left : left + width], name)
  printed = capsys.readouterr()
  assert "maps: 2 of 2 looked at declare pixels as no data or transparent; these are no class" in printed.out
  assert "all pixels of the value of class sky are declared as no data" in printed.err


@pytest.mark.parametrize(
  "dtype, nodata", [("i2", -1), ("f4", -9999), ("f8", float("nan")), ("u4", 2**32 - 1)]
)
def test_declared_values_of_all_types(tmp_path, dtype, nodata):
  held = DRAWN.astype(dtype)
  held[:5] = nodata
  path = write_tif(tmp_path / "x.tif", held[..., None], nodata=nodata)
  expected = np.where(np.arange(20)[:, None] < 5, 255, DRAWN)
  reader = maps.Reader(class_files.parse("classes.txt", CLASSES, "x"))
  for file in (str(path), path.read_bytes()):
    np.testing.assert_array_equal(reader.read(file, "x.tif"), expected)
    window = rasters.Window(3, 4, 6, 7)
    np.testing.assert_array_equal(reader.read(file, "x.tif", window), expected[window.slices])


def test_transparent_pixels_of_a_map_have_no_class(tmp_path, capsys):
  pixels = np.dstack([*[DRAWN] * 3, np.full_like(DRAWN, 255)])
  pixels[:5, :, 3] = 0
  (values,) = read_all(tmp_path, a_set({"0.png": rgb(pixels)}))
  np.testing.assert_array_equal(values, np.where(np.arange(20)[:, None] < 5, 255, DRAWN))
  assert "declare pixels as no data or transparent" in capsys.readouterr().out


def test_transparent_pixels_between_colours_take_no_class_away(tmp_path, capsys):
  painted = np.dstack([PAINTED, np.full(PAINTED.shape[:2], 255, np.uint8)])
  painted[:3] = 0
  contents = a_set({"0.png": saved(painted, "PNG")}) | {"class_dict.csv": TABLE}
  (target,) = read_all(tmp_path, contents)
  assert (target[:3] == labels.NONE).all()
  assert "so the class does not occur" not in "".join(capsys.readouterr())


def test_a_class_that_is_wholly_transparent_is_reported_with_its_mend(tmp_path, capsys):
  alpha = np.where(DRAWN == 1, 0, 255).astype(np.uint8)
  read_all(tmp_path, a_set({"0.png": saved(np.dstack([DRAWN, alpha]), "PNG", "LA")}))
  said = " ".join("".join(capsys.readouterr()).split())
  assert "all pixels of the value of class road are declared as no data" in said
  assert "if that is a mistake, save the maps without transparency" in said


@pytest.mark.parametrize("declared", [0, b"\0\xff\xff", 1])
def test_a_transparent_index_of_a_palette_is_a_class(declared, tmp_path, capsys):
  image = Image.fromarray(DRAWN).convert("P")
  image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
  out = io.BytesIO()
  image.save(out, "PNG", transparency=declared)
  (values,) = read_all(tmp_path, a_set({"0.png": out.getvalue()}))
  np.testing.assert_array_equal(values, DRAWN)
  assert "1 of 1 looked at declare colours as transparent; their pixels keep" in capsys.readouterr().out


def test_a_transparent_colour_of_a_map_is_a_class(tmp_path, capsys):
  encoded = rgb(np.array(COLOURS, np.uint8)[DRAWN], transparency=tuple(COLOURS[0]))
  (values,) = read_all(tmp_path, a_set({"0.png": encoded}, classes="") | {"class_dict.csv": TABLE})
  np.testing.assert_array_equal(values, np.array([2, 0, 1])[DRAWN])  # the table's order
  assert "declare colours as transparent; their pixels keep" in capsys.readouterr().out


def test_numbers_are_read_alike(tmp_path):
  values = np.random.default_rng(0).integers(0, 200, (20, 30), np.uint8)
  reader = maps.Reader(None, nodata=7.0)
  expected = np.where(values == 7, np.nan, values.astype(np.float32))
  encoded = {
    "x.png": png(values),
    "y.png": rgb(np.stack([values] * 3, -1)),
    "x.bmp": saved(values, "BMP"),
    "x.gif": saved(values, "GIF"),
    "x.npy": array(values.astype(np.int64)),
    "x.tif": saved(values.astype(np.float32), "TIFF"),
    "z.png": saved(values.astype(np.uint16), "PNG"),
  }
  for name, content in encoded.items():
    result = reader.read(content, name)
    assert result.dtype == np.float32, name
    np.testing.assert_array_equal(result, expected, name)
  with pytest.raises(ValueError, match="has 3 bands, but must have one, or three that are equal"):
    reader.read(rgb(np.stack([values, values, 255 - values], -1)), "x.png")


def test_old_sets_keep_their_listing():
  """The checksum of a set whose maps are read as before is that of older versions."""
  classes = class_files.parse("classes.txt", CLASSES, "x")
  table = np.full(256, -1, np.int16)
  table[:3], table[255] = range(3), 255
  assert maps.Reader(classes).meaning == table.tobytes() == labels.numbered(classes.names).meaning
  assert maps.Reader(classes._replace(colours=COLOURS)).meaning != b""


def test_the_meaning_of_maps_is_part_of_a_set(tmp_path):
  contents = a_set({"0.png": png(HALVES * 255)}, TWO)
  folder = write(tmp_path / "in", contents)
  prepared.run(folder, tmp_path / "out")
  assert prepared.main(f"--source={folder}", f"--out={tmp_path / 'out'}", "--label_values=0,1") == 2


def test_files_of_a_set_as_before_are_read_as_before(tmp_path):
  contents = files(splits=("train",)) | {"classes.txt": CLASSES}
  folder = pathlib.Path(write(tmp_path / "in", contents))
  prepared.run(folder, tmp_path / "out")
  for i, values in enumerate(read(tmp_path / "out")):
    np.testing.assert_array_equal(values, np.asarray(Image.open(folder / f"train/labels/{i}.png")))


# No class.


def test_values_of_no_class(tmp_path, capsys):
  drawn = np.where(DRAWN == 2, 9, DRAWN).astype(np.uint8)
  drawn[0, 0] = 7
  folder = write(tmp_path / "a", a_set({"0.png": png(drawn)}))
  assert prepared.main(f"--source={folder}", f"--out={tmp_path / 'out'}") == 2
  said = capsys.readouterr().err
  assert "if they mean no class, give --no_class='7;9'; if a class, add its name to classes.txt" in said
  (values,) = read_all(tmp_path / "b", a_set({"0.png": png(drawn)}), "--no_class=7;9")
  np.testing.assert_array_equal(values, np.where(drawn > 2, 255, drawn))


def test_colours_of_no_class(tmp_path):
  pixels = np.array([*COLOURS, (1, 2, 3)], np.uint8)[DRAWN + (DRAWN == 2)]
  contents = a_set({"0.png": rgb(pixels)}) | {"class_dict.csv": TABLE}
  expected = np.where(DRAWN == 2, 255, DRAWN)
  for i, given in enumerate(("1,2,3", "#010203", "7,7,7;1,2,3", "7,7,7;007,7,7;1,2,3;#010203")):
    (values,) = read_all(tmp_path / str(i), contents, f"--no_class={given}")
    np.testing.assert_array_equal(values, expected)
  names = {"classes": ["sky", "void", "road", "car"], "ignore_index": 1}
  names["colours"] = [COLOURS[0], (1, 2, 3), *COLOURS[1:]]
  contents = a_set({"0.png": rgb(pixels)}) | {"classes.json": json.dumps(names)}
  contents.pop("classes.txt")
  (values,) = read_all(tmp_path / "json", contents)
  np.testing.assert_array_equal(values, expected)


@pytest.mark.parametrize(
  "pixels, given, message",
  [
    (DRAWN, "224,224,192", "colour 224,224,192, but the maps of {} are read by value; give the value"),
    (DRAWN, "9;224,224,192", "colour 224,224,192, but the maps of {} are read by value; give the value"),
    (PAINTED, "9", "value 9, but the maps of {} are read by colour; give the colour"),
    (PAINTED, "9;1,2,3", "value 9, but the maps of {} are read by colour; give the colour"),
  ],
)
def test_no_class_gives_what_the_maps_hold(pixels, given, message, tmp_path, capsys):
  encoded = png(pixels) if pixels.ndim == 2 else rgb(pixels)
  contents = a_set({"0.png": encoded}) | ({"class_dict.csv": TABLE} if pixels.ndim == 3 else {})
  said = refusal(tmp_path, capsys, contents, f"--no_class={given}")
  assert f"--no_class gives the {message.format(tmp_path / 'in')}" in said


def test_a_stray_value_names_a_flag_only_where_it_can_be_given(tmp_path, capsys):
  drawn = DRAWN.copy()
  drawn[0, 0] = 9
  folder = write(tmp_path / "in", a_set({"0.png": png(drawn)}))
  assert prepared.main(f"--source={folder}", f"--out={tmp_path / 'out'}") == 2
  assert "; if it means no class, give --no_class='9'; if a class, add its name to" in capsys.readouterr().err
  with pytest.raises(ValueError, match="; if it means no class, prepare the folder with --no_class='9'; "):
    open_source("folder", folder, "train", Target.LABELS)[0]
  truth = Truth("--labels", f"{folder}/train/labels", 3)
  with pytest.raises(ValueError, match=r"only 3 classes \(0–2\); if a class, add its name to classes.txt"):
    truth._split.read_map(truth._tree, "0.png")


def test_many_stray_values_are_not_listed():
  classes = labels.numbered(("sky", "road"))
  eight, nine = (np.arange(2, 2 + count, dtype=np.uint8)[None] for count in (8, 9))
  with pytest.raises(ValueError, match="if they mean no class, give --no_class='2;3;4;5;6;7;8;9'; if"):
    labels.from_values(eight, classes, void_by="give --no_class")
  with pytest.raises(
    ValueError, match="if they mean no class, give --no_class, with all of them; if a class"
  ):
    labels.from_values(nine, classes, void_by="give --no_class")


def test_a_stray_value_of_classes_with_values_is_added_to_them():
  classes = labels.Classes(("sky",), {100: 0}, are_numbered=False)
  with pytest.raises(ValueError, match="if a class, add its name and its value to the classes of the set"):
    labels.from_values(np.zeros((1, 1), np.uint8), classes)


def test_255_of_no_class_in_masks(tmp_path):
  (values,) = read_all(tmp_path, a_set({"0.png": png(HALVES * 255)}, TWO), "--no_class=255")
  np.testing.assert_array_equal(values, HALVES * 255)


@pytest.mark.parametrize(
  "given, message",
  [
    ("0", "--no_class gives 0, which is class sky; if its value is another, give --label_values too"),
    ("64,0,128", "--no_class gives 64,0,128, which is the colour of class car"),
    ("1,2", "must be values, or colours like 255,255,255"),
    ("x", "must be values, or colours"),
    ("", "must be values, or colours"),
  ],
)
def test_what_cannot_be_no_class(given, message, tmp_path, capsys):
  contents = a_set({"0.png": png(DRAWN)}) | {"class_dict.csv": TABLE}
  folder = write(tmp_path / "in", contents)
  assert prepared.main(f"--source={folder}", f"--out={tmp_path / 'out'}", f"--no_class={given}") == 2
  assert message in capsys.readouterr().err


@pytest.mark.parametrize("between", [",", ";", "\t"])
@pytest.mark.parametrize(
  "name", ["class_dict.csv", "classes.txt", "label_colors.txt", "flag.csv", "flag.tsv"]
)
def test_what_divides_the_cells_of_tables_of_colours(name, between, tmp_path):
  table = TABLE.replace(",", between)
  if name.endswith(".txt"):
    table = table.partition("\n")[2]
  pixels = np.array(COLOURS, np.uint8)[DRAWN]
  classes = table if name == "classes.txt" else CLASSES
  contents = a_set({"0.png": rgb(pixels)}, classes)
  if name.startswith("flag"):
    (tmp_path / name).write_text(table)
    (values,) = read_all(tmp_path, contents, f"--colours={tmp_path / name}")
  else:
    (values,) = read_all(tmp_path, contents | {name: table})
  order = ["road", "car", "sky"] if name == "classes.txt" else CLASSES.split()
  expected = np.array([order.index(each) for each in ("sky", "road", "car")])[DRAWN]
  np.testing.assert_array_equal(values, expected)


def test_a_table_that_is_divided_otherwise_is_refused(tmp_path, capsys):
  pixels = np.array(COLOURS, np.uint8)[DRAWN]
  contents = a_set({"0.png": rgb(pixels)}) | {"class_dict.csv": TABLE.replace(",", "|")}
  assert "class_dict.csv must begin with the line name,r,g,b; it has name|r|g|b" in refusal(
    tmp_path, capsys, contents
  )
