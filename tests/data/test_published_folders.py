"""Further layouts as their owners publish them: what they mean is understood, or refused with flags."""

import numpy as np
import pytest

from tests.support.label_sets import jpeg, png, write
from tests.support.prepared import main, read
from tests.support.rasters import scene, write_tif

MASK = png(np.repeat([[0, 255]], 8, 0).repeat(4, 1))


def refusal(capsys, source, out, *flags) -> str:
  assert main(source, out, *flags) == 2 and not out.exists()
  error = capsys.readouterr().err
  assert error.count("\n") == 1
  return error


def test_bands_of_several_sizes_are_not_stacked(tmp_path, capsys):
  """As in BigEarthNet, whose names do not say the resolution; rio would shrink all to the first."""
  for band, side in (("B01", 4), ("B02", 24), ("B03", 24), ("B05", 12)):
    write_tif(tmp_path / "in" / "S2A_0" / f"S2A_0_{band}.tif", scene(0, side, side, 1))
  error = refusal(capsys, tmp_path / "in", tmp_path / "out")
  paths = " ".join(str(tmp_path / "in" / "S2A_0" / f"S2A_0_B0{band}.tif") for band in (2, 3))
  assert f"(those of one resolution): `mkdir -p stacked && rio stack {paths} -o stacked/S2A_0.tif`" in error


def test_folders_that_differ_in_their_split_are_no_classes_next_to_another(tmp_path, capsys):
  """As in Market-1501, where the images of each split lie next to those to search for."""
  folders = ("bounding_box_train", "bounding_box_test", "query")
  source = write(tmp_path / "in", {f"{name}/{i}.jpg": jpeg(8, 8, i) for name in folders for i in range(3)})
  error = refusal(capsys, source, tmp_path / "out")
  assert "look like parts of a divided set, not classes" in error
  flag = "--splits=train:bounding_box_train,test:bounding_box_test"
  assert f"{flag}, which leaves out query" in error and main(source, tmp_path / "out", flag) == 0
  assert len(read(tmp_path / "out")) == len(read(tmp_path / "out", "test")) == 3
  assert main(source, tmp_path / "classes", "--classes=folders") == 0
  assert len(read(tmp_path / "classes").class_names) == 3


@pytest.mark.parametrize(
  "flags", [["--images=*.png", "--labels=*_mask.png"], ["--images=*.png", "--label_suffix=_mask"]]
)
def test_a_pattern_of_images_that_matches_maps_too(flags, tmp_path):
  files = {f"{i}{end}.png": MASK for i in range(3) for end in ("", "_mask")}
  source = write(tmp_path / "in", files | {"classes.txt": "a\nb\n"})
  assert main(source, tmp_path / "out", *flags) == 0
  assert len(read(tmp_path / "out")) == 3


def test_maps_in_a_folder_inside_one_called_like_that_of_the_images(tmp_path):
  """As in iSAID, with maps of classes and of instances."""
  contents = {"classes.txt": "a\nb\n"}
  for path in (f"{split}/{{}}images/P{i}" for split in ("train", "val") for i in range(2)):
    contents[path.format("") + ".png"] = jpeg(8, 8, 0)
    contents[path.format("Semantic_masks/") + "_instance_color_RGB.png"] = MASK
    contents[path.format("Instance_masks/") + "_instance_id_RGB.png"] = MASK
  source = write(tmp_path / "in", contents)
  assert main(source, tmp_path / "out") == 0
  assert len(read(tmp_path / "out")) == len(read(tmp_path / "out", "val")) == 2


def test_a_split_inside_the_names_of_folders(tmp_path):
  """As in ISIC 2018, where the folders of images and maps have longer names than the split."""
  contents = {"classes.txt": "skin\nlesion\n"}
  for split, count in (("Training", 3), ("Validation", 2)):
    for i in range(count):
      contents[f"ISIC2018_Task1-2_{split}_Input/ISIC_{i}.jpg"] = jpeg(8, 8, i)
      contents[f"ISIC2018_Task1_{split}_GroundTruth/ISIC_{i}_segmentation.png"] = MASK
  source = write(tmp_path / "in", contents)
  patterns = ("Task1-2_{split}_Input/*.jpg", "Task1_{split}_GroundTruth/*_segmentation.png")
  flags = [f"--{flag}=ISIC2018_{end}" for flag, end in zip(("images", "labels"), patterns, strict=True)]
  assert main(source, tmp_path / "out", *flags) == 0
  assert len(read(tmp_path / "out", "Training")) == 3 and len(read(tmp_path / "out", "Validation")) == 2


def tiny_imagenet(table: str, name="val_annotations.txt") -> dict[str, bytes | str]:
  """As in Tiny ImageNet: class folders in train, and a table next to the images of val."""
  contents = {f"val/{name}": table, "wnids.txt": "n01\nn02\n"}
  for i in range(3):
    contents |= {f"train/n0{label}/images/n0{label}_{i}.JPEG": jpeg(8, 8, 10 * label + i) for label in (1, 2)}
    contents[f"val/images/val_{i}.JPEG"] = jpeg(8, 8, i)
  return contents


@pytest.mark.parametrize(
  "name, table",
  [
    ("val_annotations.txt", "".join(f"val_{i}.JPEG\tn0{1 + i % 2}\t0\t0\t1\t1\n" for i in range(3))),
    ("labels.csv", "file,class\n" + "".join(f"images/val_{i}.JPEG,n0{1 + i % 2}\n" for i in range(3))),
    ("val.txt", "".join(f"val_{i} n0{1 + i % 2}\n" for i in range(3))),
  ],
)
def test_a_table_gives_a_split_its_classes(name, table, tmp_path, capsys):
  source = write(tmp_path / "in", tiny_imagenet(table, name))
  assert main(source, tmp_path / "out", "--strict") == 0
  assert f"classes of 3 images: those in val/{name}" in capsys.readouterr().out
  val = read(tmp_path / "out", "val")
  labels = {val[i].name: val.class_names[val[i].label] for i in range(3)}
  assert labels == {f"val/images/val_{i}.JPEG": f"n0{1 + i % 2}" for i in range(3)}


@pytest.mark.parametrize(
  "table, count",
  [
    ("val_0.JPEG\tn01\nval_1.JPEG\tn02\n", 2),  # an image has no row
    ("".join(f"val_{i}.JPEG\tn03\n" for i in range(3)), 3),  # no folder of train
    ("".join(f"val_{i}.JPEG 1\n" for i in range(3)), 3),
    ("".join(f"val_{i}.JPEG\tn0{j}\n" for i in range(3) for j in (1, 2)), 3),  # two classes
    ("val_0.JPEG\n", 0),
  ],
)
def test_a_split_without_classes_is_strange(table, count, tmp_path, capsys):
  source = write(tmp_path / "in", tiny_imagenet(table))
  assert main(source, tmp_path / "out") == 0
  said = " ".join(capsys.readouterr().out.split())
  assert "STRANGE: val: none of its 3 images has a class, but 6 of 6 in train have; move them" in said
  unread = f"STRANGE: val/val_annotations.txt names {count} of the images without a class, but is not read"
  assert (unread in said) == bool(count)
  assert main(source, tmp_path / "strict", "--strict") == 2


def test_a_test_split_may_withhold_its_classes(tmp_path, capsys):
  contents = {f"{split}/{c}/{i}.png": MASK for split in ("train", "val") for c in "ab" for i in range(2)}
  for splits, strange in ((("train", "val"), False), (("train",), True)):
    kept = {path: data for path, data in contents.items() if path.startswith(splits)}
    source = write(tmp_path / f"in{len(splits)}", kept | {f"test/{i}.jpg": jpeg(8, 8, i) for i in range(3)})
    assert main(source, tmp_path / f"out{len(splits)}") == 0
    assert ("test: none of its 3 images has a class" in capsys.readouterr().out) == strange


@pytest.mark.parametrize("rows, is_named", [(3, True), (2, False)])
def test_a_table_of_numbered_groups_is_named(rows, is_named, tmp_path, capsys):
  contents = {f"P00{i}/x.jpg": jpeg(8, 8, i) for i in range(3)}
  table = "".join(f"P00{i}/x.jpg,patient{i},benign\n" for i in range(rows))
  source = write(tmp_path / "in", contents | {"table.csv": "file,patient,diagnosis\n" + table})
  assert main(source, tmp_path / "out") == 0
  said = " ".join(capsys.readouterr().out.split())
  named = "table.csv lists the images, but classes are given by class folders only" in said
  assert named == is_named == ("--by=csv:COLUMN" in said) and "numbered groups of images" in said


@pytest.mark.parametrize(
  "folders, are_groups",
  [
    (["patient00001", "patient00002", "patient00105"], True),  # as in CheXpert
    (["subject_1", "subject_2", "subject_12"], True),
    (["case-003", "case-004", "case-017"], True),
    (["P0001", "P0002", "P0003"], True),
    (["slide_17", "slide_18", "slide_19"], True),
    (["Scene 4", "Scene 5", "Scene 6"], True),
    (["video3", "video4", "video5"], True),
    (["train_patient_1", "train_patient_2", "train_patient_3"], True),
    (["patient1", "patient2"], False),
    (["patient1", "patient2", "healthy"], False),
    (["0", "1", "2", "9"], False),
    (["0001", "0002", "0003"], False),
    (["n01440764", "n01443537", "n01484850"], False),
    (["class_0", "class_1", "class_2"], False),
    (["class1", "class2", "class10"], False),
    (["grade0", "grade1", "grade2", "grade3"], False),
    (["level_1", "level_2", "level_3"], False),
    (["c0", "c1", "c2"], False),
    (["stage I", "stage II", "stage III"], False),
    (["001.Albatross", "002.Auklet", "003.Bunting"], False),
    (["boeing737", "boeing747", "boeing777"], False),
    (["PT100", "A320", "DC10"], False),
  ],
)
def test_numbered_groups_of_images_are_strange_classes(folders, are_groups, tmp_path, capsys):
  contents = {f"{name}/{i}.jpg": jpeg(8, 8, 10 * n + i) for n, name in enumerate(folders) for i in range(2)}
  source = write(tmp_path / "in", contents)
  assert main(source, tmp_path / "out") == 0
  said = " ".join(capsys.readouterr().out.split())
  assert (
    "STRANGE: the classes are the folders" in said and "numbered groups of images" in said
  ) == are_groups
  assert len(read(tmp_path / "out").class_names) == len(folders)
  assert main(source, tmp_path / "asked", "--classes=folders", "--strict") == 0


@pytest.mark.parametrize(
  "image, target, flag",
  [
    ("{}/{}_sat.png", "{}/{}_mask.png", "--splits=train:train"),  # as in DeepGlobe
    ("images/{}/{}.png", "labels/{}/{}.png", "--splits=train:train"),
    ("{} set/images/{}.png", "{} set/labels/{}.png", "--splits='train:train set'"),
    ("{}/{}.png", "{}_labels/{}.png", ""),
  ],
)
def test_maps_in_only_one_split(image, target, flag, tmp_path, capsys):
  contents = {image.format(split, i): MASK for split in ("train", "valid") for i in range(2)}
  contents |= {target.format("train", i): MASK for i in range(2)} | {"classes.txt": "a\nb\n"}
  source = write(tmp_path / "in", contents)
  error = refusal(capsys, source, tmp_path / "out")
  assert "has no labels for the images of split val" in error
  assert error.rstrip().endswith(
    f"prepare only the splits with maps by {flag}" if flag else "remove the images"
  )
  if flag:
    assert main(source, tmp_path / "out", flag.replace("'", "")) == 0
    assert len(read(tmp_path / "out")) == 2


@pytest.mark.parametrize("numbered", ["1 001.a\n2 002.b\n3 003.c\n", "001.a\n002.b\n"])
def test_a_class_file_that_names_the_folders_of_the_images(numbered, tmp_path, capsys):
  """As in CUB-200, whose masks tell birds from background."""
  contents = {f"segmentations/{c}/{i}.png": MASK for c in ("001.a", "002.b") for i in range(2)}
  contents |= {f"CUB/images/{c}/{i}.jpg": jpeg(8, 8, i) for c in ("001.a", "002.b") for i in range(2)}
  source = write(tmp_path / "in", contents | {"CUB/classes.txt": numbered})
  error = refusal(capsys, source, tmp_path / "out")
  assert "names the folders of the images" in error and "put a classes.txt next to the maps" in error
  values = ",".join(map(str, range(numbered.count("\n") - 1))) + ",255"
  assert main(source, tmp_path / "confirmed", f"--label_values={values}") == 0
  write(tmp_path / "in", {"segmentations/classes.txt": "background\nbird\n"})
  assert main(source, tmp_path / "out") == 0
  assert read(tmp_path / "out").class_names == ("background", "bird")


def test_a_class_file_that_names_one_folder_of_the_images(tmp_path):
  contents = {f"{kind}/road/{i}.png": MASK for kind in ("images", "labels") for i in range(2)}
  source = write(tmp_path / "in", contents | {"classes.txt": "background\nroad\n"})
  assert main(source, tmp_path / "out") == 0


@pytest.mark.parametrize(
  "stems, classes",
  [
    ([f"{c}.{i}" for c in ("cat", "dog") for i in range(4)], "cat, dog"),  # as in Dogs vs. Cats
    (
      [f"{c}_{i}" for c in ("Abyssinian", "great_pyrenees") for i in (1, 2, 100)],
      "Abyssinian, great_pyrenees",
    ),
    ([f"{c} ({i})" for c in ("ant", "bee") for i in range(3)], "ant, bee"),
    ([f"{c}{i}" for c in "abcdefg" for i in range(3)], "a, b, c, d, e and 2 more"),
    ([f"cat.{i}" for i in range(8)], ""),
    ([f"{c}_{i}" for c in ("DSC", "frame") for i in range(4)], ""),
    ([f"{c}_{i}" for c in ("patient_a", "patient_b") for i in range(4)], ""),
    ([f"{c}_{i}" for c in ("train", "val") for i in range(4)], ""),
    ([*(f"{c}.{i}" for c in ("cat", "dog") for i in range(4)), "x", "y"], ""),
    ([f"{c}{i}" for c in "abcdefg" for i in range(2)], ""),
    ([f"{i:05}" for i in range(8)], ""),
  ],
)
def test_names_of_images_that_seem_to_hold_classes(stems, classes, tmp_path, capsys):
  contents = {f"train/{stem}.jpg": jpeg(8, 8, i) for i, stem in enumerate(stems)}
  source = write(tmp_path / "in", contents | {f"test/{i}.jpg": jpeg(8, 8, 90 + i) for i in range(2)})
  assert main(source, tmp_path / "out", "--strict") == 0
  said = " ".join(capsys.readouterr().out.split())
  assert (f"names of images seem to hold classes, such as {classes}: to train on them" in said) == bool(
    classes
  )
  assert "seem to hold" not in said or f"folder for each class, as in {classes.split(',')[0]}/" in said
