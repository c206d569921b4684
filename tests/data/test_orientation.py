"""EXIF orientation is applied to images wherever they are read, and to maps that lie like stored pixels."""

import io

import numpy as np
from PIL import Image, ImageOps
import pytest

from swin_jax.data.prepare import encoding
from swin_jax.data.read import decoding, facts, image_ops, orientation, targets
from swin_jax.data.read.example import Example
from swin_jax.data.read.targets import Target
from tests.support import label_sets, prepared
from tests.support.opened import open_source


def photograph(declared, size=(20, 30), kind="JPEG", **options) -> bytes:
  """Returns an image file whose stored pixels have a (height, width) and declare an orientation."""
  rows, columns = np.mgrid[: size[0], : size[1]] * 6
  exif = Image.Exif()
  exif[0x0112] = declared
  out = io.BytesIO()
  Image.fromarray(np.stack([rows, columns, 0 * rows], -1).astype(np.uint8)).save(
    out, kind, exif=exif, **options
  )
  return out.getvalue()


def upright(encoded: bytes) -> np.ndarray:
  return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded))).convert("RGB"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("declared", range(1, 9))
def test_images_are_decoded_upright(declared, kind):
  encoded = photograph(declared, kind=kind)
  expected = upright(encoded)
  assert expected.shape[:2] == ((30, 20) if declared > 4 else (20, 30))
  np.testing.assert_array_equal(image_ops.decode(encoded, 3), expected)
  assert orientation.upright_size(encoded) == expected.shape[:2]


@pytest.mark.parametrize("declared", [0, 9, 200])
def test_an_orientation_that_does_not_exist_changes_nothing(declared):
  encoded = photograph(declared)
  np.testing.assert_array_equal(image_ops.decode(encoded, 3), np.asarray(Image.open(io.BytesIO(encoded))))
  assert orientation.upright_size(encoded) == (20, 30)


def test_damaged_exif_does_not_make_an_image_unreadable(monkeypatch):
  def fail(*_):
    raise SyntaxError("not a TIFF file")

  encoded = photograph(6, kind="PNG")
  monkeypatch.setattr(Image.Exif, "load", fail)
  assert image_ops.decode(encoded, 3).shape == (20, 30, 3)


def test_images_keep_their_bytes_and_are_shrunk_upright():
  encoded = photograph(6)
  assert encoding.shrink(encoded, 0, 90)[0] == encoded
  small = Image.open(io.BytesIO(encoding.shrink(encoded, 10, 95)[0]))
  assert small.size == (10, 15) and 0x0112 not in small.getexif()
  expected = Image.fromarray(upright(encoded)).resize((10, 15), Image.Resampling.LANCZOS)
  np.testing.assert_allclose(np.asarray(small, int), np.asarray(expected, int), atol=12)


def maps(size=(20, 30)) -> np.ndarray:
  rows, columns = np.mgrid[: size[0], : size[1]]
  return np.where(rows < 3, 2, (columns < 5).astype(int)).astype(np.uint8)


def files(declared) -> dict[str, bytes]:
  """Returns a set with two photographs; one map lies like the stored pixels, one like the upright image."""
  stored = maps()
  contents = {"classes.txt": label_sets.CLASSES}
  for name, values in (("stored", stored), ("upright", orientation.turn(stored, declared))):
    contents[f"train/images/{name}.jpg"] = photograph(declared)
    contents[f"train/labels/{name}.png"] = label_sets.png(values)
  return contents


@pytest.mark.parametrize("declared", [5, 6, 7, 8])
@pytest.mark.parametrize("way", ["prepared", "shrunk", "folder"])
def test_maps_lie_like_their_upright_images(tmp_path, declared, way):
  folder = label_sets.write(tmp_path / "in", files(declared))
  if way != "folder":
    prepared.run(folder, tmp_path / "out", short_side=10 if way == "shrunk" else 0)
  name, path = ("folder", folder) if way == "folder" else ("array_record", str(tmp_path / "out"))
  source = open_source(name, path, "train", Target.LABELS)
  size = (15, 10) if way == "shrunk" else (30, 20)
  expected = targets.resize(orientation.turn(maps(), declared), size)
  assert len(source) == 2
  for i in range(2):
    image, target, _ = decoding.DecodeMapped(3)(source[i])
    assert image.shape == (*size, 3)
    np.testing.assert_array_equal(target, expected)


def test_maps_of_old_sets_are_turned_when_they_are_decoded():
  stored = Example(photograph(6), -1, "x", targets.encode(maps()))
  _, target, _ = decoding.DecodeMapped(3)(stored)
  np.testing.assert_array_equal(target, orientation.turn(maps(), 6))


def test_maps_of_another_size_are_refused():
  with pytest.raises(ValueError, match="its map has 21 × 30 pixels, but the image has 30 × 20"):
    decoding.DecodeMapped(3)(Example(photograph(6), -1, "x", maps((21, 30))))


def test_half_a_turn_leaves_maps_alone():
  np.testing.assert_array_equal(targets.upright(maps(), photograph(3)).map, maps())


def test_the_table_shows_upright_sizes(tmp_path):
  (tmp_path / "in" / "a").mkdir(parents=True)
  (tmp_path / "in" / "a" / "0.jpg").write_bytes(photograph(6))
  prepared.run(tmp_path / "in", tmp_path / "out")
  (split,) = facts.read(str(tmp_path / "out")).splits
  assert split.counts["largest"] == [30, 20]


# Maps whose size does not tell how they lie.


def square(folder, declared, size=(32, 32), kind="labels") -> str:
  contents = {"classes.txt": label_sets.CLASSES}
  for i in range(3):
    contents[f"train/images/{i}.jpg"] = photograph(declared, size)
    contents[f"train/{kind}/{i}.png"] = label_sets.png(maps(size))
  return label_sets.write(folder, contents)


def read_maps(out) -> list[np.ndarray]:
  source = open_source("array_record", str(out), "train", Target.LABELS)
  return [targets.decode(source[i].target) for i in range(len(source))]


@pytest.mark.parametrize("tile", ["--tile=0", "--tile=16"])
@pytest.mark.parametrize("declared, size", [(6, (32, 32)), (5, (32, 32)), (3, (32, 48)), (2, (32, 48))])
def test_maps_that_may_lie_either_way_are_reported_and_turned_on_request(
  tmp_path, capsys, declared, size, tile
):
  folder = square(tmp_path / "in", declared, size)
  assert prepared.main(folder, tmp_path / "a", tile) == 0
  said = " ".join(capsys.readouterr().out.split())
  count = 3 if tile == "--tile=0" else 3 * (size[0] // 16) * (size[1] // 16)
  what = "images" if tile == "--tile=0" else "tiles"
  assert f"STRANGE: train: EXIF orientation turns {count} of {count} {what}, and the size of their" in said
  assert "if they lie like the stored pixels, give --maps_as_stored" in said
  assert prepared.main(folder, tmp_path / "b", tile, "--maps_as_stored") == 0
  said = " ".join(capsys.readouterr().out.split())
  assert f"train: EXIF orientation turned the maps of {count} {what} like their images" in said
  assert "--maps_as_stored" not in said
  sums = [
    [sum((each == label).sum() for each in read_maps(out)) for label in range(3)]
    for out in (tmp_path / "a", tmp_path / "b")
  ]
  assert sums[0] == sums[1]
  if tile == "--tile=0":
    for out, expected in (("a", maps(size)), ("b", orientation.turn(maps(size), declared))):
      assert all(np.array_equal(each, expected) for each in read_maps(tmp_path / out))
      decoded = decoding.DecodeMapped(3)(
        open_source("array_record", str(tmp_path / out), "train", Target.LABELS)[0]
      )
      np.testing.assert_array_equal(decoded.target, expected)


def test_a_set_of_other_turns_is_another_set(tmp_path):
  folder = square(tmp_path / "in", 6)
  assert prepared.main(folder, tmp_path / "out") == 0
  assert prepared.main(folder, tmp_path / "out", "--maps_as_stored") == 2


def test_maps_that_are_turned_are_counted(tmp_path, capsys):
  folder = label_sets.write(tmp_path / "in", files(6))
  assert prepared.main(folder, tmp_path / "out", "--strict") == 0
  assert "train: EXIF orientation turned the maps of 1 images like their images" in capsys.readouterr().out
