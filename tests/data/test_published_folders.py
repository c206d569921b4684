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
  assert f"(those of one resolution): `mkdir -p stacked/S2A_0 && rio stack {paths} -o" in error


def test_folders_that_differ_in_their_split_are_no_classes_next_to_another(tmp_path, capsys):
  """As in Market-1501, where the images of each split lie next to those to search for."""
  folders = ("bounding_box_train", "bounding_box_test", "query")
  source = write(tmp_path / "in", {f"{name}/{i}.jpg": jpeg(8, 8, i) for name in folders for i in range(3)})
  error = refusal(capsys, source, tmp_path / "out")
  assert "look like parts of a divided set, not classes" in error
  flag = "--splits=test:bounding_box_test,train:bounding_box_train"
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
