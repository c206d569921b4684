"""Sets laid out as their owners publish them become prepared sets by one command, with no file renamed."""

import collections
import os
import subprocess
import sys
import tarfile
import zipfile

import numpy as np
from PIL import Image
import pytest
import rasterio

from swin_jax.data.prepare import splits
from swin_jax.data.read import array_files, targets
from swin_jax.data.read.targets import Target
from tests.support import images
from tests.support.label_sets import CLASSES, jpeg, png, write
from tests.support.opened import open_source
from tests.support.prepared import main as run
from tests.support.prepared import read
from tests.support.rasters import scene, write_tif

SIZE = (12, 16)


def label_map(seed):
  values = np.random.default_rng(seed).integers(0, 4, SIZE)
  return png(np.where(values == 3, 255, values))


def mmsegmentation():
  """Returns {path: content}, {split: [paths of maps]}, {ending: files that are not read}."""
  contents, maps = (
    {"my_set/classes.txt": CLASSES, "my_set/README.md": "read me"},
    collections.defaultdict(list),
  )
  for split, count in (("train", 5), ("val", 3)):
    for i in range(count):
      contents[f"my_set/img_dir/{split}/{split}{i}.jpg"] = jpeg(*SIZE, i)
      maps[split].append(f"my_set/ann_dir/{split}/{split}{i}.png")
  return contents, maps, {".md": 1}


def cityscapes():
  contents, maps = {"classes.txt": CLASSES, "license.txt": "free"}, collections.defaultdict(list)
  for split, cities in (("train", ("aachen", "bochum")), ("val", ("lindau",)), ("test", ("berlin",))):
    for city in cities:
      for i in range(3):
        name = f"{split}/{city}/{city}_{i:06}_000019"
        contents[f"leftImg8bit/{name}_leftImg8bit.png"] = images.encode(i, SIZE[::-1])
        contents[f"gtFine/{name}_gtFine_color.png"] = images.encode(i, SIZE[::-1])
        contents[f"gtFine/{name}_gtFine_instanceIds.png"] = png(np.full(SIZE, 9))
        contents[f"gtFine/{name}_gtFine_polygons.json"] = "{}"
        maps[split].append(f"gtFine/{name}_gtFine_labelIds.png")
  return contents, maps, {".json": 12, ".png": 24, ".txt": 1}


def voc():
  top = "VOCdevkit/VOC2012"
  contents, maps = {f"{top}/classes.txt": CLASSES}, collections.defaultdict(list)
  for i in range(14):
    contents[f"{top}/JPEGImages/2007_{i:06}.jpg"] = jpeg(*SIZE, i)
    contents[f"{top}/Annotations/2007_{i:06}.xml"] = "<annotation/>"
  for i in range(8):
    contents[f"{top}/SegmentationObject/2007_{i:06}.png"] = png(np.full(SIZE, 9))
    maps["train" if i < 5 else "val"].append(f"{top}/SegmentationClass/2007_{i:06}.png")
  listing = lambda first, last: "".join(f"2007_{i:06}\n" for i in range(first, last))
  for kind, ends in (("Segmentation", (0, 5, 8)), ("Main", (0, 9, 14))):
    contents[f"{top}/ImageSets/{kind}/train.txt"] = listing(*ends[:2])
    contents[f"{top}/ImageSets/{kind}/val.txt"] = listing(*ends[1:])
    contents[f"{top}/ImageSets/{kind}/trainval.txt"] = listing(ends[0], ends[2])
  contents[f"{top}/ImageSets/Main/cat_train.txt"] = "2007_000000 -1\n"
  return contents, maps, {".jpg": 6, ".png": 8, ".txt": 5, ".xml": 14}


def counts(values):
  return collections.Counter(np.asarray(values).ravel().tolist())


def packed(path, folder):
  """Packs a folder as the archive that the name of a file asks for."""
  files = [(str(file.relative_to(folder)), file) for file in sorted(folder.rglob("*")) if file.is_file()]
  if path.suffix == ".zip":
    with zipfile.ZipFile(path, "w") as archive:
      for name, file in files:
        archive.write(file, name)
  else:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
      for name, file in files:
        archive.add(file, name)
  return path


@pytest.mark.parametrize("make", [mmsegmentation, cityscapes, voc])
@pytest.mark.parametrize("packing", ["", "set.zip", "set.tar", "set.tar.gz"])
def test_every_pixel_of_every_class_arrives(make, packing, tmp_path):
  contents, maps, unread = make()
  for i, path in enumerate(path for split in maps.values() for path in split):
    contents[path] = label_map(i)
  write(tmp_path / "set", contents)
  source = packed(tmp_path / packing, tmp_path / "set") if packing else tmp_path / "set"
  assert run(source, tmp_path / "out") == 0
  for split, expected in maps.items():
    prepared = open_source("array_record", str(tmp_path / "out"), split, Target.LABELS)
    assert len(prepared) == len(expected) and prepared.class_names == ("sky", "road", "car")
    counted = sum((counts(targets.decode(prepared[i].target)) for i in range(len(prepared))), counts([]))
    stored = (Image.open(tmp_path / "set" / path) for path in expected)
    assert counted == sum(map(counts, stored), counts([]))
  plan = splits.make_plan(str(source), "", 0)
  assert plan.unread == unread
  read_files = 2 * sum(map(len, maps.values())) + 1 + 2 * (make is voc)  # with classes.txt, and two lists
  assert read_files + sum(unread.values()) == len(contents)


@pytest.mark.parametrize("make", [mmsegmentation, cityscapes, voc])
def test_a_folder_is_read_in_the_same_way_without_prepare(make, tmp_path):
  contents, maps, _ = make()
  contents |= {path: label_map(i) for split in maps.values() for i, path in enumerate(split)}
  folder = write(tmp_path / "set", contents)
  assert run(folder, tmp_path / "out") == 0
  for split in maps:
    straight = open_source("folder", folder, split, Target.LABELS)
    prepared = open_source("array_record", str(tmp_path / "out"), split, Target.LABELS)
    by_name = {straight[i].name: straight[i] for i in range(len(straight))}
    assert len(by_name) == len(prepared)
    for example in map(prepared.__getitem__, range(len(prepared))):
      np.testing.assert_array_equal(targets.decode(example.target), by_name[example.name].target)
    assert len(open_source("folder", folder, split)) == len(prepared)  # images without maps


# Small cases of other kinds, with real files.


def test_the_splits_and_files_that_are_left_out_are_printed(tmp_path, capsys):
  for split in ("training_set", "test_set"):
    for name in "ab":
      write(tmp_path / "in", {f"{split}/{name}/{i}.jpg": jpeg(8, 8, i) for i in range(3)})
  write(tmp_path / "in", {"notes.txt": "x", "training_set/a/x.heic": b"x", "training_set/a/noext": b"x"})
  assert run(tmp_path / "in", tmp_path / "out") == 0
  said = capsys.readouterr().out
  assert "splits: training_set → train, test_set → val; --splits= overrides" in said
  assert (
    "STRANGE: files not read: 1 .heic, 1 no ending" in said and "train 6, val 6 images, 2 classes" in said
  )


def test_image_files_of_all_endings_are_tried(tmp_path, capsys):
  kinds = dict(jpg="JPEG", jfif="JPEG", gif="GIF", avif="AVIF", webp="WEBP", bmp="BMP", jp2="JPEG2000")
  contents = {f"{end}.{end}": images.encode(1, kind=kind) for end, kind in kinds.items()}
  for name in ("cat", "dog"):
    write(tmp_path / "in" / name, {f"{name}_{path}": data for path, data in contents.items()})
    write(tmp_path / "in" / name, {"i.JPG.jpg": jpeg(8, 8, 1)})
  assert run(tmp_path / "in", tmp_path / "out") == 0
  assert len(read(tmp_path / "out")) == 16 and "files not read" not in capsys.readouterr().out
  for end in ("gif", "jfif", "avif"):
    folder = write(tmp_path / end, {f"x.{end}": contents[f"{end}.{end}"]})
    assert run(folder, tmp_path / f"{end}_out") == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "JPEG2000", "TIFF", "PPM"])
def test_images_without_an_ending_are_told_by_their_content(kind, tmp_path, capsys):
  for name in ("cat", "dog"):
    files = {f"{i:04x}": images.encode(i, kind=kind) for i in range(3)}
    write(tmp_path / "in" / name, files | {"README": "BMW", "LICENSE": b"GIF8 and no more"})
  assert run(tmp_path / "in", tmp_path / "out") == 0
  said = capsys.readouterr().out
  assert len(read(tmp_path / "out")) == 6 and "files not read: 4 no ending" in said


def test_heic_is_read_where_its_reader_is_installed(tmp_path, capsys):
  pillow_heif = pytest.importorskip("pillow_heif", reason="pillow-heif, which is optional, is not installed")
  pillow_heif.register_heif_opener()
  for name in ("cat", "dog"):
    encoded = images.encode(1, kind="HEIF")
    files = {f"{name}_{path}": encoded for path in ("x.heic", "y.HEIF", "bare")}
    write(tmp_path / "in" / name, files | {f"{name}.jpg": jpeg(8, 8, 1)})
  assert run(tmp_path / "in", tmp_path / "out") == 0
  assert len(read(tmp_path / "out")) == 8 and "files not read" not in capsys.readouterr().out


def test_a_preview_next_to_rasters_does_not_make_images_of_them(tmp_path, capsys):
  for i in range(4):
    write_tif(tmp_path / "in" / f"scene{i}.tif", scene(i, bands=6))
  write(tmp_path / "in", {"scene0_thumb.jpg": jpeg(8, 8, 0)})
  assert run(tmp_path / "in", tmp_path / "out") == 0
  said = capsys.readouterr().out
  assert len(read(tmp_path / "out")) == 4 and "files not read: 1 .jpg" in said


def test_the_command_that_stacks_bands_works(tmp_path, capsys):
  whole, place = scene(0, bands=3), rasterio.Affine(10, 0, 500_000, 0, -10, 5_000_000)
  for band in range(3):
    name = f"R10m/T32_20220101_B0{band + 2}_10m.tif"
    write_tif(tmp_path / "in" / name, whole[..., band : band + 1], crs="EPSG:32632", transform=place)
  assert run(tmp_path / "in", tmp_path / "out", "--tile=8") == 2
  message = capsys.readouterr().err
  assert message.count("\n") == 1 and not (tmp_path / "out").exists()
  command = message.partition("`")[2].partition("`")[0]
  (tmp_path / "stacked").mkdir()
  path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
  rio = subprocess.run(
    command,
    shell=True,
    cwd=tmp_path,
    env=os.environ | {"PATH": path},
    check=False,
    capture_output=True,
    text=True,
  )
  assert rio.returncode == 0, rio.stderr
  assert run(tmp_path / "stacked", tmp_path / "out") == 0
  np.testing.assert_array_equal(array_files.unpack(read(tmp_path / "out")[0].image), whole)


def test_hold_out_of_a_set_with_splits_says_to_leave_it_out(tmp_path, capsys):
  images.make_folder(tmp_path / "in", {"train": 4, "val": 2})
  assert run(tmp_path / "in", tmp_path / "out", "--hold_out=0.1") == 2
  assert "leave out --hold_out, or choose one split by --split" in capsys.readouterr().err


@pytest.mark.parametrize(
  "words, message",
  [
    (("--splits=train",), "--splits=train is not like train:training_set,val:test_set"),
    (("--splits=train:a,train:b",), "names a split or a folder twice"),
    (("--splits=a:train,b:train",), "names a split or a folder twice"),
    (("--splits=train:nowhere",), "no image lies in such a folder"),
    (("--classes=files",), "invalid choice: 'files'"),
    (("--classes=folders", "--labels=x"), "leave it out, or leave out --labels"),
    (("--labels=x", "--label_suffix=_x"), "--labels=x matches no file"),
    (("--images=nothing/*.png",), "--images=nothing/*.png matches no file of the source"),
    (("--labels=nothing",), "--labels=nothing matches no file of the source"),
    (("--label_suffix=_nothing",), "--label_suffix=_nothing ends no file name"),
    (("more",), "unexpected 'more': only SOURCE and FOLDER are words"),
    (("--out=other",), "only SOURCE and FOLDER are words"),
  ],
)
def test_wrong_flags_of_layouts(words, message, tmp_path, capsys):
  images.make_folder(tmp_path / "in", {"train": 4, "val": 2})
  assert run(tmp_path / "in", tmp_path / "out", *words) == 2
  error = capsys.readouterr().err
  assert error.count("\n") == 1 and message in error and not (tmp_path / "out").exists()


def test_flags_of_layouts_need_a_folder(tmp_path, capsys):
  images.make_npz(tmp_path / "x.npz", 3)
  assert run(tmp_path / "x.npz", tmp_path / "out", "--classes=folders") == 2
  assert "need a folder" in capsys.readouterr().err


def test_source_and_folder_need_no_flags(tmp_path):
  images.make_folder(tmp_path / "in", {"train": 4})
  assert run(tmp_path / "in", tmp_path / "a") == run(f"--source={tmp_path / 'in'}", tmp_path / "b") == 0
  assert images.contents(read(tmp_path / "a")) == images.contents(read(tmp_path / "b"))
