"""Each folder of cases that `prepare` reads does what its README asks for; the tests have its name."""

import collections
import json
import shutil

import numpy as np
from PIL import Image
import pytest
import rasterio

from swin_jax.data.read import array_files, labels, targets
from swin_jax.data.read.targets import Target
from tests.support import cases
from tests.support.opened import open_source
from tests.support.prepared import main, read


def pixels(out, split="train", target=Target.LABELS) -> dict[int, int]:
  """Returns {class: pixels} of a split of a set with label maps."""
  prepared_set = open_source("array_record", str(out), split, target)
  maps = [targets.decode(prepared_set[i].target) for i in range(len(prepared_set))]
  return dict(sorted(collections.Counter(np.concatenate([each.ravel() for each in maps]).tolist()).items()))


def classes(out, split="train") -> dict[str, int]:
  """Returns {class: images} of a split."""
  prepared_set = read(out, split)
  numbers = (prepared_set[i].label for i in range(len(prepared_set)))
  return dict(collections.Counter(prepared_set.class_names[number] for number in numbers))


def refusal(capsys, source, out, *flags) -> str:
  """Returns the one line with which the command refuses; it leaves nothing behind."""
  capsys.readouterr()
  assert main(source, out, *flags) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and not out.exists(), error
  return error


@pytest.mark.parametrize("name", ["set", "set_f32", "set_i16"])
def test_01_label_nodata_two_readers(name, tmp_path, capsys):
  source = cases.copy("01-label-nodata-two-readers", tmp_path) / name
  archive = shutil.make_archive(str(tmp_path / "packed"), "zip", source)
  for split in ("train", "val"):
    expected = collections.Counter()
    for path in (source / split / "labels").iterdir():
      with rasterio.open(path) as raster:
        numbers, declared = raster.read(1), raster.nodata
      expected.update(int(labels.NONE if x == declared else x) for x in numbers.ravel())
    for container in (source, archive):
      for tile in (0, 16, 32):
        out = tmp_path / f"{split}-{tile}-{str(container).endswith('zip')}"
        assert main(container, out, f"--tile={tile}", f"--split={split}") == 0
        assert pixels(out, split) == dict(expected)
  said = capsys.readouterr().err
  assert ("of class water are declared as no data, so the class does not occur" in said) == (name == "set")


@pytest.mark.parametrize("name, objects", [("set", "object"), ("set_jpg", "polyp")])
def test_02_mask_0_255(name, objects, tmp_path, capsys):
  source = cases.copy("02-mask-0-255", tmp_path) / name
  assert main(source, tmp_path / "out") == 0
  assert f"0 is class background and 255 is class {objects}, because" in capsys.readouterr().out
  count = sum(1 for _ in source.rglob("*.jpg")) // 2 if name == "set_jpg" else 6
  assert pixels(tmp_path / "out") == {0: count * 384, 1: count * 1920}
  if name == "set":  # nothing is guessed where the values are given
    assert main(source, tmp_path / "asked", "--label_values=0,1") == 0
    assert pixels(tmp_path / "asked") == {0: 2304, labels.NONE: 11520}
    assert "STRANGE: class object: no pixel in the set" in capsys.readouterr().out


@pytest.mark.parametrize(
  "name, images, maps, splits, left",
  [
    ("mmseg", "img_dir/{}/*.jpg", "ann_dir/{}/*.png", dict(train=6, val=6), ""),
    ("singular", "{}/image/*.jpg", "{}/mask/*.png", dict(train=6, val=6), ""),
    ("voc", "JPEGImages/*.jpg", "SegmentationClass/*.png", dict(train=3), "3 .jpg, 3 .png"),
  ],
)
def test_03_pixel_layouts_a(name, images, maps, splits, left, tmp_path, capsys):
  source = cases.copy("03-pixel-layouts-a", tmp_path) / name
  assert main(source, tmp_path / "out") == 0
  said = capsys.readouterr().out
  assert "the map of " in said and "--images= and --labels= override" in said
  assert ("STRANGE: files not read: " + left in said) == bool(left)
  names = tuple((source / "classes.txt").read_text().split())
  for split, count in splits.items():
    prepared_set = open_source("array_record", str(tmp_path / "out"), split, Target.LABELS)
    assert len(prepared_set) == count and prepared_set.class_names == names
    stems = [prepared_set[i].name.rpartition("/")[2].partition(".")[0] for i in range(count)]
    expected = collections.Counter()
    for path in source.glob(maps.format(split)):
      if path.stem in stems:
        expected.update(np.asarray(Image.open(path)).ravel().tolist())
    assert pixels(tmp_path / "out", split) == dict(sorted(expected.items()))


def test_06_split_names_a(tmp_path, capsys):
  source = cases.copy("06-split-names-a", tmp_path) / "set"
  assert main(source, tmp_path / "out") == 0
  assert "splits: training_set → train, test_set → val; --splits= overrides" in capsys.readouterr().out
  for split, name in (("train", "training_set"), ("val", "test_set")):
    folders = [path for path in (source / name).iterdir() if path.is_dir()]
    assert classes(tmp_path / "out", split) == {path.name: len([*path.iterdir()]) for path in folders}


def test_09_alpha_band_as_data(tmp_path, capsys):
  source = cases.copy("09-alpha-band-as-data", tmp_path) / "set"
  assert main(source, tmp_path / "out", "--tile=32") == 0
  assert "4 of 4 rasters looked at declare a band as alpha" in capsys.readouterr().out
  opaque = 0
  for path in source.iterdir():
    with rasterio.open(path) as raster:
      opaque += int((raster.read(4) > 0).sum())
  tiles = read(tmp_path / "out")
  arrays = [array_files.unpack(tiles[i].image) for i in range(len(tiles))]
  assert len(arrays) == 8 and {each.shape[-1] for each in arrays} == {3}
  assert sum(int((~np.isnan(each)).all(-1).sum()) for each in arrays) == opaque
  assert len(json.loads((tmp_path / "out" / "statistics.json").read_text())["mean"]) == 3
  assert main(source, tmp_path / "kept", "--tile=32", "--keep_alpha") == 0
  assert json.loads((tmp_path / "kept" / "statistics.json").read_text())["mean"][3] == pytest.approx(127.5)
  assert len(read(tmp_path / "kept")) == 16


@pytest.mark.parametrize("flags", [[], ["--tile=16"], ["--tile=32"]])
def test_11_float64_sentinel(flags, tmp_path, recwarn):
  source = cases.copy("11-float64-sentinel", tmp_path) / "set"
  assert main(source, tmp_path / "out", *flags) == 0
  assert not [each for each in recwarn if issubclass(each.category, RuntimeWarning)]
  values = []
  for path in source.iterdir():
    with rasterio.open(path) as raster:
      numbers = raster.read()
      values.append(numbers[:, (numbers > -1e300).all(0)])
  values = np.concatenate(values, -1)
  statistics = json.loads((tmp_path / "out" / "statistics.json").read_text())
  assert statistics["min"] == pytest.approx(values.min(-1)) and statistics["max"] == pytest.approx(
    values.max(-1)
  )
  assert statistics["mean"] == pytest.approx(values.mean(-1)) and np.isfinite(statistics["std"]).all()


def test_14_skipped_extensions(tmp_path, capsys):
  source = cases.copy("14-skipped-extensions", tmp_path) / "set"
  assert main(source, tmp_path / "out") == 0
  said = capsys.readouterr().out
  assert classes(tmp_path / "out") == dict(cat=11, dog=11)
  assert "STRANGE: files not read: 1 .heic" in said
  for file in ("dog/e.gif", "cat/d.jfif", "dog/f.avif", "dog/g.jp2"):
    alone = tmp_path / file.replace("/", "_") / "x"
    alone.mkdir(parents=True)
    shutil.copy(source / file, alone)
    assert main(alone.parent, tmp_path / "alone" / file) == 0
    assert len(read(tmp_path / "alone" / file)) == 1


def test_16_hold_out_not_stratified(tmp_path, capsys):
  source = cases.copy("16-hold-out-not-stratified", tmp_path) / "set"
  assert main(source, tmp_path / "out", "--hold_out=0.1") == 0
  assert classes(tmp_path / "out") == dict(common=36, rare=1)
  assert classes(tmp_path / "out", "val") == dict(common=4, rare=1)
  assert "STRANGE: all images of val are also in train" in capsys.readouterr().out  # they are all equal


def test_27_maps_folder_message(tmp_path, capsys):
  source = cases.copy("27-maps-folder-message", tmp_path)
  said = refusal(capsys, source / "coco", tmp_path / "out")
  assert "annotations holds no label map, only .json: boxes, polygons and text are not read" in said
  assert main(source / "npy", tmp_path / "out") == 0
  for split in ("train", "val"):
    arrays = [np.load(path) for path in (source / "npy" / split / "labels").iterdir()]
    assert pixels(tmp_path / "out", split) == dict(
      sorted(collections.Counter(np.ravel(arrays).tolist()).items())
    )


def test_29_zip_backslashes(tmp_path):
  assert main(cases.copy("29-zip-backslashes", tmp_path) / "backslash.zip", tmp_path / "out") == 0
  assert classes(tmp_path / "out") == dict(cat=6, dog=6)


@pytest.mark.parametrize("flags, tiles, side", [([], 4, 64), (["--tile=32"], 16, 32)])
def test_30_preview_beside_rasters(flags, tiles, side, tmp_path, capsys):
  assert main(cases.copy("30-preview-beside-rasters", tmp_path) / "set", tmp_path / "out", *flags) == 0
  said = capsys.readouterr().out
  assert (
    "image files that are not used: the top folder (1)" in said and "STRANGE: files not read: 1 .jpg" in said
  )
  assert {array_files.unpack(read(tmp_path / "out")[i].image).shape for i in range(tiles)} == {
    (side, side, 6)
  }
  assert len(read(tmp_path / "out")) == tiles


def test_31_huge_image(tmp_path, capsys):
  source = cases.copy("31-huge-image", tmp_path) / "set"
  assert main(source, tmp_path / "out") == 2
  said = capsys.readouterr().err
  assert "a/huge.png: has 9,500 × 20,000 pixels, more than" in said and "raise --max_pixels" in said
  assert "bomb" not in said
  assert main(source, tmp_path / "out", "--max_pixels=200000000", "--short_side=40") == 0
  assert len(read(tmp_path / "out")) == 3


@pytest.mark.ci
def test_31_huge_image_is_cut(tmp_path):
  source = cases.copy("31-huge-image", tmp_path) / "set"
  assert main(source, tmp_path / "tiles", "--max_pixels=200000000", "--tile=4000") == 0
  assert len(read(tmp_path / "tiles")) == 2 + 2 * 5  # 9,500 and 20,000 pixels in tiles of 4,000 to 8,000


def test_33_colour_coded_masks(tmp_path, capsys):
  source = cases.copy("33-colour-coded-masks", tmp_path)
  assert main(source / "gray3", tmp_path / "grey") == 0
  assert (
    "maps: 12 of 12 looked at have three equal channels, which are read as one" in capsys.readouterr().out
  )
  greys, colours = collections.Counter(), collections.Counter()
  for name, counts in (("gray3", greys), ("rgb", colours)):
    for path in (source / name / "train" / "labels").iterdir():
      counts.update(map(tuple, np.asarray(Image.open(path)).reshape(-1, 3).tolist()))
  assert pixels(tmp_path / "grey") == {grey: count for (grey, _, _), count in sorted(greys.items())}
  said = refusal(capsys, source / "rgb", tmp_path / "rgb")
  assert "12 of 12 maps looked at are coloured" in said and "class_dict.csv" in said and "--colours=" in said
  in_order = sorted(colours)
  expected = {i: colours[colour] for i, colour in enumerate(in_order)}
  flag = "--colours=" + ";".join(",".join(map(str, colour)) for colour in in_order)
  assert main(source / "rgb", tmp_path / "rgb", flag) == 0 and pixels(tmp_path / "rgb") == expected
  names = (source / "rgb" / "classes.txt").read_text().split()
  rows = [f"{name},{','.join(map(str, colour))}" for name, colour in zip(names, in_order, strict=True)]
  (source / "rgb" / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows]))
  assert main(source / "rgb", tmp_path / "table") == 0 and pixels(tmp_path / "table") == expected
