"""prepare ends with a table, and names what is strange below it; --strict turns that into an error."""

import io
import json
import os
import re

import numpy as np
from PIL import Image
import pytest

from swin_jax.data.prepare import report, tiles
from swin_jax.data.read import facts, maps, outliers, shards, strange
from swin_jax.data.read.targets import Target
from tests.support import images, label_sets, seals
from tests.support.prepared import files, main, run
from tests.support.rasters import scene, write_tif


def found(out) -> list[str]:
  return strange.find(facts.read(str(out)))


def table(capsys) -> list[str]:
  """Returns the lines from the table on, without those that name paths."""
  lines = capsys.readouterr().out.splitlines()
  start = next(i for i, line in enumerate(lines) if re.search(r": .*(split|contents)$", line))
  end = next(i for i, line in enumerate(lines) if " is complete: " in line)
  return lines[start + 1 : end]


def copies(root, names, size=(10, 8)):
  """Writes an image per name, random ones by their number."""
  for i, name in enumerate(names):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(images.encode(i, size))
  return root


# The table.


def test_counts_and_shares_in_columns(tmp_path, capsys):
  names = [f"train/cat/{i}.png" for i in range(3)] + ["train/dog/0.png", "val/cat/0.png", "val/dog/0.png"]
  run(copies(tmp_path / "in", names), tmp_path / "out")
  assert table(capsys) == [
    "                                      train                       val",
    "  cat                            3   75.0 %                1   50.0 %",
    "  dog                            1   25.0 %                1   50.0 %",
    "  images                                  4                         2",
    "  smallest, h × w                    8 × 10                    8 × 10",
    "  largest, h × w                     8 × 10                    8 × 10",
    "  bands                                   3                         3",
    "  types                                 PNG                       PNG",
    "nothing looks strange",
  ]


def test_hundreds_of_classes_and_long_names(tmp_path, capsys):
  names = [
    f"{'x' * 60 * (label == 7)}{label:03}/{i}.png" for label in range(150) for i in range(1 + label % 7)
  ]
  run(copies(tmp_path / "in", names, (3, 2)), tmp_path / "out", hold_out=0.3)
  lines = table(capsys)
  assert len(lines) < 45 and max(map(len, lines)) < 110
  assert sum(re.match(r"  (\d{3}|x{23}…) ", line) is not None for line in lines) == 24
  (rest,) = (line for line in lines if "… 126 classes between" in line)
  shares = re.compile(r"(\d+) +[\d.]+ %")
  shown = [int(number) for line in lines[1:26] if line is not rest for number in shares.findall(line)]
  assert sum(shown) + sum(map(int, shares.findall(rest))) == len(names)


def test_many_splits_and_wide_characters(tmp_path, capsys):
  splits = ("train", "val", "test", "train2017", "val2017")
  names = [f"{split}/{name}/{i}.png" for split in splits for name in ("猫", "dog") for i in range(2)]
  run(copies(tmp_path / "in", names), tmp_path / "out")
  lines = table(capsys)
  assert max(map(report.columns_of, lines)) < 110
  assert [line.split() for line in lines if "val" in line] == [
    ["train", "train2017", "val"],
    ["val2017", "test"],
  ]
  cat, dog = (next(line for line in lines if line.startswith(f"  {name} ")) for name in ("猫", "dog"))
  assert len(cat) == len(dog) - 1  # the character takes two columns


def test_a_share_is_not_rounded_to_none_or_all():
  assert [strange.percent(x) for x in (0, 1e-9, 0.5, 1 - 1e-9, 1)] == [
    "0.0 %",
    "<0.1 %",
    "50.0 %",
    "99.9 %",
    "100.0 %",
  ]


# What is strange.


def test_classes_without_images(tmp_path):
  names = [f"train/{name}/{i}.png" for name in ("ant", "bee") for i in range(2)]
  folder = copies(tmp_path / "in", [*names, "train/cat/0.png", "val/ant/0.png"])
  os.mkdir(folder / "val" / "yak")  # an empty folder is no class
  run(folder, tmp_path / "out")
  assert (
    found(tmp_path / "out")
    == [
      "classes bee, cat: no image in val",
      "class cat: in only one image",
      "100.0 % of the images of val are also in train",
    ][:2]
  )


def test_classes_of_pixels(tmp_path):
  contents = label_sets.files(splits=("train", "val"))
  contents = {
    name: label_sets.png(np.full((20, 30), 255)) if "/labels/" in name else data
    for name, data in contents.items()
  }
  contents["train/labels/0.png"] = label_sets.png(np.tile([0, 1, 0, 1, 0], (20, 6)))
  contents["val/labels/1.png"] = label_sets.png(np.tile([0, 255, 0, 255, 255], (20, 6)))
  contents["val/images/1.jpg"] = label_sets.jpeg(20, 30, 99)
  run(label_sets.write(tmp_path / "in", contents | {"classes.txt": label_sets.CLASSES}), tmp_path / "out")
  assert found(tmp_path / "out") == [
    "class car: no pixel in the set",
    "class road: no pixel in val",
    "class road: in only one image",
    "75.0 % of the images of val are also in train",
    "train: 75.0 % of the pixels have no class",
    "val: 90.0 % of the pixels have no class",
  ]


@pytest.mark.parametrize("count", [3, 40])
def test_the_same_images_in_two_splits(count, tmp_path, monkeypatch):
  monkeypatch.setattr(facts, "SKETCH", 16)  # fewer than a split has
  folder = copies(tmp_path / "in", [f"train/{i}.png" for i in range(count)])
  for split in ("val", "test"):
    copies(folder, [f"{split}/{i + 5}.png" for i in range(count)][: count if split == "val" else 2])
  copies(folder, [*(f"{i}.png" for i in range(count)), *(f"test2017/{i}.png" for i in range(4))])
  for path in folder.glob("*.png"):
    path.unlink()
  run(folder, tmp_path / "out")
  assert found(tmp_path / "out")[:1] == ["train and val hold the same images"]
  assert "all images of test are also in train" in found(tmp_path / "out")
  assert not any("test2017" in line for line in found(tmp_path / "out"))


@pytest.mark.parametrize(
  "dtype,value,text",
  [("int16", -9999, "-9999"), ("uint16", 65535, "65535"), ("float32", -3.4e38, "-3.39999995e+38")],
)
def test_a_number_that_marks_no_data(dtype, value, text, tmp_path):
  for i in range(4):
    bands = scene(i, 40, 30).astype(dtype)
    bands[:5, :7, 1:4] = value
    write_tif(tmp_path / "in" / "train" / f"{i}.tif", bands)
  run(tmp_path / "in", tmp_path / "out")
  (line,) = found(tmp_path / "out")
  assert line.startswith(f"bands 1–3: {text} in 2.9 % of the pixels") and line.endswith(
    f"give --nodata={text}"
  )
  run(tmp_path / "in", tmp_path / "mended", cut=tiles.Cut(nodata=float(text)))
  assert not found(tmp_path / "mended")


@pytest.mark.parametrize("value", [-1.7e308, np.inf])
def test_pixels_that_become_no_data_although_nothing_says_so(value, tmp_path, capsys):
  for i, split in enumerate(("train", "train", "val")):
    bands = scene(i, 20, 20).astype(np.float64)
    bands[i, :10] = value if split == "train" else -1
    write_tif(tmp_path / "in" / split / f"{i}.tif", bands, nodata=-1)
  run(tmp_path / "in", tmp_path / "out")
  (line,) = found(tmp_path / "out")
  assert line.startswith("train: 20 pixels (2.5 %) became no data although nothing declares them so")
  (row,) = (line.split() for line in table(capsys) if "no-data pixels" in line)
  assert row == ["no-data", "pixels", "20", "2.5", "%", "10", "2.5", "%"]
  if np.isfinite(value):
    run(tmp_path / "in", tmp_path / "mended", cut=tiles.Cut(nodata=value))
    assert not found(tmp_path / "mended")


def test_a_number_that_marks_unknown_pixels(tmp_path):
  for i in range(3):
    heights = np.random.default_rng(i).uniform(0, 30, (20, 25, 1)).astype(np.float32)
    heights[:6] = -1
    write_tif(tmp_path / "in/train/values" / f"{i}.tif", heights)
    (tmp_path / "in/train/images").mkdir(exist_ok=True)
    (tmp_path / "in/train/images" / f"{i}.png").write_bytes(images.encode(i, (25, 20)))
  run(tmp_path / "in", tmp_path / "out")
  (line,) = found(tmp_path / "out")
  assert line.startswith("maps of numbers: -1 in 30.0 %") and line.endswith("give --values_nodata=-1")
  run(tmp_path / "in", tmp_path / "mended", cut=tiles.Cut(meaning=maps.Meaning(nodata=-1)))
  assert not found(tmp_path / "mended")


@pytest.mark.parametrize(
  "low,high,expected",
  [
    ([[-9999, 9], [3, 1]], [[2900, 1], [2800, 1]], True),
    ([[-9999, 1], [3, 1]], [[2900, 1], [2800, 1]], False),  # does not recur
    ([[-9999, 9], [-430, 1]], [[60_000, 1], [2800, 1]], True),  # not as far, but all nines
    ([[0, 900], [280, 1]], [[310, 1], [309, 1]], True),
    ([[-1, 900], [0, 8]], [[200, 1], [199, 1]], True),
    ([[-1, 2], [0, 900]], [[200, 1], [199, 1]], False),  # noise around 0
    ([[-30, 2], [-29, 9]], [[200, 1], [199, 1]], False),
    ([[0, 9], [1, 9]], [[1, 9], [0, 9]], False),  # a mask
    ([[0, 9], [5, 9]], [[6, 9], [5, 9]], False),  # three codes
    ([[4, 9]], [[4, 9]], False),
    ([], [], False),
  ],
)
def test_outliers(low, high, expected):
  assert outliers.is_outlier({"pixels": 1000, "low": low, "high": high}, "low") is expected
  flipped = {"pixels": 1000, "low": [[-v, n] for v, n in high], "high": [[-v, n] for v, n in low]}
  only_negative = low and low[0][0] == -1
  assert outliers.is_outlier(flipped, "high") is (expected and not only_negative)


@pytest.mark.parametrize(
  "low,high,expected",
  [
    ([[0, 69], [500, 1]], [[3999, 1], [3998, 2]], True),  # depth in millimetres
    ([[0, 250], [200, 1]], [[3999, 1], [3990, 1]], True),
    ([[0, 99], [0.4, 1]], [[9.8, 1], [9.7, 1]], True),  # in metres
    ([[0, 9], [500, 1]], [[3999, 1], [3998, 2]], False),  # rare
    ([[0, 69], [500, 70]], [[3999, 1], [3998, 2]], False),
    ([[0, 250], [3, 1]], [[3999, 1], [3998, 1]], False),
    ([[0, 250], [10, 90]], [[90, 50], [80, 50]], False),  # in steps
    ([[0, 250], [0.1, 1]], [[300, 1], [290, 1]], False),  # rain
    ([[0, 250], [20, 1]], [[255, 9], [254, 9]], False),  # 8 bits
    ([[1, 250], [200, 1]], [[3999, 1], [3990, 1]], False),
    ([[0, 9]], [[0, 9]], False),
  ],
)
def test_a_zero_apart_from_all_other_numbers(low, high, expected):
  assert outliers.has_lone_zero({"pixels": 1000, "low": low, "high": high}) is expected


@pytest.mark.parametrize("in_all_bands", [True, False])
def test_a_zero_that_marks_no_data(in_all_bands, tmp_path):
  for i in range(3):
    bands = np.random.default_rng(i).integers(200, 4000, (40, 30, 3)).astype(np.uint16)
    bands[:10, :, slice(None) if in_all_bands else 1] = 0
    write_tif(tmp_path / "in" / "train" / f"{i}.tif", bands)
  run(tmp_path / "in", tmp_path / "out")
  expected = "bands 0–2: 0 in 25.0 % of the pixels, all others from 200 to 3999; if it marks pixels without"
  assert [line.startswith(expected) for line in found(tmp_path / "out")] == [True] * in_all_bands
  run(tmp_path / "in", tmp_path / "mended", cut=tiles.Cut(nodata=0))
  assert not found(tmp_path / "mended")


def test_a_zero_that_marks_unknown_pixels(tmp_path):
  for i in range(3):
    depth = np.random.default_rng(i).integers(500, 4000, (20, 25)).astype(np.uint16)
    depth[:5] = 0
    (tmp_path / "in/train/values").mkdir(parents=True, exist_ok=True)
    Image.fromarray(depth).save(tmp_path / "in/train/values" / f"{i}.png")
    (tmp_path / "in/train/images").mkdir(exist_ok=True)
    (tmp_path / "in/train/images" / f"{i}.png").write_bytes(images.encode(i, (25, 20)))
  run(tmp_path / "in", tmp_path / "out")
  (line,) = found(tmp_path / "out")
  assert line.startswith("maps of numbers: 0 in 25.0 %") and line.endswith("give --values_nodata=0")
  run(tmp_path / "in", tmp_path / "mended", cut=tiles.Cut(meaning=maps.Meaning(nodata=0)))
  assert not found(tmp_path / "mended")


def see_through(kind: str, least: int) -> Image.Image:
  """Returns an image of a mode whose left part has the least alpha."""
  image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 4)).astype(np.uint8))
  alpha = np.full((20, 24), 255, np.uint8)
  alpha[:, :5] = least
  image.putalpha(Image.fromarray(alpha))
  if kind == "P":
    return image.convert("RGB").quantize(8)
  return image.convert(kind)


@pytest.mark.parametrize("short_side", [0, 8])
@pytest.mark.parametrize(
  "kind,bands", [("RGBA", "4 (RGB and alpha)"), ("LA", "2 (grey and alpha)"), ("P", "3")]
)
def test_images_with_transparent_pixels(kind, bands, short_side, tmp_path, capsys):
  for i in range(4):
    path = tmp_path / "in" / "ab"[i % 2] / f"{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    see_through(kind, 0 if i else 255).save(path, **({"transparency": 3} if kind == "P" and i else {}))
  run(tmp_path / "in", tmp_path / "out", short_side=short_side)
  lines = table(capsys)
  if not short_side:
    assert any(line.split("  ")[-1].strip() == bands and "bands" in line for line in lines)
  count = 3 if kind == "P" else 4
  assert f"train: {count} images have an alpha channel or transparent colours" in " ".join(lines)
  assert any(
    line.startswith("train: 3 of 4 images have transparent pixels") for line in found(tmp_path / "out")
  )


def test_opaque_alpha_is_dropped_without_alarm(tmp_path, capsys):
  for i in range(2):
    path = tmp_path / "in" / f"{i}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    see_through("RGBA", 255).save(path)
  Image.new("CMYK", (9, 9)).save(tmp_path / "in" / "2.jpg")
  run(tmp_path / "in", tmp_path / "out")
  assert "train: 2 images have an alpha channel" in " ".join(table(capsys))
  assert not any("transparent" in line for line in found(tmp_path / "out"))


def test_sixteen_bits_of_which_twelve_are_used(tmp_path, capsys):
  for i, largest in enumerate((4096, 3000)):
    folder = tmp_path / f"in{i}" / "train"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, largest + 1, (40, 40), np.uint16)
    pixels[0, 0] = largest
    Image.fromarray(pixels).save(folder / "a.png")
    (folder / "b.png").write_bytes(images.encode(0))
    run(tmp_path / f"in{i}", tmp_path / f"out{i}")
  assert not found(tmp_path / "out0")
  (line,) = found(tmp_path / "out1")
  assert line.startswith("train: image files of 16 bits that use 12 or fewer: 1 (largest number 3,000)")
  write_tif(tmp_path / "in2" / "train" / "a.tif", scene(bands=3, dtype=np.uint16))
  run(tmp_path / "in2", tmp_path / "out2")  # harmless: a run normalises by statistics
  assert not found(tmp_path / "out2") and re.search(r"numbers +\d+ to \d+, 12 bits", capsys.readouterr().out)


def test_arrays_that_look_channel_first(tmp_path):
  (tmp_path / "in" / "train").mkdir(parents=True)
  for i in range(2):
    np.save(tmp_path / "in" / "train" / f"{i}.npy", np.random.default_rng(i).normal(size=(4, 40, 50)))
  run(tmp_path / "in", tmp_path / "out")
  assert "train: arrays that look like [bands, height, width]: 2 of 2" in found(tmp_path / "out")[0]
  (tmp_path / "patches" / "train").mkdir(parents=True)
  np.save(tmp_path / "patches" / "train" / "a.npy", np.random.default_rng(0).normal(size=(9, 9, 200)))
  run(tmp_path / "patches", tmp_path / "hyperspectral")  # few pixels of many bands
  assert not found(tmp_path / "hyperspectral")


def test_files_that_are_not_read(tmp_path, capsys):
  folder = images.make_folder(tmp_path / "in", {"train": 12, "val": 3})
  for name in ("train/ant/a.psd", "train/ant/b.psd", "train/bee/c.xcf", "train/bee/notes.txt"):
    (folder / name).write_bytes(b"data")
  run(folder, tmp_path / "out")
  assert "files not read: 2 .psd, 1 .xcf" in found(tmp_path / "out")
  assert "files next to the images, not read: 1 .txt" in table(capsys)


@pytest.mark.parametrize(
  "flag, files",
  [
    ("--splits=train:one,val:two", "3 .png, 1 .psd"),
    ("--images={split}/*/*.png", "1 .psd"),
    ("--images=*.png", "1 .psd"),
  ],
)
def test_files_that_a_flag_leaves_out_are_no_fault(flag, files, tmp_path, capsys):
  names = [
    "one/ant/0.png",
    "one/bee/1.png",
    "one/ant/2.png",
    "one/bee/3.png",
    "two/ant/4.png",
    "two/bee/5.png",
  ]
  more = ["old/ant/6.png", "old/bee/7.png", "old/bee/8.png"] if "splits" in flag else []
  folder = copies(tmp_path / "in", [*names, *more])
  (folder / "old").mkdir(exist_ok=True)
  (folder / "old" / "x.psd").write_bytes(b"data")
  classes = [] if "splits" in flag else ["--classes=folders"]
  assert main(str(folder), str(tmp_path / "out"), flag, *classes, "--strict") == 0
  said = capsys.readouterr().out
  assert f"left out by {flag.partition('=')[0]}: {files}" in said and "STRANGE" not in said
  (folder / "one" / "ant" / "x.psd").write_bytes(b"data")
  strict = main(str(folder), str(tmp_path / "other"), flag, *classes, "--strict")
  assert strict == (2 if "splits" in flag else 0)


def test_images_that_are_unreadable(tmp_path, capsys):
  folder = images.make_folder(tmp_path / "in", {"train": 12})
  (folder / "train/ant/000.png").write_bytes(b"no image")
  run(folder, tmp_path / "out", max_bad_fraction=0.2)
  (line,) = found(tmp_path / "out")
  assert line.startswith(
    "train: images left out as unreadable or too large: 1, such as train/ant/000.png: it"
  )
  assert any(line.split() == ["unreadable", "1"] for line in table(capsys))


def test_tiles_that_are_unreadable_and_tiles_without_data_are_two_numbers(tmp_path, capsys):
  for i in range(8):
    bands = scene(i, 24, 24)
    bands[:12, :12] = 7 if i < 3 else bands[:12, :12]
    write_tif(tmp_path / "in" / "train" / f"{i}.tif", bands, nodata=7)
  whole = (tmp_path / "in" / "train" / "5.tif").read_bytes()
  (tmp_path / "in" / "train" / "5.tif").write_bytes(whole[: len(whole) // 2])
  cut = tiles.Cut(tile=12)
  run(tmp_path / "in", tmp_path / "out", max_bad_fraction=0.5, cut=cut, num_shards=3)
  lines = {line.strip().rpartition("  ")[0].strip(): line.split()[-1] for line in table(capsys)}
  (split,) = facts.read(str(tmp_path / "out")).splits
  bad = split.unreadable
  assert 1 <= bad <= 4 and split.empty == 3 and split.counts["images"] == 32 - 3 - bad
  assert (lines["unreadable"], lines["without data"]) == (str(bad), "3")
  (line,) = found(tmp_path / "out")
  assert line.startswith(f"train: tiles left out as unreadable or too large: {bad}, such as ")
  run(tmp_path / "in", tmp_path / "out", max_bad_fraction=0.5, cut=cut, num_shards=3)  # nothing to write
  assert facts.read(str(tmp_path / "out")).splits == (split,)


@pytest.mark.parametrize("kept", [True, False])
def test_tiles_left_out_before_their_shards_are_counted_again(kept, tmp_path, capsys):
  """Earlier facts say how many of them could not be read; without these, it is not known."""
  for i in range(4):
    bands = scene(i, 24, 24)
    bands[:12, :12] = 7 if i < 2 else bands[:12, :12]
    write_tif(tmp_path / "in" / "train" / f"{i}.tif", bands, nodata=7)
  whole = (tmp_path / "in" / "train" / "3.tif").read_bytes()
  (tmp_path / "in" / "train" / "3.tif").write_bytes(whole[: len(whole) // 2])
  out = tmp_path / "out"
  run(tmp_path / "in", out, max_bad_fraction=0.5, cut=tiles.Cut(tile=12))
  (before,) = facts.read(str(out)).splits
  assert before.unreadable and before.empty and not before.left_out
  if kept:
    content = json.loads((out / facts.NAME).read_text())
    content["splits"]["train"]["shards"] = "of others"
    (out / facts.NAME).write_text(json.dumps(content))
  else:
    (out / facts.NAME).unlink()
  seals.reseal(out)
  capsys.readouterr()
  assert main(f"--out={out}") == 0
  (split,) = facts.read(str(out)).splits
  rows = [line.split() for line in capsys.readouterr().out.splitlines()]
  if kept:
    assert split == before and ["unreadable", str(before.unreadable)] in rows
  else:
    assert (split.unreadable, split.empty) == (0, 0) and not any(row[:1] == ["without"] for row in rows)
    assert split.left_out == before.unreadable + before.empty
    assert ["left", "out", str(split.left_out)] in rows


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "npy"])
def test_empty_files_are_called_so(kind, tmp_path, capsys):
  """In images, rasters and arrays; one stops the command, which names the file and the flag that goes on."""
  for i in range(6):
    values = np.random.default_rng(i).random((40, 40, 4), np.float32)
    if kind == "tif":
      write_tif(tmp_path / "in" / f"{i}.tif", values)
    else:
      (tmp_path / "in").mkdir(exist_ok=True)
      path = tmp_path / "in" / f"{i}.{kind}"
      np.save(path, values) if kind == "npy" else path.write_bytes(images.encode(i))
  for name in ("empty", "void"):
    (tmp_path / "in" / f"{name}.{kind}").write_bytes(b"")
  assert main(str(tmp_path / "in"), str(tmp_path / "out")) == 2
  last = capsys.readouterr().err.splitlines()[-1]
  named = [f"{name}.{kind}" in last for name in ("empty", "void")]
  assert sum(named) == 1 and "the file is empty (0 bytes)" in last
  assert last.endswith("or leave it out by --max_bad_fraction=0.5")
  assert main(str(tmp_path / "in"), str(tmp_path / "out"), "--max_bad_fraction=0.5") == 0
  (line,) = (line for line in found(tmp_path / "out") if "left out" in line)
  assert "unreadable or too large: 2, such as" in line and f"empty.{kind}" in line and f"void.{kind}" in line
  os.remove(shards.shard_path(str(tmp_path / "out"), "train", 0, 1))
  assert main(str(tmp_path / "in"), str(tmp_path / "out"), "--max_bad_fraction=0.5", "--strict") == 2
  assert line in capsys.readouterr().err


@pytest.mark.parametrize("sketch, count", [(2048, "3"), (9, "at least [23]")])
def test_the_same_image_in_two_classes(sketch, count, tmp_path, monkeypatch):
  """Within a split and between splits, whatever the shards; few hashes tell of few."""
  monkeypatch.setattr(facts, "SKETCH", sketch)
  images_of = {"train/bad": range(5), "train/good": range(3, 8), "val/bad": (7, 9), "val/good": (8,)}
  for folder, numbers in images_of.items():
    copies(tmp_path / "some", [f"{folder}/{i}.png" for i in range(10)])
    for i in numbers:
      (tmp_path / "in" / folder).mkdir(parents=True, exist_ok=True)
      os.replace(tmp_path / "some" / folder / f"{i}.png", tmp_path / "in" / folder / f"{i}.png")
  run(tmp_path / "in", tmp_path / "out", num_shards=3)
  (line,) = (line for line in found(tmp_path / "out") if "more than one class" in line)
  assert re.match(f"images that occur in more than one class: {count}, such as ", line)
  assert re.search(r"as (train|val)/bad/(\d).png \(bad\) and train/good/\2.png \(good\); keep each", line)


def test_blank_tiles_do_not_contradict_each_other(tmp_path):
  for name in ("ant", "bee"):
    bands = scene(len(name) + ord(name[0]), 24, 24)
    bands[:12] = 255
    write_tif(tmp_path / "in" / "train" / name / "0.tif", bands)
  run(tmp_path / "in", tmp_path / "out", cut=tiles.Cut(tile=12))
  assert not [line for line in found(tmp_path / "out") if "more than one class" in line]


@pytest.mark.parametrize("classes", [("trainers", "valves"), ("Testudo", "Valeriana"), ("values", "tests")])
def test_classes_whose_names_begin_like_splits(classes, tmp_path):
  run(
    copies(tmp_path / "in", [f"{name}/{name}{i}.png" for name in classes for i in range(3)]), tmp_path / "out"
  )
  (split,) = facts.read(str(tmp_path / "out")).splits
  assert split.class_names == tuple(sorted(classes))


def test_of_many_unreadable_images_the_first_are_named(tmp_path):
  folder = images.make_folder(tmp_path / "in", {"train": 24})
  for path in sorted(folder.rglob("*.png"))[::2]:
    path.write_bytes(b"")
  run(folder, tmp_path / "out", max_bad_fraction=1.0, num_shards=3)
  (line,) = (line for line in found(tmp_path / "out") if "left out" in line)
  assert "unreadable or too large: 12, such as" in line and line.count("the file is empty") == 3


def test_what_the_source_said(tmp_path):
  """Lines of what reads the source are stored with the set."""
  counts = {
    "images": 1,
    "classes": {"-1": 1},
    "pixels": {},
    "hashes": [],
    "extremes": [],
    "value_extremes": [],
  }
  counts |= dict.fromkeys(("known", "unknown", "wide", "widest", "channel_first"), 0)
  split = facts.Split("train", (), Target.NOTHING, 0, (), 0, False, counts)
  assert strange.find(facts.Facts((split,), facts.Origin({}, (), ("palettes differ",)))) == [
    "palettes differ"
  ]


# --strict.


@pytest.mark.parametrize("source", [True, False])
def test_strict(source, tmp_path, capsys):
  names = [f"train/{name}/{i}.png" for name in ("ant", "bee") for i in range(2)] + ["val/ant/0.png"]
  words = [f"--source={copies(tmp_path / 'in', names)}"] * source + [f"--out={tmp_path / 'out'}"]
  assert main(f"--source={tmp_path / 'in'}", f"--out={tmp_path / 'out'}") == 0
  assert main(f"--out={tmp_path / 'out'}") == 0
  before = files(tmp_path / "out")
  capsys.readouterr()
  assert main(*words, "--strict") == 2
  (error,) = capsys.readouterr().err.splitlines()
  assert "--strict" in error and "class bee: no image in val" in error and "leave out --strict" in error
  assert files(tmp_path / "out") == before
  assert main(f"--verify={tmp_path / 'out'}") == 0
  assert main(*words) == 0


def test_strict_from_the_start(tmp_path, capsys):
  names = [f"train/{name}/{i}.png" for name in ("ant", "bee") for i in range(2)] + ["val/ant/9.png"]
  folder = copies(tmp_path / "in", names)
  for part in ("0/2", "1/2"):
    words = (f"--source={folder}", "--shards=2", f"--part={part}", "--strict")
    assert main(*words, f"--out={tmp_path / 'out'}") == 2 * (part == "1/2")
  assert main(f"--verify={tmp_path / 'out'}") == 0
  copies(folder, [*names, "val/bee/7.png"])
  assert main(f"--source={folder}", f"--out={tmp_path / 'mended'}", "--strict") == 0


def test_what_maps_warn_of_is_strange_too(tmp_path, capsys):
  """A value with two colours in two maps; the facts keep the line, and --strict refuses it."""
  contents = label_sets.files(splits=("train",)) | {"classes.txt": label_sets.CLASSES}
  for i, name in enumerate(name for name in list(contents) if "/labels/" in name):
    image = Image.fromarray(np.zeros((20, 30), np.uint8), "P")
    image.putpalette([i * 50, 0, 0])
    with io.BytesIO() as out:
      image.save(out, "PNG")
      contents[name] = out.getvalue()
  folder = label_sets.write(tmp_path / "in", contents)
  assert main(f"--source={folder}", f"--out={tmp_path / 'out'}", "--strict") == 2
  assert any("give a value another colour" in line for line in found(tmp_path / "out"))
