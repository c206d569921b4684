"""Label maps: the class information of a data set, maps that are refused, and data sets that become batches
through `prepare`.
"""

import io
import json
import zipfile

import numpy as np
from PIL import Image
import pytest

from swin_jax.data.prepare import raster_sources, tiles
from swin_jax.data.read import class_files, decoding, labels, layouts, maps, targets, trees
from swin_jax.data.read.example import Example
from swin_jax.data.read.targets import Target
from swin_jax.run import config as run_config
from swin_jax.run.inputs import open_input
from swin_jax.terminal.errors import BadInput
from tests.support import tiny
from tests.support.batches import WHOLE
from tests.support.label_sets import CLASSES, files, jpeg, png, rgb, write
from tests.support.opened import open_source
from tests.support.prepared import main as run
from tests.support.rasters import scene, write_tif


def read(encoded, classes, name="x.png"):
  return maps.Reader(classes).read(encoded, name)


def test_class_files_in_other_encodings(tmp_path):
  text = "B\u00e4ume 0,128,0\nH\u00e4user 128,0,0\n"
  (tmp_path / "classes.txt").write_text(text, encoding="utf-16")
  assert class_files.read(trees.Disk(str(tmp_path)), "").names == ("B\u00e4ume", "H\u00e4user")
  (tmp_path / "classes.txt").write_text(text, encoding="latin-1")
  with pytest.raises(BadInput, match="classes.txt cannot be read: it is not text in UTF-8; save it as UTF-8"):
    class_files.read(trees.Disk(str(tmp_path)), "")


def test_what_values_mean():
  plain = class_files.parse("classes.txt", CLASSES, "x")
  assert plain.names == ("sky", "road", "car")
  assert read(png([[0, 1, 2, 255]]), plain).tolist() == [[0, 1, 2, 255]]
  void = class_files.parse(
    "classes.json", json.dumps({"classes": ["void", "sky", "road"], "ignore_index": 0}), "x"
  )
  assert void.names == ("sky", "road") and read(png([[0, 1, 2, 255]]), void).tolist() == [[255, 0, 1, 255]]
  table = "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.1\t1\t1\t1\twall\n2\t0.1\t1\t1\t1\tbuilding, edifice\n"
  ade = class_files.parse("objectInfo150.txt", table, "x")
  assert ade.names == ("wall", "building") and read(png([[0, 1, 2, 255]]), ade).tolist() == [[255, 0, 1, 255]]


@pytest.mark.parametrize(
  "name, text, message",
  [
    ("classes.txt", "\n\n", "names 0 classes; there must be 1 to 255"),
    ("classes.txt", "a\n\nb\n", "lacks a name for label 1"),
    ("classes.txt", "\n".join(map(str, range(300))), "names 300 classes"),
    ("classes.txt", "road\nsky\nroad\n", "calls two classes 'road'"),
    ("classes.json", '{"classes": "abc"}', "classes must be a list, not 'abc'; it must be like"),
    ("classes.json", '{"classes": ["a", "b"], "ignore_index": true}', "ignore_index must be a number"),
    ("classes.json", "[]", "must be an object, .* it must be like"),
    ("classes.json", '{"classes": ["a"], "ignore_index": "a"}', "ignore_index must be a number"),
    ("classes.json", '{"classes": ["a"], "ignore_index": 0}', "names 0 classes"),
  ],
)
def test_unusable_classes_are_one_line(name, text, message):
  with pytest.raises(BadInput, match=message) as error:
    class_files.parse(name, text, f"set/{name}")
  assert f"set/{name}" in str(error.value) and "\n" not in str(error.value)


def test_maps_that_are_refused():
  classes = class_files.parse("classes.txt", CLASSES, "x")
  for encoded, message in (
    (png([[0, 7, 7]]), r"has label 7 in 2 pixels; there are only 3 classes \(0–2\)"),
    (png([[3, 7, 9]]), "has label 3 in 1 pixels and 2 other values"),
    (rgb([[[0, 0, 1], [1, 1, 0]]]), "has 3 bands, but must have one, or three that are equal"),
    (b"nonsense", "cannot be read as an image"),
  ):
    with pytest.raises(ValueError, match=message):
      read(encoded, classes)


def test_palettes_are_read_as_numbers():
  image = Image.fromarray(np.uint8([[2, 0], [1, 255]]), "L").convert("P")
  image.putpalette(list(range(255, -1, -1)) * 3)
  out = io.BytesIO()
  image.save(out, "PNG")
  assert read(out.getvalue(), class_files.parse("classes.txt", CLASSES, "x")).tolist() == [[2, 0], [1, 255]]


def test_resized_maps_take_the_class_at_each_middle():
  small = np.uint8([[0, 1], [2, 3]])
  assert targets.resize(small, (4, 4)).tolist() == np.kron(small, np.ones((2, 2), int)).tolist()
  assert targets.resize(np.arange(9, dtype=np.uint8)[None], (1, 3)).tolist() == [[1, 4, 7]]
  assert targets.decode(targets.encode(small)).tolist() == small.tolist()


@pytest.mark.parametrize(
  "layout, kind",
  [("{split}/{kind}", "labels"), ("{kind}/{split}", "annotations"), ("wrapped/{kind}/{split}", "masks")],
)
def test_a_set_becomes_batches(tmp_path, layout, kind):
  """The batches are the same through `prepare` and, for a plain folder, when read directly."""
  contents = files(layout, kind, ("train", "val"))
  contents |= {("wrapped/" if "wrapped" in layout else "") + "classes.txt": CLASSES}
  with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
    for name, data in contents.items():
      file.writestr(name, data)
  assert run(f"--source={tmp_path / 'set.zip'}", f"--out={tmp_path / 'out'}") == 0
  source = open_source("array_record", str(tmp_path / "out"), "val", Target.LABELS)
  assert source.targets is Target.LABELS and source.class_names == ("sky", "road", "car") and len(source) == 4
  straight = open_source("folder", write(tmp_path / "set", contents), "val", Target.LABELS)
  by_name = {straight[i].name: straight[i] for i in range(len(straight))}
  for example in map(source.__getitem__, range(len(source))):
    other = by_name[example.name]
    assert example.image == other.image and example.label == -1
    np.testing.assert_array_equal(targets.decode(example.target), other.target)
    assert set(np.unique(other.target)) == {0, 1, 2, 255}


def segmentation(path, source="array_record", **changes):
  names = dict(
    task="segmentation",
    data__source=source,
    data__path=str(path),
    data__batch_size=4,
    data__eval_batch_size=4,
    data__image_size=(16, 16),
    data__mean=(0.5,) * 3,
    data__std=(0.2,) * 3,
    dense__sides=(30, 20),
    dense__eval_canvas=(32, 32),
  )
  return tiny.config(**names | changes)


def test_batches_hold_images_and_their_classes(tmp_path):
  data = open_input(segmentation(write(tmp_path, files() | {"classes.txt": CLASSES}), "folder"))
  batch = next(data.train_batches(0, WHOLE))
  assert (
    batch["image"].shape == (4, 16, 16, 3)
    and batch["label_map"].shape == (4, 16, 16)
    and batch["label_map"].dtype == np.uint8
  )
  assert set(np.unique(batch["label_map"])) <= {0, 1, 2, 255}
  (batch,) = data.eval_batches(WHOLE)
  assert batch["image"].shape == (4, 32, 32, 3) and batch["weight"].tolist() == [1] * 4
  assert np.all(batch["label_map"][:, 20:] == 255) and np.all(batch["label_map"][:, :, 30:] == 255)
  assert np.all(batch["image"][:, 20:] == 128)  # filled with the mean


def test_bad_maps_are_named_counted_and_end_it(tmp_path, capsys):
  contents = files(splits=("train",), count=10) | {"classes.txt": CLASSES}
  contents["train/labels/3.png"] = png(np.full((20, 30), 9))
  contents["train/labels/5.png"] = png(np.zeros((10, 30)))
  folder = write(tmp_path / "set", contents)
  assert run(f"--source={folder}", f"--out={tmp_path / 'out'}", "--max_bad_fraction=0.2") == 0
  said = capsys.readouterr()
  named = "left out train/images/3.jpg: train/labels/3.png has label 9 in 600 pixels"
  assert f"{named}; there are only 3 classes (0–2)" in said.err
  assert "left out train/images/5.jpg: its map has 10 × 30 pixels, but the image has 20 × 30" in said.err
  assert "8 images" in said.out or "2 unreadable and left out" in said.out
  assert run(f"--source={folder}", f"--out={tmp_path / 'other'}", "--max_bad_fraction=0.1") == 2
  assert "2 images of split 'train' cannot be read" in capsys.readouterr().err
  # In training directly from the folder, bad maps are replaced by the next good one.
  data = open_input(
    segmentation(
      folder, "folder", data__train_split="train", data__eval_split="train", data__max_bad_fraction=0.5
    )
  )
  batches = data.train_batches(0, WHOLE)
  assert sum(int(next(batches)["bad"].sum()) for _ in range(5)) >= 2


def test_shrunk_maps_fit_their_images(tmp_path):
  folder = write(tmp_path / "set", files(splits=("train",), size=(40, 60)) | {"classes.txt": CLASSES})
  assert run(f"--source={folder}", f"--out={tmp_path / 'out'}", "--short_side=10") == 0
  source = open_source("array_record", str(tmp_path / "out"), "train", Target.LABELS)
  for example in map(source.__getitem__, range(4)):
    assert (
      targets.decode(example.target).shape == (10, 15) == Image.open(io.BytesIO(example.image)).size[::-1]
    )


def test_what_a_set_lacks_is_one_line(tmp_path, capsys):
  folder = write(tmp_path / "a", files(splits=("train",)))
  assert run(f"--source={folder}", f"--out={tmp_path / 'out'}") == 2
  assert f"write {folder}/classes.txt, with one class per line" in capsys.readouterr().err
  contents = files(splits=("train",)) | {"classes.txt": CLASSES}
  del contents["train/labels/2.png"]
  assert run(f"--source={write(tmp_path / 'b', contents)}", f"--out={tmp_path / 'out'}") == 2
  assert "images/2.jpg has no map of the same name in" in capsys.readouterr().err
  plain = write(tmp_path / "c", {"train/cat/1.jpg": jpeg(9, 9, 0), "val/cat/1.jpg": jpeg(9, 9, 0)})
  with pytest.raises(BadInput, match="holds no maps: there must be train/images and train/labels"):
    open_source("folder", plain, "train", Target.LABELS)
  assert run(f"--source={plain}", f"--out={tmp_path / 'images'}") == 0
  with pytest.raises(BadInput, match="holds no labels of pixels"):
    open_source("array_record", str(tmp_path / "images"), "train", Target.LABELS)
  with pytest.raises(BadInput, match="data.source=npz has no labels of pixels"):
    open_source("npz", "x_{split}.npz", "train", Target.LABELS)
  whole = write(tmp_path / "d", files() | {"classes.txt": CLASSES})
  assert run(f"--source={whole}", f"--out={tmp_path / 'maps'}") == 0
  config = tiny.config("finetune", data__source="array_record", data__path=str(tmp_path / "maps"))
  with pytest.raises(BadInput, match="has labels of pixels, not of images"):
    open_input(config)


def test_the_number_of_classes_is_the_datas():
  config = run_config.resolve(tiny.config(task="segmentation"), ("paper", "ink"), ("paper", "ink"))
  assert config.segmentation.num_classes == 2 and config.data.class_names == ("paper", "ink")
  with pytest.raises(BadInput, match="the data has labels up to 1, but segmentation.num_classes = 1"):
    run_config.resolve(
      tiny.config(task="segmentation", segmentation__num_classes=1), ("paper", "ink"), ("paper", "ink")
    )


def test_rasters_and_their_maps_are_cut_alike(tmp_path):
  """The images have five bands, the first of which holds the class of each pixel, and gaps without data."""
  for split, count in (("train", 3), ("val", 1)):
    for i in range(count):
      values = scene(i, 40, 50)
      classes = np.random.default_rng(i).integers(0, 3, (40, 50), dtype=np.uint8)
      values[..., 0] = classes
      write_tif(tmp_path / "set" / split / "images" / f"{i}.tif", values, nodata=-9999)
      write(tmp_path / "set", {f"{split}/labels/{i}.png": png(classes), "classes.txt": CLASSES})
  assert run(f"--source={tmp_path / 'set'}", f"--out={tmp_path / 'out'}", "--tile=16") == 0
  source = open_source("array_record", str(tmp_path / "out"), "train", Target.LABELS)
  assert len(source) == 3 * 2 * 3 and source.class_names == ("sky", "road", "car")
  config = run_config.with_statistics(
    segmentation(
      tmp_path / "out",
      data__mean=(),
      data__std=(),
      data__dtype="float32",
      data__eval_batch_size=6,
      dense__sides=(),
      dense__photometric=False,
      augment__rotate=True,
    )
  )
  assert len(config.data.mean) == 5
  data = open_input(config)
  for i in range(len(source)):
    image, classes, _ = data.decode(source[i])
    assert image.dtype == np.float32 and image.shape == (*classes.shape, 5) and min(classes.shape) >= 16
    holds_data = ~np.isnan(image[..., 0])
    np.testing.assert_array_equal(image[holds_data][:, 0], classes[holds_data])
  batch = next(data.train_batches(0, WHOLE))
  assert batch["image"].dtype == np.float32 and batch["label_map"].shape == (4, 16, 16)
  (batch,) = data.eval_batches(WHOLE)
  known = (batch["label_map"] != 255) & ~np.isnan(batch["image"][..., 0])
  np.testing.assert_array_equal(batch["image"][known][:, 0], batch["label_map"][known])
  assert np.isnan(batch["image"][0, -1, -1]).all() and not batch["valid"][0, -1, -1]  # outside the tile


def test_a_map_of_another_size_than_its_raster_is_named(tmp_path, capsys):
  write_tif(tmp_path / "set/train/images/0.tif", scene(0, 40, 50))
  write(tmp_path / "set", {"train/labels/0.png": png(np.zeros((40, 49))), "classes.txt": CLASSES})
  assert run(f"--source={tmp_path / 'set'}", f"--out={tmp_path / 'out'}", "--tile=16") == 2
  assert "its map has 40 × 49 pixels, but the image has 40 × 50" in capsys.readouterr().err


def test_wide_labels_are_read_where_they_are_small():
  classes = class_files.parse("classes.txt", CLASSES, "x")
  for dtype, values in ((np.uint16, [[0, 2, 255]]), (np.int32, [[1, 2, 255]])):
    out = io.BytesIO()
    Image.fromarray(np.asarray(values, dtype)).save(out, "TIFF")
    assert read(out.getvalue(), classes, "x.tif").tolist() == values
  out = io.BytesIO()
  Image.fromarray(np.asarray([[-1, 2]], np.int32)).save(out, "TIFF")
  with pytest.raises(ValueError, match="has label -1 in 1 pixels; there are only 3 classes"):
    read(out.getvalue(), classes, "x.tif")


def test_one_split_in_a_folder_around_all(tmp_path):
  contents = {name.replace("train/", "my_set/"): data for name, data in files(splits=("train",)).items()} | {
    "my_set/classes.txt": CLASSES
  }
  assert (
    run(f"--source={write(tmp_path / 'in', contents)}", f"--out={tmp_path / 'out'}", "--hold_out=0.25") == 0
  )
  assert [
    len(open_source("array_record", str(tmp_path / "out"), split, Target.LABELS))
    for split in ("train", "val")
  ] == [3, 1]


@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}"])
def test_a_split_without_its_maps_is_refused_unless_it_is_for_tests(tmp_path, capsys, layout):
  contents = files(layout, splits=("train", "val", "test")) | {"classes.txt": CLASSES}
  without = lambda split: {
    name: data
    for name, data in contents.items()
    if not name.startswith(layout.format(split=split, kind="labels"))
  }
  assert run(f"--source={write(tmp_path / 'in', without('test'))}", f"--out={tmp_path / 'out'}") == 0
  assert run(f"--source={write(tmp_path / 'other', without('val'))}", f"--out={tmp_path / 'other_out'}") == 2
  said = capsys.readouterr().err
  assert "no labels" in said and "val" in said and "or remove" in said


def test_maps_in_a_folder_of_another_name_are_no_classes(tmp_path, capsys):
  contents = files(kind="truth", splits=("train",))
  assert run(f"--source={write(tmp_path / 'in', contents)}", f"--out={tmp_path / 'out'}") == 2
  assert (
    "has a folder images next to truth, which do not look like classes of images: if truth holds maps of"
    " pixels, give prepare --images=images --labels=truth" in capsys.readouterr().err
  )


def test_two_files_of_one_name_are_refused(tmp_path, capsys):
  contents = files(splits=("train",)) | {
    "train/images/1.png": png(np.zeros((20, 30))),
    "classes.txt": CLASSES,
  }
  assert run(f"--source={write(tmp_path / 'in', contents)}", f"--out={tmp_path / 'out'}") == 2
  assert "holds 1.jpg and 1.png, which is ambiguous" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
def test_rasters_are_known_by_the_folder_of_images(tmp_path, suffix):
  """Maps may come first alphabetically, and their file type may also be used for rasters."""
  values = scene(0, 40, 50)
  classes = np.random.default_rng(0).integers(0, 3, (40, 50), dtype=np.uint8)
  folder = tmp_path / "in/train/images"
  if suffix == ".tif":
    write_tif(folder / "0.tif", values)
    write_tif(tmp_path / "in/train/annotations/0.tif", classes[..., None])
  else:
    folder.mkdir(parents=True)
    np.save(folder / "0.npy", values)
    write(tmp_path / "in", {"train/annotations/0.png": png(classes)})
  write(tmp_path / "in", {"classes.txt": CLASSES})
  assert (
    run(
      f"--source={tmp_path / 'in'}",
      f"--out={tmp_path / 'out'}",
      "--tile=20" if suffix == ".tif" else "--tile=0",
    )
    == 0
  )
  source = open_source("array_record", str(tmp_path / "out"), "train", Target.LABELS)
  decode = decoding.DecodeMapped(5, "float32")
  if suffix == ".npy":
    image, read, _ = decode(source[0])
    np.testing.assert_array_equal(read, classes)
    np.testing.assert_array_equal(image, values)
    return
  assert len(source) == 4
  for i in range(4):
    top, left = map(int, source[i].name.partition(" at ")[2].split(","))
    image, read, _ = decode(source[i])
    np.testing.assert_array_equal(read, classes[top : top + 20, left : left + 25])
    np.testing.assert_array_equal(image, values[top : top + 20, left : left + 25])


def test_an_array_beside_images_does_not_make_rasters_of_them(tmp_path):
  np.save(tmp_path / "boxes.npy", np.zeros((4, 4)))
  folder = write(
    tmp_path, {f"{split}/cat/{i}.jpg": jpeg(9, 9, i) for split in ("train", "val") for i in range(2)}
  )
  tree = trees.Disk(folder)
  assert not layouts.understand(tree, files=raster_sources.raster_files(tree, tiles.UNCUT)).of_rasters


def test_several_rasters_with_one_map_are_refused(tmp_path, capsys):
  (tmp_path / "in/train/images").mkdir(parents=True)
  np.save(tmp_path / "in/train/images/0.npy", np.zeros((2, 8, 8, 3), np.float32))
  write(tmp_path / "in", {"train/labels/0.png": png(np.zeros((8, 8))), "classes.txt": CLASSES})
  assert run(f"--source={tmp_path / 'in'}", f"--out={tmp_path / 'out'}") == 2
  assert "0.npy: holds 2 rasters, but has one map" in capsys.readouterr().err


def test_what_holds_no_data_has_no_class():
  image = np.ones((2, 2, 3), np.float32)
  image[0, 0], image[0, 1, 0] = np.nan, np.nan
  decoded = decoding.DecodeMapped(3, "float32")(Example(image, -1, "x", np.uint8([[1, 2], [0, 1]])))
  assert decoded.target.tolist() == [[255, 2], [0, 1]] and decoded.target.dtype == np.uint8


def test_sets_of_other_bands_or_types_are_refused_before_they_are_read(tmp_path):
  for i in range(2):
    write_tif(tmp_path / "set/train/images" / f"{i}.tif", scene(i, 20, 20))
    write(tmp_path / "set", {f"train/labels/{i}.png": png(np.zeros((20, 20))), "classes.txt": CLASSES})
  assert run(f"--source={tmp_path / 'set'}", f"--out={tmp_path / 'out'}") == 0
  splits = dict(data__train_split="train", data__eval_split="train")
  with pytest.raises(
    BadInput,
    match="holds int16 of 5 bands, but data.dtype is uint8: use --config=own_rasters",
  ):
    open_input(segmentation(tmp_path / "out", **splits))
  with pytest.raises(BadInput, match="has images of 5 bands, but data.mean has 4"):
    open_input(
      segmentation(
        tmp_path / "out", data__dtype="float32", data__mean=(0.0,) * 4, data__std=(1.0,) * 4, **splits
      )
    )
  open_input(
    segmentation(
      tmp_path / "out", data__dtype="float32", data__mean=(0.0,) * 5, data__std=(1.0,) * 5, **splits
    )
  )


def test_colours_above_255_are_none_of_the_table():
  """Packed into one number they could equal another colour."""
  pixels = np.array([[[0, 256, 0], [1, 0, 0]]], np.uint16)
  with pytest.raises(ValueError, match="has the colour 0,256,0 in 1 pixels"):
    labels.from_colours(pixels, labels.numbered(("a",))._replace(colours=((1, 0, 0),)))
