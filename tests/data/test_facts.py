"""The facts of a prepared set equal an independent count, however the set came about."""

import io
import json

import numpy as np
from PIL import Image
import pytest

from swin_jax.data.prepare import counting, sealing, tiles
from swin_jax.data.read import facts, manifest
from swin_jax.terminal import digests
from tests.support import damages, images, label_sets, seals
from tests.support.prepared import bad, files, main, run
from tests.support.rasters import scene, write_tif


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
  return images.make_folder(tmp_path_factory.mktemp("folder"), {"train": 40, "val": 10})


@pytest.fixture(name="read_again")
def _read_again(monkeypatch):
  """The records that are read to be counted."""
  records, see = [], counting.see_record
  monkeypatch.setattr(counting, "see_record", lambda record: records.append(record) or see(record))
  return records


def counts(out, split="train"):
  return {each.name: each.counts for each in facts.read(str(out)).splits}[split]


# What is counted.


def test_images(tmp_path):
  for i, (kind, size) in enumerate([("PNG", (9, 5)), ("JPEG", (4, 6)), ("JPEG", (30, 20)), ("PNG", (3, 7))]):
    path = tmp_path / "in" / "train" / ("a", "b")[i == 2] / f"{i}.{kind.lower()}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode(i, size, kind))
  Image.new("L", (7, 7)).save(tmp_path / "in" / "train" / "a" / "grey.png")
  run(tmp_path / "in", tmp_path / "out")
  held = counts(tmp_path / "out")
  assert held["images"] == 5 and held["classes"] == {"0": 4, "1": 1}
  assert (held["smallest"], held["largest"]) == ([7, 3], [20, 30])  # height and width
  assert held["bands"] == {"1": 1, "3": 4} and held["types"] == {"PNG": 3, "JPEG": 2}


def test_images_that_are_shrunk(tmp_path):
  path = tmp_path / "in" / "train" / "a.png"
  path.parent.mkdir(parents=True)
  path.write_bytes(images.encode(0, (40, 20)))
  run(tmp_path / "in", tmp_path / "out", short_side=10)
  held = counts(tmp_path / "out")
  assert held["smallest"] == [10, 20] and held["types"] == {"JPEG": 1} and held["bands"] == {"3": 1}


def test_pixels_of_label_maps(tmp_path):
  contents = label_sets.files()
  source = label_sets.write(tmp_path / "in", contents | {"classes.txt": label_sets.CLASSES})
  run(source, tmp_path / "out")
  for split in ("train", "val"):
    maps = [
      np.asarray(Image.open(io.BytesIO(data)))
      for name, data in contents.items()
      if name.startswith(f"{split}/labels/")
    ]
    pixels, count = np.unique(np.stack(maps), return_counts=True)
    held = counts(tmp_path / "out", split)
    assert held["pixels"] == {str(label): n for label, n in zip(pixels, count, strict=True)}
    assert held["images_with"] == {
      str(label): sum((each == label).any() for each in maps) for label in pixels
    }
    assert not held["classes"]


def test_numbers_of_rasters_and_of_maps(tmp_path):
  rasters, maps = [], []
  for i in range(3):
    rasters.append(scene(i, 20, 30, 2).astype(np.float32))
    maps.append(scene(i + 9, 20, 30, 1).astype(np.float32))
    rasters[i][:4, :5], maps[i][2:9] = -7, -7
    write_tif(tmp_path / "in/train/images" / f"{i}.tif", rasters[i], nodata=-7)
    write_tif(tmp_path / "in/train/values" / f"{i}.tif", maps[i], nodata=-7)
  run(tmp_path / "in", tmp_path / "out", cut=tiles.Cut(tile=8))
  held = counts(tmp_path / "out")
  for columns, arrays in ((held["extremes"], rasters), (held["value_extremes"], maps)):
    for band, column in enumerate(columns):
      numbers = np.stack(arrays)[..., band]
      values, count = np.unique(numbers[numbers != -7], return_counts=True)
      pairs = [[value, n] for value, n in zip(values.tolist(), count.tolist(), strict=True)]
      assert column == {"pixels": count.sum(), "low": pairs[:2], "high": pairs[:-3:-1]}
  assert (held["known"], held["unknown"]) == (3 * 13 * 30, 3 * 7 * 30)


def test_extremes_of_few_numbers():
  assert counting.look_at_array(np.full((2, 3, 1), np.nan, np.float32)).extremes == (
    {"pixels": 0, "low": [], "high": []},
  )
  assert counting.look_at_array(np.full((2, 3, 1), 4, np.uint8)).extremes == (
    {"pixels": 6, "low": [[4, 6]], "high": [[4, 6]]},
  )


# How the set came about.


def test_parts_write_the_facts_of_the_whole(folder, tmp_path, read_again):
  run(folder, tmp_path / "whole", num_shards=3)
  for i in (1, 0):
    run(folder, tmp_path / "parts", num_shards=3, part=(i, 2))
  assert files(tmp_path / "parts") == files(tmp_path / "whole")
  assert not read_again


def test_an_interrupted_command_reads_only_the_shards_without_facts(
  folder, tmp_path, monkeypatch, read_again
):
  run(folder, tmp_path / "whole", num_shards=3)
  with monkeypatch.context() as patch:
    patch.setattr(sealing, "finish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      run(folder, tmp_path / "out", num_shards=3)
  part = tmp_path / "out" / "manifest-0-of-1.jsonl"
  lines = [line for line in part.read_text().split("\n") if line]
  lines[0] = lines[0].replace('"images": 13', '"images": 12')  # damaged
  lines[1] = json.dumps(digests.seal({}, manifest.NAME, digests.read(json.loads(lines[1]), manifest.NAME)))
  part.write_text("\n".join(lines))  # and of a version without facts
  run(folder, tmp_path / "out", num_shards=3)
  assert len(read_again) == 13 + 13  # of the shards 0 and 1 of 40 images in three
  assert files(tmp_path / "out") == files(tmp_path / "whole")


@pytest.mark.parametrize("kind", ["images", "labels", "values", "rasters"])
def test_a_set_from_before_facts_is_counted_from_its_shards(kind, tmp_path, read_again):
  if kind == "images":
    source = images.make_folder(tmp_path / "in", {"train": 7, "val": 3})
    wide = np.random.default_rng(0).integers(0, 4000, (8, 8), np.uint16)
    Image.fromarray(wide).save(source / "train/ant/wide.png")
  elif kind == "labels":
    source = label_sets.write(tmp_path / "in", label_sets.files() | {"classes.txt": label_sets.CLASSES})
  else:
    for i in range(3):
      write_tif(tmp_path / "in/train/images" / f"{i}.tif", scene(i), nodata=1000)
      if kind == "values":
        write_tif(tmp_path / "in/train/values" / f"{i}.tif", scene(i, bands=1), nodata=1000)
    source = tmp_path / "in" / ("train" if kind == "rasters" else "")
  run(source, tmp_path / "out")
  before = files(tmp_path / "out")
  (tmp_path / "out" / facts.NAME).unlink()
  seals.reseal(tmp_path / "out")
  assert facts.read(str(tmp_path / "out")) is None
  run(source, tmp_path / "out")
  assert read_again and files(tmp_path / "out") == before
  (tmp_path / "out" / facts.NAME).unlink()
  seals.reseal(tmp_path / "out")
  assert main(f"--out={tmp_path / 'out'}") == 0  # also without the source
  assert counts(tmp_path / "out") == json.loads(before[facts.NAME])["splits"]["train"]


def test_a_repaired_shard_leaves_the_facts(folder, tmp_path, read_again):
  run(folder, tmp_path, num_shards=3)
  before = files(tmp_path)
  (tmp_path / "train-00001-of-00003.array_record").unlink()
  run(folder, tmp_path, num_shards=3)
  assert files(tmp_path) == before and not read_again


def test_another_shard_of_the_same_set_is_counted(tmp_path, read_again):
  """As when an image of the source was replaced, and its shard deleted and written again."""
  folder = images.make_folder(tmp_path / "in", {"train": 6})
  run(folder, tmp_path / "out", num_shards=2)
  (folder / "train/ant/000.png").write_bytes(images.encode(99, (50, 60)))
  for path in (tmp_path / "out").glob("*.array_record"):
    path.unlink()
  run(folder, tmp_path / "out", num_shards=2)
  assert counts(tmp_path / "out")["largest"] == [60, 50] and not read_again


def test_facts_of_another_content_of_a_shard_do_not_count(folder, tmp_path):
  """As when a shard was deleted and written again by another division into parts."""
  run(folder, tmp_path / "whole", num_shards=3)
  run(folder, tmp_path / "out", num_shards=3, part=(0, 2))
  first = (tmp_path / "out" / "manifest-0-of-2.jsonl").read_text().split("\n")[1]
  (name,) = digests.read(json.loads(first), manifest.NAME)
  other = json.loads(first)["facts"] | {"images": 999}
  line = digests.seal({"facts": other}, manifest.NAME, {name: digests.of_bytes(b"")})
  (tmp_path / "out" / "manifest-1-of-3.jsonl").write_text(json.dumps(line))
  run(folder, tmp_path / "out", num_shards=3, part=(1, 2))
  assert files(tmp_path / "out") == files(tmp_path / "whole")


def test_damage(folder, tmp_path, capsys):
  run(folder, tmp_path)
  before = files(tmp_path)
  damages.flip_a_bit(tmp_path / facts.NAME)
  assert main(f"--verify={tmp_path}") == 2 and f"{facts.NAME} has changed" in capsys.readouterr().out
  run(folder, tmp_path)
  assert files(tmp_path) == before


def test_a_set_without_manifest_is_described(folder, tmp_path, capsys):
  run(folder, tmp_path)
  (tmp_path / facts.NAME).unlink()
  seals.unseal(tmp_path)
  assert main(f"--out={tmp_path}", "--strict") == 0
  assert "so its classes are not counted" in capsys.readouterr().out


def test_facts_is_not_the_name_of_a_split(folder, tmp_path):
  assert "a split cannot be called 'facts'" in bad(folder / "train", tmp_path, split="facts")


# Merging.


def test_what_is_unknown_of_one_shard_is_unknown_of_all():
  known = counting.Tally()
  known.leave_out("x: is damaged")
  known = known.facts()
  assert facts.merge([known, known])["unreadable"]["images"] == 2
  unknown = {key: value for key, value in known.items() if key != "unreadable"}
  assert "unreadable" not in facts.merge([known, unknown])


def test_merging_does_not_depend_on_the_order(tmp_path, monkeypatch):
  monkeypatch.setattr(facts, "SKETCH", 5)
  folder = images.make_folder(tmp_path / "in", {"train": 40})
  for i in range(10):
    (folder / "train" / "ant" / f"size{i}.png").write_bytes(images.encode(i, (5 + i, 9)))
  run(folder, tmp_path / "one", num_shards=1)
  run(folder, tmp_path / "seven", num_shards=7)
  one, seven = (dict(counts(tmp_path / name), shards="") for name in ("one", "seven"))
  assert one == seven and len(one["hashes"]) == len(one["labelled"]) == 5


def test_pixels_without_data(tmp_path):
  for i in range(3):
    array = scene(i, 20, 30, 2).astype(np.float64)
    array[:4, :5], array[10, 3:9, 1], array[12, 0, 0] = -7, np.nan, -np.inf
    array[15, i:7], array[19, 29, 1] = -1.7e308, np.inf
    write_tif(tmp_path / "in/train" / f"{i}.tif", array, nodata=-7)
  for tile in (0, 8):
    run(tmp_path / "in", tmp_path / f"{tile}", cut=tiles.Cut(tile=tile))
    held = counts(tmp_path / f"{tile}")
    undeclared = 3 * 2 + 7 + 6 + 5
    assert (held["of_arrays"], held["undeclared"]) == (3 * 20 * 30, undeclared)
    assert held["missing"] == undeclared + 3 * (20 + 6)
