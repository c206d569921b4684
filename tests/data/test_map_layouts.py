"""Layouts of images and their maps: what is paired, and what is ambiguous."""

import pytest

from swin_jax.data.read import roles
from tests.support.memory_layouts import CLASSES, counts, pairs, paths, refusal, understand

TWO, THREE = ("train", "val"), ("train", "val", "test")
asked = roles.Asked


@pytest.mark.parametrize(
  "image, target",
  [
    ("img_dir/{split}/{i}.jpg", "ann_dir/{split}/{i}.png"),
    ("{split}/image/{i}.jpg", "{split}/mask/{i}.png"),
    ("Images/{split}/{i}.jpg", "Masks/{split}/{i}.png"),
    ("{split}/a{i}.png", "{split}_labels/a{i}.png"),
    ("{split}/a{i}.png", "{split}_labels/a{i}_L.png"),
    ("{split}/a{i}.png", "{split}annot/a{i}.png"),
    ("{split}_images/a{i}.png", "{split}_masks/a{i}.png"),
    ("{split}/x{i}.jpg", "{split}/x{i}_mask.png"),
    ("{split}/{i}_sat.jpg", "{split}/{i}_mask.png"),
    ("{split}/x{i}.jpg", "{split}/masks/x{i}.png"),
    ("top/{split}/Urban/images_png/{i}.png", "top/{split}/Urban/masks_png/{i}.png"),
    ("leftImg8bit/{split}/c/c_{i}_leftImg8bit.png", "gtFine/{split}/c/c_{i}_gtFine_labelIds.png"),
    ("data/photos/{split}/{i}.jpg", "data/ground_truth/{split}/{i}.png"),
  ],
)
def test_images_and_their_maps(image, target):
  files = paths(image, split=TWO), paths(target, split=TWO)
  layout = understand([*files[0], *files[1]], CLASSES)
  assert counts(layout) == {"train": 4, "val": 4}
  assert pairs(layout) == dict(zip(*files, strict=True))
  assert layout.classes.names == ("sky", "road", "car") and not layout.unread
  assert f"the map of {image.format(split='train', i=0)} is {target.format(split='train', i=0)}" in str(
    layout.notes
  )


def test_a_plain_layout_needs_no_note():
  layout = understand(
    paths("{split}/{kind}/{i}.png", split=TWO, kind=("images", "labels")), {"train/classes.txt": "a\nb\n"}
  )
  assert counts(layout) == {"train": 4, "val": 4} and not layout.notes


def test_maps_in_a_folder_of_their_own_and_lists():
  texts = {f"annotations/{name}.txt": "" for name in ("list", "test", "trainval")} | CLASSES
  texts["annotations/trainval.txt"] = "x_0 1 1\nx_1 1 1\nx_2 2 1\n"
  texts["annotations/test.txt"] = "x_3 2 1\n"
  files = paths("images/x_{i}.jpg") + paths("annotations/trimaps/x_{i}.png")
  layout = understand([*files, "annotations/xmls/x_0.xml", "annotations/trimaps/._x_0.png"], texts)
  assert counts(layout) == {"train": 3, "test": 1}
  assert pairs(layout)["images/x_3.jpg"] == "annotations/trimaps/x_3.png"
  assert layout.unread == {".txt": 1, ".xml": 1}
  assert "passed over: names that begin with a dot (1)" in layout.notes


def test_several_maps_of_an_image_are_refused():
  files = paths("leftImg8bit/{split}/c/c_{i}_leftImg8bit.png", split=TWO)
  maps = paths("{gt}/{split}/c/c_{i}_{gt}_{end}.png", split=TWO, gt=["gtFine"], end=("labelIds", "color"))
  assert set(understand(files + maps, CLASSES).splits["val"].maps) == {
    f"gtFine/val/c/c_{i}_gtFine_labelIds.png" for i in range(4)
  }
  more = paths("gtFine/{split}/c/c_{i}_gtFine_labelTrainIds.png", split=TWO)
  assert "choose one by --label_suffix=_gtFine_labelIds" in refusal(files + maps + more, CLASSES)
  layout = understand(files + maps + more, CLASSES, asked(label_suffix="_gtFine_labelTrainIds"))
  assert set(pairs(layout).values()) == set(more) and layout.excluded == {".png": 16}
  coarse = paths("gtCoarse/{split}/c/c_{i}_gtCoarse_labelIds.png", split=TWO)
  assert "choose one by --labels=gtCoarse" in refusal(files + maps + coarse, CLASSES)
  assert set(pairs(understand(files + maps + coarse, CLASSES, asked(labels="gtFine"))).values()) == {
    f"gtFine/{split}/c/c_{i}_gtFine_labelIds.png" for split in TWO for i in range(4)
  }


def test_another_folder_of_maps_is_not_passed_over():
  files = [
    f"{split}/{kind}"
    for split in ("training", "test")
    for i in (1, 2)
    for kind in (f"images/{i}_{split}.tif", f"1st_manual/{i}_manual1.gif", f"mask/{i}_{split}_mask.gif")
  ]
  assert "choose by --labels=1st_manual or --labels=mask" in refusal(files, CLASSES)
  layout = understand(files, CLASSES, asked(labels="1st_manual"))
  assert counts(layout) == {"training": 2, "test": 2} and layout.excluded == {".gif": 4}
  assert pairs(layout)["test/images/1_test.tif"] == "test/1st_manual/1_manual1.gif"


def test_a_test_split_without_maps_is_left_out():
  files = paths("{split}/image/{i}.jpg", split=THREE) + paths("{split}/mask/{i}.png", split=TWO)
  layout = understand(files, CLASSES)
  assert counts(layout) == {"train": 4, "val": 4} and layout.unread == {".jpg": 4}
  assert "split test has no maps and is left out, with 4 images" in layout.notes
  side = understand(paths("{kind}/{i}.png", kind=("images", "masks")) + paths("test/{i}.png"), CLASSES)
  assert counts(side) == {"train": 4} and side.unread == {".png": 4}


def test_patterns_and_suffixes():
  files = paths("{split}/rgb/a{i}_rgb.jpg", split=TWO) + paths("{split}/x/a{i}_ground.png", split=TWO)
  for flags in (
    asked(images="{split}/rgb/*_rgb.jpg", labels="**/*_ground.png"),
    asked(images="*_rgb.jpg", labels="x/*_ground.png"),
    asked(images="rgb", labels="x"),
  ):
    layout = understand(files, CLASSES, flags)
    assert counts(layout) == {"train": 4, "val": 4}
    assert pairs(layout)["val/rgb/a3_rgb.jpg"] == "val/x/a3_ground.png"
  beside = paths("{i}.jpg") + paths("{i}_1st.png") + paths("{i}_2nd.png")
  layout = understand(beside, CLASSES, asked(label_suffix="_1st"))
  assert pairs(layout)["2.jpg"] == "2_1st.png" and layout.excluded == {".png": 4}
  assert "matches no file" in refusal(files, CLASSES, asked(images="nothing"))
  assert "_nothing ends no file name in the source" in refusal(files, CLASSES, asked(label_suffix="_nothing"))
  only = understand(files, flags=asked(images="{split}/rgb/*.jpg"))
  assert counts(only) == {"train": 4, "val": 4} and only.excluded == {".png": 8} and not only.has_maps


@pytest.mark.parametrize(
  "flags, image, target",
  [
    (dict(images="images/*.png", labels="*_gt.png"), "images/{i}.png", "images/{i}_gt.png"),
    (dict(images="images", labels="gt"), "images/{i}.png", "images/gt/{i}.png"),
    (dict(images="images", labels="gt"), "gt/images/{i}.png", "gt/{i}.png"),
    (dict(images="**/*.png", labels="gt/*.png"), "rgb/{i}.png", "gt/{i}.png"),
    (dict(images="*.png", labels="gt"), "rgb/{i}.png", "gt/{i}.png"),
    (dict(images="rgb/*.png", labels="*.png"), "rgb/{i}.png", "maps/{i}.png"),
    (
      dict(images="*_rgb.png", labels="name_of_a_folder"),
      "{i}_rgb.png",
      "name_of_a_folder/{i}.png",
    ),
  ],
)
def test_of_two_patterns_the_more_precise_one_decides(flags, image, target):
  layout = understand(paths(image) + paths(target), CLASSES, asked(**flags))
  assert pairs(layout) == dict(zip(paths(image), paths(target), strict=True))


def test_a_pattern_whose_files_all_belong_to_the_other_is_refused():
  said = refusal(paths("{i}.png"), CLASSES, asked(images="*.png", labels="*.png"))
  assert "every file that --images=*.png matches goes to another flag" in said


@pytest.mark.parametrize("labels", ["truth", "truth/*.png", "{split}/truth/**/*.png"])
def test_a_pattern_and_a_suffix_of_maps(labels):
  files = paths("{split}/photos/c/x{i}.jpg", split=TWO)
  maps = paths("{split}/truth/c/x{i}_lbl.png", split=TWO)
  others = paths("{split}/truth/c/x{i}_inst.png", split=TWO) + paths("{split}/more/c/x{i}_lbl.png", split=TWO)
  if labels == "truth/*.png":
    files, maps, others = ([path.replace("/c/", "/") for path in each] for each in (files, maps, others))
  layout = understand(
    [*files, *maps, *others], CLASSES, asked(images="photos", labels=labels, label_suffix="_lbl")
  )
  assert set(pairs(layout).values()) == set(maps) and layout.excluded == {".png": 16}
  assert pairs(layout)[files[0]] == maps[0]
  said = refusal([*files, *maps], CLASSES, asked(images="photos", labels=labels, label_suffix="_x"))
  assert "--label_suffix=_x ends no file name" in said


def test_a_split_may_have_maps_only_or_be_the_only_one():
  images = paths("images/train/{i}.jpg")
  layout = understand(images + paths("labels/{split}/{i}.png", split=TWO), CLASSES)
  assert counts(layout) == {"train": 4} and layout.unread == {".png": 4}
  alone = paths("{kind}/val/{i}.png", kind=("images", "labels"))
  assert counts(understand(alone, CLASSES)) == {"val": 4}
