"""Two folders whose files have the same names: classes, or images and their maps; the pixels tell."""

import numpy as np
from PIL import Image
import pytest

from swin_jax.data.read import layouts, trees
from swin_jax.terminal.errors import BadInput


def photograph(rng, size, mode):
  coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8)).resize((size, size), Image.BICUBIC)
  noisy = np.asarray(coarse).astype(int) + rng.integers(-9, 9, (size, size, 3))
  return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).convert(mode)


def label_map(rng, size, mode="L"):
  cells = rng.integers(0, 2, (2, 2), np.uint8) * 2 + np.eye(2, dtype=np.uint8)
  return Image.fromarray(cells * 60).resize((size, size), Image.NEAREST).convert(mode)


def plain(rng, size, mode):
  return Image.new(mode, (size, size), int(rng.integers(0, 255)) if mode == "L" else "red")


def understand(folder, first, second, form="{}.png", count=6, names=("a", "b"), sizes=(32, 32)):
  rng = np.random.default_rng(0)
  for name, (make, mode), size in zip(names, (first, second), sizes, strict=True):
    (folder / name).mkdir()
    for i in range(count):
      make(rng, size, mode).save(folder / name / form.format(i))
  return layouts.understand(trees.Disk(str(folder)))


KINDS = [(photograph, "RGB"), (photograph, "L"), (label_map, "L"), (plain, "RGB")]


@pytest.mark.parametrize("size", [8, 64])
@pytest.mark.parametrize("form", ["{}.png", "img_{}.png", "w{}_x.png", "2021-05-{}a.png"])
@pytest.mark.parametrize("kind", KINDS)
def test_folders_of_the_same_kind_of_pictures_are_classes(kind, form, size, tmp_path):
  layout = understand(tmp_path, kind, kind, form, sizes=(size, size))
  assert layout.splits[""].class_names == ("a", "b")
  named = "whose files have the same names; if one holds maps of the other, give --images=a --labels=b"
  assert [named in line for line in layout.warnings] == ([] if form in ("{}.png", "img_{}.png") else [True])


@pytest.mark.parametrize("form", ["{}.png", "x{}y.png"])
@pytest.mark.parametrize("image", KINDS[:2])
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
@pytest.mark.parametrize("size", [8, 64])
def test_maps_next_to_their_images_are_no_class(form, image, mode, size, tmp_path):
  with pytest.raises(BadInput, match="--images=one --labels='the other'"):
    understand(tmp_path, image, (label_map, mode), form, names=("one", "the other"), sizes=(size, size))
  for folder in ("one", "the other"):
    (tmp_path / folder).rename(tmp_path / f"old {folder}")
  (tmp_path / "next").mkdir()
  with pytest.raises(BadInput, match="--images=second --labels=first"):
    understand(
      tmp_path / "next", (label_map, mode), image, form, names=("first", "second"), sizes=(size, size)
    )


def test_grey_and_coloured_pictures(tmp_path):
  """Depth, or a class that was photographed otherwise: numbers as names do not tell."""
  (tmp_path / "numbers").mkdir(), (tmp_path / "names").mkdir()
  (line,) = understand(tmp_path / "numbers", *KINDS[:2]).warnings
  assert "if one holds maps of the other" in line
  with pytest.raises(BadInput, match="do not look like classes"):
    understand(tmp_path / "names", *KINDS[:2], "x{}y.png")


def test_maps_of_other_sizes_than_the_images_may_be_classes(tmp_path):
  (line,) = understand(tmp_path, KINDS[0], KINDS[2], sizes=(32, 40)).warnings
  assert "if one holds maps of the other" in line


def test_pairs_are_of_one_split(tmp_path):
  rng = np.random.default_rng(0)
  for split, name, numbers in (
    ("train", "a", "01"),
    ("train", "b", "02"),
    ("val", "a", "2"),
    ("val", "b", "1"),
  ):
    (tmp_path / split / name).mkdir(parents=True)
    for i in numbers:
      photograph(rng, 8, "RGB").save(tmp_path / split / name / f"{i}x.png")
  assert layouts.understand(trees.Disk(str(tmp_path))).splits["val"].class_names == ("a", "b")
