"""Layouts of folders of images: splits, classes, and what is never taken for classes."""

import os
import re

import pytest

from swin_jax.data.read import formats, layouts, left_out, roles, trees
from tests.support.memory_layouts import CLASSES, MemoryTree, counts, paths, refusal, understand

TWO = ("train", "val")
asked = roles.Asked


# Splits.


@pytest.mark.parametrize(
  "folders, splits, note",
  [
    (("train", "val", "test"), ["train", "val", "test"], None),
    (("Training", "testing"), ["Training", "testing"], None),
    (("train2014", "train2017", "val2017"), ["train2014", "train2017", "val2017"], None),
    (("training_set", "test_set"), ["train", "val"], "training_set → train, test_set → val; --splits="),
    (("train_data", "val_data"), ["train", "val"], "train_data → train, val_data → val"),
    (("train", "dev"), ["train", "val"], "dev → val"),
    (("seg_train/seg_train", "seg_test/seg_test"), ["train", "val"], "seg_train → train, seg_test → val"),
    (("data/my set/train", "data/my set/valid"), ["train", "valid"], None),
    (("TrainSet", "ValidationSet", "TestSet"), ["train", "val", "test"], "TestSet → test"),
    (("train", "holdout"), ["train", "val"], "holdout → val"),
    (("train", "hold_out"), ["train", "val"], "hold_out → val"),
    (("training", "held-out"), ["training", "val"], "held-out → val"),
    (("train", "val", "Holdout Set"), ["train", "val", "test"], "Holdout Set → test"),
    (("train_images", "HeldOut_images"), ["train", "val"], "HeldOut_images → val"),
    (("trainval", "test"), ["train", "test"], "trainval → train"),
    (("train", "validate", "holdoutset"), ["train", "val", "test"], "validate → val, holdoutset → test"),
    (("train", "minival"), ["train", "val"], "minival → val"),
    (("imagesTr", "imagesTs"), ["train", "val"], "imagesTr → train, imagesTs → val"),
  ],
)
def test_splits(folders, splits, note):
  layout = understand(paths("{split}/{name}/{i}.jpg", split=folders, name="ab"))
  assert list(layout.splits) == splits
  assert all(part.class_names == ("a", "b") and len(part.images) == 8 for part in layout.splits.values())
  assert note in layout.notes[0] if note else not layout.notes


@pytest.mark.parametrize(
  "folders, left, expected",
  [
    (("train", "val", "trainval"), "trainval", ["train", "val"]),
    (("train", "trainval"), "trainval", ["train"]),
    (("training", "val", "TRAINVAL_set"), "TRAINVAL_set", ["training", "val"]),
    (("train", "val", "minival"), "minival", ["train", "val"]),
    (("train2017", "val2017", "trainval2017", "trainval2012"), "trainval2017", [*"012"]),
  ],
)
@pytest.mark.parametrize("form", ["{split}/{name}/{i}.jpg", "{name}/{split}/{i}.jpg"])
def test_splits_that_repeat_others_are_left_out(form, folders, left, expected):
  files = paths(form, split=folders, name="ab")
  layout = understand(files)
  assert len(layout.splits) == len(expected) and set(counts(layout).values()) == {8} and not layout.unread
  assert expected[0] == "0" or list(layout.splits) == expected
  assert any(f"splits left out: {left} (8), which repeats images of" in note for note in layout.notes)
  assert not layout.warnings and layout.passed_over == 8
  layout = understand(files, flags=asked(splits={"train": left}))
  assert counts(layout) == {"train": 8} and not layout.passed_over


def test_splits_that_repeat_others_are_left_out_with_their_maps_and_in_patterns():
  files = paths("{kind}/{split}/{i}.png", kind=("images", "masks"), split=("train", "val", "trainval"))
  assert counts(understand(files, CLASSES)) == {"train": 4, "val": 4}
  files = paths("x_{split}_y/{kind}/{i}.png", split=("train", "val", "trainval"), kind=("rgb", "truth"))
  layout = understand(files, CLASSES, asked(images="x_{split}_y/rgb", labels="x_{split}_y/truth"))
  assert counts(layout) == {"train": 4, "val": 4} and layout.passed_over == 8


@pytest.mark.parametrize("form", ["{split}/{name}/{i}.jpg", "{name}/{split}/{i}.jpg"])
def test_folders_with_different_words_for_one_split_are_strange(form):
  files = paths(form, split=("train", "val", "holdout", "test"), name="ab")
  layout = understand(files)
  (line,) = layout.warnings
  assert counts(layout) == {"train": 8, "val": 8, "test": 16}
  assert "the folders holdout and test are taken for one split, test" in line
  flag = "train:train,val:val,holdout:holdout,test:test"
  given = dict(pair.split(":") for pair in re.search("--splits=(.*)", line)[1].split(","))
  assert given == dict(pair.split(":") for pair in flag.split(","))
  assert counts(understand(files, flags=asked(splits=given))) == dict.fromkeys(given, 8)
  parts = paths("{split}/{name}/{i}.jpg", split=("train_1", "train_2", "val"), name="ab")
  assert not understand(parts).warnings
  pairs = paths("train/{i}.jpg") + paths("training_masks/{i}.png")
  assert not understand(pairs, CLASSES).warnings
  parts = paths("{name}/{i}.jpg", name=("a/train", "a/val", "b/training", "b/valid"))
  assert not understand(parts).warnings


def test_short_names_of_splits_are_classes_where_they_stand_alone():
  layout = understand(paths("{name}/{i}.jpg", name=("de", "te", "tr")))
  assert layout.splits[""].class_names == ("de", "te", "tr")


@pytest.mark.parametrize("name", ["holdout", "hold_out", "HELD-OUT", "heldout"])
def test_lists_of_what_is_held_out(name):
  texts = {"train.txt": "0\n1\n", "trainval.txt": "0\n1\n2\n", f"{name}.txt": "3\n"}
  assert counts(understand(paths("{i}.jpg"), texts)) == {"train": 2, "test": 1}


def test_lists_of_one_split_are_joined():
  texts = {
    "train.txt": "0\n",
    "test.txt": "1\n2\n",
    "holdout.txt": "2\n3\n",
    "val.lst": "4",
    "minival.txt": "5",
  }
  layout = understand(paths("{i}.jpg", 6), texts)
  assert counts(layout) == {"train": 1, "val": 1, "test": 3}
  assert "splits: those listed in holdout.txt, test.txt, train.txt, val.lst" in layout.notes


def test_splits_inside_class_folders():
  layout = understand(paths("{name}/{split}/{i}.jpg", name=("cat", "dog"), split=TWO))
  assert counts(layout) == {"train": 8, "val": 8}
  assert layout.splits["val"].class_names == ("cat", "dog") and set(layout.splits["val"].labels) == {0, 1}


def test_folders_next_to_splits_are_left_out_and_named():
  layout = understand(
    [*paths("a/{split}/{name}/{i}.jpg", split=TWO, name="ab"), "docs/x.png", "a/README.md", "a/more/x.jpg"]
  )
  assert counts(layout) == {"train": 8, "val": 8} and layout.splits["train"].class_names == ("a", "b")
  assert layout.unread == {".jpg": 1, ".md": 1, ".png": 1}
  assert any("not used" in note and "a/more (1), docs (1)" in note for note in layout.notes)


def test_the_splits_that_the_user_names():
  files = paths("{fold}/{name}/{i}.jpg", fold=("fold1", "fold2", "x/fold3"), name="ab")
  layout = understand(files, flags=asked(splits={"train": "fold1", "val": "x/fold3"}))
  assert counts(layout) == {"train": 8, "val": 8} and layout.excluded == {".jpg": 8}
  assert layout.splits["val"].class_names == ("a", "b")
  assert "no image lies in such a folder" in refusal(files, flags=asked(splits={"train": "nowhere"}))


def test_what_flags_leave_out_is_told_from_what_nobody_asked_to_leave_out():
  files = paths("rgb/{s}/{i}.jpg", s=TWO) + paths("gt/{s}/{i}.png", s=TWO) + ["gt/train/9.png"]
  files += ["rgb/train/x.heic", "old/x.heic", "old/y.jpg", "old/y_mask.png"]
  layout = understand(files, CLASSES, asked(images="rgb", labels="gt"))
  assert layout.excluded == {".heic": 1, ".jpg": 1, ".png": 1} and layout.unread == {".heic": 1, ".png": 1}
  layout = understand(files, CLASSES, asked(splits={"train": "train", "val": "val"}))
  assert layout.excluded == {".heic": 1, ".jpg": 1, ".png": 1} and layout.unread == {".heic": 1, ".png": 1}
  layout = understand(files, CLASSES, asked(images="rgb"))  # maps are found by the names of their folders
  assert counts(layout) == {"train": 4, "val": 4} and layout.has_maps and layout.unread[".png"] == 1
  assert not understand(files[:16], CLASSES, asked(labels="gt")).excluded


def test_classes_called_like_splits():
  files = paths("{name}/{i}.jpg", name=("bus", "car", "train"))
  message = refusal(files)
  assert (
    "has a folder train next to bus, car" in message
    and "--splits=train:train,val:… with a folder in" in message
  )
  layout = understand(files, flags=asked(folders_are_classes=True))
  assert layout.splits[""].class_names == ("bus", "car", "train")
  layout = understand(paths("{split}/{name}/{i}.jpg", split=TWO, name=("bus", "car", "train")))
  assert layout.splits["val"].class_names == ("bus", "car", "train")


def test_lists_of_names_are_splits():
  texts = {
    "meta/train.txt": "pie/0\npie/1\nsoup/1\n",
    "meta/test.txt": "pie/2\nsoup/2\nsoup/3\n",
    "meta/classes.txt": "pie\nsoup\n",
  }
  layout = understand(paths("images/{name}/{i}.jpg", name=("pie", "soup")), texts)
  assert counts(layout) == {"train": 3, "test": 3} and layout.unread == {".jpg": 2}
  assert layout.splits["test"].class_names == ("pie", "soup")
  assert "splits: those listed in meta/test.txt, meta/train.txt" in layout.notes
  twice = understand(
    paths("{i}.jpg"), {"train.txt": "0.jpg\n1.jpg\n", "val.txt": "1.jpg label\n2.jpg other\n"}
  )
  assert counts(twice) == {"train": 2, "val": 2} and "1 images are in more than one" in twice.notes[1]
  assert counts(understand(paths("{i}.jpg"), {"test.txt": "read me first\n1.jpg\nplease\n"})) == {"": 4}


# What is not taken for classes.


@pytest.mark.parametrize(
  "files, words",
  [
    (paths("images/{i}.jpg") + paths("truth/{i}.png"), "--images=images --labels=truth"),
    (paths("photo/x{i}.jpg") + paths("truth/x{i}.png"), "--images=photo --labels=truth"),
    (paths("satellite/a{i}b.png") + paths("masks/a{i}b.png"), "--images=satellite --labels=masks"),
    (paths("Task_Training_Input/{i}.jpg") + paths("Task_GroundTruth/{i}_s.png"), "--labels=Task_GroundTruth"),
    (paths("{name}/{i}.jpg", name=("fold1", "fold2")), "--splits=train:fold1,val:fold2"),
    (paths("{name}/{i}.jpg", name=("a_train_x", "a_val_x")), "--splits=train:a_train_x,val:a_val_x"),
    (
      paths("{name}/{i}.jpg", name=("dev_a", "val_a", "train_b")),
      "--splits=train:train_b,val:dev_a, which leaves out val_a",
    ),
    (
      paths("{name}/{i}.jpg", name=("train_part1", "train_part2", "val_part1", "other")),
      "--splits=train:train_part1,val:val_part1, which leaves out other, train_part2",
    ),
    (
      paths("{name}/{i}.jpg", name=("fold1", "fold2", "fold3")),
      "--splits=train:fold1,val:fold2, which leaves out fold3",
    ),
    (
      paths("{s}/{c}/{i}.jpg", s=("Testdaten", "Trainingsdaten", "Validierungsdaten"), c="ab"),
      "--splits=train:Trainingsdaten,val:Validierungsdaten,test:Testdaten; if",
    ),
    (
      paths("{s}/{c}/{i}.jpg", s=("entra\u00eenement", "essai", "validation"), c="ab"),
      "--splits='train:entra\u00eenement,val:validation,test:essai'; if",
    ),
    (
      paths("{s}/{c}/{i}.jpg", s=("Pru\u0308fung", "Training"), c="ab"),
      "--splits='train:Training,test:Pru\u0308fung'; if",
    ),
    (paths("{s}/{i}.jpg", s=("apprentissage", "essai")), "--splits=train:apprentissage,test:essai; if"),
    (paths("{s}/{c}/{i}.jpg", s=("val", "x", "y"), c="ab"), "--splits=train:…,val:val with a folder in"),
    (paths("{name}/{i}.jpg", name=("B02", "B03", "B04")), "look like bands"),
    (paths("{name}/x{i}.png", name=("10m", "20m")), "look like resolutions"),
    (paths("x{i}.jpg") + paths("x{i}_1stHO.png"), "--label_suffix=_1stHO"),
    (paths("x{i}.jpg") + paths("x{i}.png"), "--images='*.jpg' --labels='*.png'"),
    (paths("{name}/{i}.jpg", name="ab") + ["a/0_mask.png"], "looks like the map of another image"),
    (paths("{name}/{i}.jpg", name="ab") + paths("a/masks/m{i}m.png"), "which looks like a map"),
    (paths("images/{i}.jpg") + ["annotations/instances.json"], "annotations holds no label map, only .json"),
    (paths("{s}/images/{i}.jpg", s=TWO) + paths("{s}/labels/{i}.txt", s=TWO), "labels holds no label map"),
  ],
)
def test_what_is_never_taken_for_classes(files, words):
  message = refusal(files)
  assert words in message
  layout = understand(files, flags=asked(folders_are_classes=True))
  assert sum(counts(layout).values()) == sum(path.endswith((".jpg", ".png")) for path in files)


def test_a_class_file_that_contradicts_the_folders():
  files = paths("{name}/{i}.jpg", name="ab")
  assert "classes.txt names classes, but no label maps" in refusal(files, CLASSES)
  assert "there are no class folders" in refusal(paths("{i}.jpg"), CLASSES)
  assert understand(files, {"classes.txt": "a\nb\n"}).splits[""].class_names == ("a", "b")
  assert understand(files, CLASSES, asked(folders_are_classes=True)).unread == {".txt": 1}


@pytest.mark.parametrize(
  "names", [("with_mask", "without_mask"), ("mask", "no_mask"), ("cat", "training_shoes")]
)
def test_classes_with_such_words_in_their_names(names):
  assert understand(paths("{name}/{i}.jpg", name=names)).splits[""].class_names == names


# Junk, and what is not an image.


def test_junk_and_empty_folders_are_no_classes():
  junk = ["@eaDir/0.jpg", "a/@eaDir/x.jpg", "__MACOSX/._x.jpg", "Thumbs.db", ".DS_Store", "#recycle/z.jpg"]
  layout = understand([*paths("{name}/{i}.jpg", name="ab"), *junk, "empty/", "c/x.heic", "a/desktop.ini"])
  assert layout.splits[""].class_names == ("a", "b") and counts(layout) == {"": 8}
  assert layout.unread == {".heic": 1}
  said = " ".join(layout.notes)
  for words in ("folders without files: empty", "folders without images: c", "@eaDir (2)", "#recycle (1)"):
    assert words in said


def test_a_tree_without_images_says_what_it_holds():
  message = refusal(["a/x.heic", "a/y.HEIC", "b/noext", "b/notes.txt"])
  assert "holds no image (.jpg" in message and ".heic (2)" in message and "no ending (1)" in message


@pytest.mark.parametrize(
  "files, mend",
  [
    (["a/x.heic", "a/notes.txt"], "; to read .heic files, pip install pillow-heif"),
    (["a/x.dcm", "a/notes.txt"], "; convert images of other formats to PNG or TIFF"),
    (["a/notes.txt"], "; it holds .txt (1)"),
    ([], ")"),
  ],
)
def test_a_tree_without_images_says_how_they_become_readable(files, mend, monkeypatch):
  monkeypatch.setattr(formats, "HAS_HEIF", False)
  assert refusal(files).endswith(mend)


def test_images_without_maps_are_named_and_counted():
  files = paths("images/{i}.jpg", 9) + paths("labels/{i}.png", 4)
  said = "images/4.jpg, images/5.jpg, images/6.jpg and 2 more have no map of the same name in labels; add"
  assert said in refusal(files, CLASSES)


def test_rasters_and_what_lies_next_to_them():
  scenes = paths("scene{i}.tif")
  layout = understand([*scenes, "scene0_thumb.jpg"], rasters=True)
  assert layout.of_rasters and counts(layout) == {"": 4} and layout.unread == {".jpg": 1}
  assert understand([*paths("p{i}.npy"), "preview.png"], rasters=True).of_rasters
  photos = paths("{name}/x{i}.jpg", name="ab")
  depth = paths("{name}/x{i}_{kind}.npy", name="ab", kind=("depth", "normal"))
  layout = understand(photos + depth, rasters=True)
  assert not layout.of_rasters and layout.unread == {".npy": 16}
  assert not understand([*photos, "a/y.tif"], rasters=True).of_rasters
  assert understand([*photos, "a/y.tif"], rasters=True, cut=True).of_rasters


SENTINEL = [
  f"R{metres}m/T32_2022_{band}_{metres}m.jp2"
  for metres, bands in ((10, ("B02", "B03", "B04")), (20, ("B05", "B06")), (60, ("B01",)))
  for band in bands
]


@pytest.mark.parametrize(
  "files, stacked",
  [
    (
      SENTINEL,
      "set/R10m/T32_2022_B02_10m.jp2 set/R10m/T32_2022_B03_10m.jp2 set/R10m/T32_2022_B04_10m.jp2 -o"
      " stacked/T32_2022.tif",
    ),
    (["L8_B2.TIF", "L8_B3.TIF", "L8_MTL.txt"], "set/L8_B2.TIF set/L8_B3.TIF -o stacked/L8.tif"),
    (
      paths("{colour}/{colour}_p{i}.tif", colour=("nir", "red")),
      "set/nir/nir_p0.tif set/red/red_p0.tif -o stacked/p0.tif",
    ),
    (["s1_VV.tif", "s1_VH.tif", "s2_VV.tif", "s2_VH.tif"], "set/s1_VH.tif set/s1_VV.tif -o stacked/s1.tif"),
    (["one/B01.tif", "one/B02.tif"], "set/one/B01.tif set/one/B02.tif -o stacked/one.tif"),
    (
      [f"{name}/T{i}_B0{band}.tif" for name in ("wood", "town") for i in (1, 2) for band in (2, 3)],
      "set/town/T1_B02.tif set/town/T1_B03.tif -o stacked/town/T1.tif",
    ),
  ],
)
def test_one_file_per_band_is_refused_with_the_command_that_stacks_them(files, stacked):
  for cut in (False, True):
    said = refusal(files, rasters=True, cut=cut)
    assert f" && rio stack {stacked}" in said and f"`mkdir -p {os.path.dirname(stacked.split()[-1])}" in said
  assert understand(files, flags=asked(folders_are_classes=True), rasters=True).of_rasters


@pytest.mark.parametrize("inner", ["", "wood/"])
@pytest.mark.parametrize("stem, stacked", [("T32_", "S2A_{i}_T32"), ("S2A_{i}_", "S2A_{i}"), ("", "S2A_{i}")])
def test_a_folder_of_one_scene_is_no_class(inner, stem, stacked):
  files = [f"{inner}S2A_{i}/{stem.format(i=i)}B0{band}.tif" for i in range(4) for band in (2, 3)]
  said = refusal(files, rasters=True)
  assert said.count("rio stack") == 4 and f"`mkdir -p {f'stacked/{inner}'.rstrip('/')} && " in said
  assert all(f"-o stacked/{inner}{stacked.format(i=i)}.tif" in said for i in range(4))


def test_a_folder_of_one_scene_may_be_a_split():
  said = refusal([f"{split}/T1_B0{band}.tif" for split in ("train", "val") for band in (2, 3)], rasters=True)
  assert "-o stacked/train/T1.tif" in said and "-o stacked/val/T1.tif" in said


@pytest.mark.parametrize("count, more", [(2, ""), (5, ""), (6, ", and the same for 2 more scenes")])
def test_scenes_of_bands_are_listed(count, more):
  files = [f"{name}/T{i}_B0{band}.tif" for name in ("a b", "town") for i in range(count) for band in (2, 3)]
  said = refusal(files, rasters=True)
  commands = [
    f"rio stack {quote}set/{name}/T{i}_B02.tif{quote} {quote}set/{name}/T{i}_B03.tif{quote} -o"
    f" {quote}stacked/{name}/T{i}.tif{quote}"
    for name, quote in (("a b", "'"), ("town", ""))
    for i in range(count)
  ]
  assert f"`mkdir -p 'stacked/a b' stacked/town && {' && '.join(commands[:10])}`{more}, and prepare" in said


def test_label_maps_of_scenes_of_bands_are_copied():
  bands = [f"images/T{i}_B0{band}.tif" for i in range(2) for band in (2, 3)]
  for maps in (paths("labels/T{i}.png", 2), paths("labels/T{i}.tif", 2)):
    said = refusal([*bands, *maps], CLASSES, rasters=True)
    assert (
      "-o stacked/images/T0.tif && " in said and "`cp -r set/labels stacked`, and prepare stacked" in said
    )


def test_images_called_like_bands_are_images_if_they_have_several():
  tree = MemoryTree(paths("b{i}.tif", 4))
  how = layouts.RasterFiles(True, True, lambda path: True, lambda path: (8, 8, 3))
  assert len(layouts.understand(tree, files=how).splits[""].images) == 4


def test_previews_of_rasters_are_noted():
  files = [*paths("{name}/{i}.tif", name="ab"), *paths("{name}/{i}.jpg", name="ab")]
  layout = understand(files, cut=True)
  assert len(layout.splits[""].images) == 8 and not layout.unread
  assert "JPEG files with the names of rasters next to them are not used: 8" in layout.notes
  for more in ("a/9.jpg", "c/0.jpg"):
    assert understand([*files, more], cut=True).unread == {".jpg": 9}
  assert understand([*files, "a/0.png"], cut=True).unread == {".png": 1}  # may be a map


# What is taken for classes, but named.


def test_folders_that_hold_the_same_folders_may_be_splits():
  files = paths("{part}/{name}/{i}.jpg", part=["lernen", "rest"], name=["cat", "dog"])
  (line,) = understand(files).warnings
  assert "each holds the same folders, cat, dog; if cat, dog are the classes and lernen, rest are" in line
  assert line.endswith("are splits, give --splits=train:lernen,val:… with a folder in place of each …")
  assert not understand(files, flags=asked(splits={"train": "lernen", "val": "rest"})).warnings
  assert not understand(paths("train/{name}/{site}/{i}.jpg", name="ab", site="xy")).warnings
  assert not understand([*files, "rest/cow/0.jpg"]).warnings
  assert not understand(files, flags=asked(folders_are_groups=True)).warnings


def test_folders_that_no_word_for_a_split_begins_are_not_given_to_any():
  (line,) = understand(paths("{i}/{side}/{i}.jpg", side=["left", "right"])).warnings
  assert "give --splits=train:…,val:… with a folder in place of each …; if they are groups" in line
  assert "as in left/0" in line


def test_hidden_folders_with_images_are_named():
  files = [*paths("train/{name}/{i}.jpg", name=["cat", "dog"]), *paths("train/.5 mm/{i}.jpg"), ".git/config"]
  (line,) = understand(files).warnings
  assert "with 4 images: train/.5 mm (4); rename those" in line


def test_hidden_folders_are_looked_at_within_bounds(tmp_path, monkeypatch):
  """One that cannot be listed is passed over; links are not followed; the rest is counted up to a bound."""
  for name in (
    *paths("{name}/{i}.jpg", name="ab"),
    *paths(".venv/x{i}/y.jpg"),
    "else/z.jpg",
    ".bin/deep/z.jpg",
  ):
    (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "in" / name).touch()
  (tmp_path / "in" / "else").rename(tmp_path / "else")
  for link in (".snapshot", ".venv/link"):
    (tmp_path / "in" / link).symlink_to(tmp_path / "else")
  scan = os.scandir

  def refuse(path):
    if os.path.basename(os.path.normpath(path)) == "deep":
      raise PermissionError(13, "Permission denied", path)
    return scan(path)

  monkeypatch.setattr(os, "scandir", refuse)
  tree = trees.Disk(str(tmp_path / "in"))
  (line,) = layouts.understand(tree).warnings
  assert "with 4 images: .venv (4); rename" in line
  monkeypatch.setattr(left_out, "_LOOKED_AT", 3)
  (line,) = layouts.understand(tree).warnings
  assert "with at least 3 images: .venv (3); rename" in line


def test_names_with_one_suffix_are_not_classes():
  """As x.png and x_gt.png in folders of any names."""
  files = paths("Aufnahmen/p{i}.png", 12) + paths("Handzeichnung/p{i}_gt.png", 12)
  assert "--images=Aufnahmen --labels=Handzeichnung" in refusal(files)
  files = paths("Rotes Auto/p{i}.png", 12) + paths("grün/p{i}-mask.png", 12)
  assert "--images='Rotes Auto' --labels='grün'" in refusal(files)
  assert counts(understand(paths("a/{i}.png", 12) + paths("b/1{i}.png", 12)))  # a number is no suffix


def test_of_several_folders_next_to_maps_none_is_guessed():
  files = paths("fundus/{i}.tif") + paths("fov/{i}_fov.gif") + paths("1st_manual/{i}_manual1.gif")
  said = refusal(files)
  assert "--images=FOLDER, with that of the images (fov, fundus), and --labels=1st_manual" in said


def test_flags_in_messages_are_quoted_for_a_shell():
  folds = paths("{name}/{i}.jpg", name=("fold 1", "fold 2"))
  assert "--splits='train:fold 1,val:fold 2'" in refusal(folds)
  assert "--label_suffix='_1st HO'" in refusal(paths("x{i}.jpg") + paths("x{i}_1st HO.png"))
  images, maps = paths("images/x{i}.jpg"), paths("gt fine/x{i}.png")
  said = refusal([*images, *maps, *paths("labels/x{i}.png")], CLASSES)
  assert "choose one by --labels='gt fine'" in said
  said = refusal([*images, *maps, *paths("masks/x{i}_mask.png")], CLASSES)
  assert "choose by --labels=masks or --labels='gt fine'" in said


@pytest.mark.parametrize(
  "files",
  [
    paths("photo/x{i}.jpg") + paths("truth/x{i}.png"),
    paths("rot/x{i}.jpg") + paths("x/x{i}_gt.png"),
    paths("Task_Training_Input/{i}.jpg") + paths("Task_GroundTruth/{i}_s.png"),
    paths("x{i}.jpg") + paths("x{i}_1stHO.png"),
    paths("{name}/{i}.jpg", name="ab") + paths("a/masks/m{i}m.png"),
  ],
)
def test_who_is_told_to_name_maps_is_told_where_class_names_come_from(files):
  mend = "and put a classes.txt next to them, one class name per line"
  assert mend in refusal(files)
  assert mend not in refusal(files, CLASSES)
