"""prepare with rasters: tiles cover everything without overlap, and the statistics equal numpy's."""

import errno
import json
import re
import zipfile

import numpy as np
import pytest

from swin_jax.data.prepare import __main__ as prepare
from swin_jax.data.prepare import measuring, tiles
from swin_jax.data.read import array_files, statistics
from swin_jax.run import checks, evaluate, train
from swin_jax.run import config as run_config
from swin_jax.terminal.errors import BadInput, Fault
from tests.support import images, seals, tiny
from tests.support.prepared import bad, files, read, run
from tests.support.rasters import scene, write_tif

cut = tiles.Cut


def main(*words):
  return prepare.main(["prepare", *words])


def contents(out, split="train"):
  """Returns {name: tile} of a split."""
  source = read(out, split)
  return {
    example.name: array_files.unpack(example.image) for example in (source[i] for i in range(len(source)))
  }


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
  root = tmp_path_factory.mktemp("rasters")
  for split, count in (("train", 4), ("val", 2)):
    for i in range(count):
      write_tif(root / split / f"{i}.tif", scene(10 * len(split) + i, 23, 31), nodata=-9999)
  return root


def test_tiles_cover_a_raster_once(folder, tmp_path):
  run(folder, tmp_path, cut=cut(tile=10))
  written = contents(tmp_path)
  corners = [(top, left) for top in (0, 11) for left in (0, 10, 20)]
  assert len(written) == 4 * 6
  assert set(contents(tmp_path, "val")) == {
    f"val/{i}.tif at {top},{left}" for i in (0, 1) for top, left in corners
  }
  for i in range(4):
    whole = np.full((23, 31, 5), np.nan, np.float32)
    for name, tile in written.items():
      if name.startswith(f"train/{i}.tif"):
        top, left = map(int, re.search(r" at (\d+),(\d+)", name).groups())
        assert tile.dtype == np.float32 and min(tile.shape[:2]) >= 10
        assert np.isnan(whole[top : top + tile.shape[0], left : left + tile.shape[1]]).all()
        whole[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    np.testing.assert_array_equal(whole, scene(50 + i, 23, 31))


def test_without_tiles_rasters_stay_whole_and_folders_are_classes(tmp_path):
  for name in ("water", "wood"):
    for i in range(3):
      write_tif(tmp_path / "in" / name / f"{i}.tif", scene(i, bands=4, dtype=np.uint16))
  run(tmp_path / "in", tmp_path / "out", hold_out=0.34)
  train, val = read(tmp_path / "out"), read(tmp_path / "out", "val")
  assert (len(train), len(val), train.class_names) == (4, 2, ("water", "wood"))
  assert all(
    tile.dtype == np.uint16 and tile.shape == (12, 10, 4) for tile in contents(tmp_path / "out").values()
  )
  assert sorted([train[i].label for i in range(4)] + [val[i].label for i in range(2)]) == [0, 0, 0, 1, 1, 1]


def test_a_zip_is_the_folder(folder, tmp_path):
  with zipfile.ZipFile(tmp_path / "set.zip", "w") as file:
    for path in sorted(folder.rglob("*.tif")):
      file.write(path, path.relative_to(folder))
  for source, out in ((tmp_path / "set.zip", "zip"), (folder, "folder")):
    run(source, tmp_path / out, cut=cut(tile=10))
  written, expected = contents(tmp_path / "zip"), contents(tmp_path / "folder")
  assert written.keys() == expected.keys() and all(
    (written[name] == expected[name]).all() for name in written
  )


def test_one_file(tmp_path):
  several = np.stack([scene(i, dtype=np.float32) for i in range(3)])
  np.savez(tmp_path / "set.npz", bands=several, clouds=several[..., 0])
  np.save(tmp_path / "set_train.npy", several)
  write_tif(tmp_path / "one.tif", scene(dtype=np.uint8))
  run(tmp_path / "set.npz", tmp_path / "a", cut=cut(array="bands"))
  assert sorted(contents(tmp_path / "a")) == [f"set.npz[{i}]" for i in range(3)]
  np.testing.assert_array_equal(contents(tmp_path / "a")["set.npz[1]"], several[1])
  run(tmp_path / "set_{split}.npy", tmp_path / "b")
  assert len(contents(tmp_path / "b")) == 3
  run(tmp_path / "one.tif", tmp_path / "c", cut=cut(tile=5), split="val")
  assert len(contents(tmp_path / "c", "val")) == 4
  assert statistics.read(tmp_path / "c")["dtype"] == "uint8"


def test_images_are_no_rasters_unless_a_tile_is_asked_for(tmp_path):
  write_tif(tmp_path / "in" / "a.tif", scene(bands=3, dtype=np.uint8), photometric="RGB")
  run(tmp_path / "in", tmp_path / "image")
  assert (
    not array_files.is_packed(read(tmp_path / "image")[0].image)
    and not (tmp_path / "image" / "statistics.json").exists()
  )
  run(tmp_path / "in", tmp_path / "raster", cut=cut(tile=5))
  assert [tile.dtype for tile in contents(tmp_path / "raster").values()] == [np.uint8] * 4
  images.make_folder(tmp_path / "photos", {"train": 3})
  assert "--tile, --nodata, --array and --keep_alpha apply to rasters" in bad(
    tmp_path / "photos", tmp_path / "out", cut=cut(nodata=5)
  )


# Statistics.


def test_statistics_are_numpys(folder, tmp_path, monkeypatch):
  monkeypatch.setattr(measuring, "SAMPLE", 10**9)  # percentiles of every pixel
  run(folder, tmp_path, cut=cut(tile=10, nodata=int(scene(50, 23, 31)[0, 0, 0])), num_threads=3)
  pixels = np.concatenate([tile.reshape(-1, 5) for tile in contents(tmp_path).values()]).astype(np.float64)
  computed = statistics.read(tmp_path)
  assert np.isnan(pixels[:, 0]).any() and (computed["images"], computed["split"], computed["dtype"]) == (
    24,
    "train",
    "float32",
  )
  np.testing.assert_array_equal(computed["valid"], (~np.isnan(pixels)).sum(axis=0))
  for name, expected in {
    "mean": np.nanmean(pixels, axis=0),
    "std": np.nanstd(pixels, axis=0),
    "min": np.nanmin(pixels, axis=0),
    "max": np.nanmax(pixels, axis=0),
    **{f"p{p}": np.nanpercentile(pixels, p, axis=0) for p in (1, 50, 99)},
  }.items():
    np.testing.assert_allclose(computed[name], expected, rtol=1e-12, err_msg=name)


def test_percentiles_of_a_sample_are_near(folder, tmp_path, monkeypatch):
  run(folder, tmp_path / "all")
  monkeypatch.setattr(measuring, "SAMPLE", 1500)
  run(folder, tmp_path / "sample")
  one, other = (statistics.read(tmp_path / name) for name in ("all", "sample"))
  assert one["p50"] != other["p50"] and one["mean"] == other["mean"]
  np.testing.assert_allclose(one["p50"], other["p50"], atol=60)


def test_statistics_of_large_numbers_do_not_cancel(tmp_path):
  rng = np.random.default_rng(0)
  several = (1e6 + rng.normal(0, 1, (50, 8, 8, 2))).astype(np.float64)
  np.save(tmp_path / "x.npy", several)
  run(tmp_path / "x.npy", tmp_path / "out")
  expected = several.astype(np.float32).astype(np.float64).std(axis=(0, 1, 2))
  np.testing.assert_allclose(statistics.read(tmp_path / "out")["std"], expected, rtol=1e-9)


def test_statistics_of_images_are_made_without_a_source(tmp_path, capsys):
  images.make_folder(tmp_path / "in", {"train": 6, "val": 2})
  run(tmp_path / "in", tmp_path / "out")
  assert main(f"--out={tmp_path / 'out'}") == 0
  pixels = np.concatenate(
    [
      np.asarray(images.Image.open(path)).reshape(-1, 3)
      for path in sorted((tmp_path / "in/train").rglob("*.png"))
    ]
  )
  np.testing.assert_allclose(statistics.read(tmp_path / "out")["mean"], pixels.mean(axis=0))
  config = tiny.config(
    data__source="array_record", data__path=str(tmp_path / "out"), data__mean=(), data__std=()
  )
  config = run_config.with_statistics(config)
  np.testing.assert_allclose(config.data.mean, pixels.mean(axis=0) / 255)
  np.testing.assert_allclose(config.data.std, pixels.std(axis=0) / 255)
  capsys.readouterr()
  assert main(f"--out={tmp_path / 'in'}") == 2
  assert capsys.readouterr().err == "swin_jax: --source is missing; for example --source=data/photos\n"


# Parts, interruptions, other settings.


def test_parts_give_what_one_run_gives_and_the_last_makes_the_statistics(folder, tmp_path, capsys):
  run(folder, tmp_path / "one", num_shards=3, cut=cut(tile=10))
  run(folder, tmp_path / "parts", num_shards=3, cut=cut(tile=10), part=(1, 2))
  assert not (tmp_path / "parts" / "statistics.json").exists()
  run(folder, tmp_path / "parts", num_shards=3, cut=cut(tile=10), part=(0, 2), num_threads=1)
  assert files(tmp_path / "one") == files(tmp_path / "parts")
  assert capsys.readouterr().out.count("statistics  24 images in") == 2


def test_statistics_are_made_once_and_of_this_set(folder, tmp_path, capsys):
  run(folder, tmp_path, num_shards=3, cut=cut(tile=10))
  before = files(tmp_path)
  (tmp_path / "train-00001-of-00003.array_record").unlink()
  run(folder, tmp_path, num_shards=3, cut=cut(tile=10))
  assert files(tmp_path) == before and capsys.readouterr().out.count("statistics  ") == 1
  (tmp_path / "statistics.json").write_text("{")
  run(folder, tmp_path, num_shards=3, cut=cut(tile=10))
  assert files(tmp_path) == before


def test_a_set_from_before_maps_of_numbers_goes_on(folder, tmp_path):
  run(folder, tmp_path, cut=cut(tile=8))
  header = json.loads((tmp_path / "train.json").read_text())
  assert header["made_from"].keys() == {
    "source",
    "hold_out",
    "short_side",
    "quality",
    "images",
    "listing",
    "tile",
    "nodata",
    "array",
    "bands",
  }
  run(folder, tmp_path, cut=cut(tile=8))


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(tile=11), "tile (10, now 11)"),
    (dict(nodata=3.0), "nodata (None, now 3.0)"),
    (dict(tile=0), "tile (10, now 0)"),
  ],
)
def test_other_cuts_are_refused(folder, tmp_path, change, message):
  run(folder, tmp_path, num_shards=1, cut=cut(tile=10))
  assert message in bad(folder, tmp_path, num_shards=1, cut=cut(tile=10)._replace(**change))


# What is bad.


def test_bad_rasters_are_named_left_out_and_counted(tmp_path, capsys):
  for i in range(20):
    write_tif(tmp_path / "in" / f"{i:02}.tif", scene(i))
  (tmp_path / "in" / "03.tif").write_bytes(b"rubbish")
  write_tif(tmp_path / "in" / "04.tif", scene(bands=6))
  whole = (tmp_path / "in" / "05.tif").read_bytes()
  (tmp_path / "in" / "05.tif").write_bytes(whole[: len(whole) - 600])
  for tile in (0, 6):
    run(tmp_path / "in", tmp_path / f"out{tile}", max_bad_fraction=0.2, cut=cut(tile=tile))
    printed = capsys.readouterr()
    for name in (
      "03.tif: cannot be read as a raster",
      "04.tif[^:]*: has 6 bands, but the first raster has 5",
      "05.tif[^:]*: cannot be read as a raster",
    ):
      assert re.search(f"^swin_jax: left out {name}", printed.err, re.MULTILINE), printed.err
    assert "unreadable and left out" in printed.out
  assert len(contents(tmp_path / "out0")) == 17
  assert "3 images of split 'train' cannot be read (named above)" in bad(tmp_path / "in", tmp_path / "strict")
  assert not list((tmp_path / "strict").glob("*.array_record"))


def test_tiles_without_data_are_left_out_and_counted_apart(tmp_path, capsys):
  array = scene(height=20, width=20)
  array[:10, :10], array[12, 3] = 0, 0
  write_tif(tmp_path / "in" / "x.tif", array, nodata=0)
  for _ in range(2):
    run(tmp_path / "in", tmp_path / "out", cut=cut(tile=10))
    printed = capsys.readouterr()
    assert (
      not printed.err
      and ", 1 without data left out" in printed.out
      and "is complete: train 3 images" in printed.out
    )
  assert sum(np.isnan(tile).any() for tile in contents(tmp_path / "out").values()) == 1
  write_tif(tmp_path / "none" / "x.tif", 0 * array, nodata=0)
  assert "holds no image in split 'train', because prepare left out all of them; repair" in bad(
    tmp_path / "none", tmp_path / "empty"
  )


def test_a_source_without_rasters_or_with_none_that_can_be_read(tmp_path):
  (tmp_path / "in").mkdir()
  (tmp_path / "in" / "a.npy").write_bytes(b"rubbish")
  assert "holds no readable raster; a.npy: cannot be read as an array" in bad(
    tmp_path / "in", tmp_path / "out"
  )
  assert "does not exist" in bad(tmp_path / "absent.tif", tmp_path / "out", cut=cut(tile=5))
  np.savez(tmp_path / "x.npz", a=scene(), b=scene())
  assert "choose one with --array=NAME" in bad(tmp_path / "x.npz", tmp_path / "out")


@pytest.mark.parametrize("classes", [np.zeros(40), np.zeros((40, 1))])
def test_images_with_their_classes_in_one_file_are_not_one_image(tmp_path, classes):
  np.savez(tmp_path / "x.npz", X=np.zeros((40, 32, 20), np.uint8), y=classes)
  error = bad(tmp_path / "x.npz", tmp_path / "out")
  assert "X may be 40 images with a class each; save them as an array [40, 32, 20, 1]" in error
  assert "save the images of each class in a folder; if it is one image of 20 bands, give --array=X" in error
  run(tmp_path / "x.npz", tmp_path / "named", cut=cut(array="X"))
  assert [tile.shape for tile in contents(tmp_path / "named").values()] == [(40, 32, 20)]
  np.savez(tmp_path / "few.npz", image=np.zeros((40, 32, 16), np.uint8), times=classes)
  np.savez(tmp_path / "many.npz", image=np.zeros((40, 32, 20), np.uint8), wavelengths=np.zeros(20))
  cube = dict(lat=np.zeros(40), lon=np.zeros(32), image=np.zeros((40, 32, 20), np.uint8))
  np.savez(tmp_path / "cube.npz", **cube)
  with open(tmp_path / "bare.npz", "wb") as file:  # one array under the name of an archive
    np.save(file, np.zeros((40, 32, 20), np.uint8))
  for name in ("few", "many", "cube", "bare"):
    run(tmp_path / f"{name}.npz", tmp_path / name)
    assert len(read(tmp_path / name)) == 1


def test_several_arrays_with_classes_say_where_classes_belong(tmp_path):
  arrays = {f"{split}_images": np.zeros((4, 9, 9, 3), np.uint8) for split in ("train", "val")}
  np.savez(tmp_path / "single.npz", **arrays, epoch=3)
  error = bad(tmp_path / "single.npz", tmp_path / "single", cut=cut(array="epoch"))
  assert "is an array [], not [height, width, bands]" in error
  np.savez(tmp_path / "x.npz", **arrays, train_labels=np.zeros((4, 1)))
  assert "choose one with --array=NAME; classes are not read from arrays, so" in bad(
    tmp_path / "x.npz", tmp_path / "out"
  )


def test_arrays_that_are_not_read_are_strange(tmp_path, capsys):
  (tmp_path / "in").mkdir()
  for i in range(3):
    others = {"mask": np.zeros((9, 9))} if i else {}
    np.savez(tmp_path / "in" / f"{i}.npz", image=np.full((9, 9, 2), i, np.float32), **others)
  assert main(f"--source={tmp_path / 'in'}", f"--out={tmp_path / 'out'}") == 0
  said = " ".join(capsys.readouterr().out.split())
  assert (
    "STRANGE: 1.npz holds arrays that are not read: mask [9, 9] (2 of 3 files looked at hold some)" in said
  )
  np.savez(tmp_path / "x.npz", images=np.zeros((4, 9, 9, 3), np.uint8), labels=np.zeros(4))
  assert main(f"--source={tmp_path / 'x.npz'}", f"--out={tmp_path / 'one'}") == 0
  said = " ".join(capsys.readouterr().out.split())
  assert "STRANGE: x.npz holds arrays that are not read: labels [4]; prepare reads one array" in said


@pytest.mark.parametrize("bands, between", [(8, 0), (9, 1), (32, 24)])
def test_of_many_bands_the_first_and_the_last_are_shown(bands, between, tmp_path):
  (tmp_path / "in").mkdir()
  np.save(tmp_path / "in" / "x.npy", np.arange(bands, dtype=np.uint8) * np.ones((9, 9, 1), np.uint8))
  run(tmp_path / "in", tmp_path / "out")
  lines = statistics.describe(str(tmp_path / "out"))[2:]
  more = [f"    … and {between} more band{'s' * (between > 1)}, in statistics.json"] * bool(between)
  assert [line for line in lines if "more" in line] == more == lines[4 : 4 + len(more)]
  shown = [int(line.split()[0]) for line in lines if line not in more]
  assert shown == [*range(4), *range(bands - 4, bands)]


# How a run uses prepared rasters.


def test_statistics_fill_the_config(folder, tmp_path):
  run(folder, tmp_path, cut=cut(tile=10))
  computed = statistics.read(tmp_path)
  given = dict(
    data__source="array_record", data__path=str(tmp_path), data__mean=(), data__std=(), data__dtype="float32"
  )
  config = run_config.with_statistics(tiny.config(**given))
  assert config.data.mean == tuple(computed["mean"]) and config.data.std == tuple(computed["std"])
  trained = {"task": "masked_pixels", "data": {"mean": [1.0, 2.0], "std": [3.0, 4.0]}}
  # the statistics of the weights' own training take precedence
  assert run_config.with_statistics(tiny.config(**given), trained).data.mean == (1.0, 2.0)
  computed["std"][2] = 0.0
  measuring.write(str(tmp_path), computed)
  seals.reseal(tmp_path)
  assert run_config.with_statistics(tiny.config(**given)).data.std[2] == 1.0
  for changes, message in (
    (
      dict(data__dtype="uint8"),
      "holds float32 of 5 bands, but data.dtype is uint8: use --config=own_rasters or --config.data",
    ),
    (
      dict(data__source="digits", data__path=""),
      "give --config.data.path of such a set, or one number per band",
    ),
    (
      dict(data__path=str(tmp_path / "absent")),
      f"create it with python -m swin_jax.data.prepare --out={tmp_path / 'absent'}",
    ),
  ):
    with pytest.raises(BadInput) as error:
      run_config.with_statistics(tiny.config(**given | changes))
    assert message in str(error.value) and "\n" not in str(error.value)
  (tmp_path / "statistics.json").write_text(json.dumps({"mean": []}))
  seals.reseal(tmp_path)
  with pytest.raises(
    BadInput, match="is damaged: it lacks .*; delete it and run python -m swin_jax.data.prepare --out="
  ):
    run_config.with_statistics(tiny.config(**given))


@pytest.mark.slow
def test_a_run_learns_from_rasters_with_gaps(tmp_path):
  """Trains on GeoTIFFs of six bands: the loss falls, and the pictures show the requested bands."""
  for i in range(3):
    array = scene(i, 64, 64, bands=6)
    array[10:20, 30:50] = -1
    write_tif(tmp_path / "in" / f"{i}.tif", array, nodata=-1, scales=(0.1,) * 6)
  run(tmp_path / "in", tmp_path / "set", cut=cut(tile=32), hold_out=0.34)
  config = tiny.config(
    data__source="array_record",
    data__path=str(tmp_path / "set"),
    data__dtype="float32",
    data__mean=(),
    data__std=(),
    data__batch_size=8,
    data__eval_batch_size=8,
    data__image_size=(16, 16),
    augment__rotate=True,
    mask__patch_size=2,
    model__patch_size=2,
    model__depths=(1, 1),
    model__num_heads=(2, 2),
    model__window_sizes=(4, 4),
    optim__lr=0.6,
    optim__total_epochs=40.0,
    optim__warmup_epochs=2.0,
    checkpoint__every_epochs=40.0,
    log__eval_every_epochs=40.0,
    log__picture_bands=(5, 1, 0),
  )
  last = train.train(config, str(tmp_path / "run"))
  entries = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
  first = next(entry["train/loss"] for entry in entries if "train/loss" in entry)
  assert np.isfinite(first) and last["eval/loss"] < 0.9 * first
  assert len(list((tmp_path / "run" / "pictures").glob("*.png"))) == 1
  stored = json.loads((tmp_path / "run" / "config.json").read_text())
  assert stored["data"]["mean"] == statistics.read(tmp_path / "set")["mean"]
  assert evaluate.evaluate_checkpoint(config, str(tmp_path / "run")) == last


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(data__dtype="int16"), "config.data.dtype = 'int16': choose one of 'uint8', 'float32'"),
    (
      dict(data__dtype="float32", augment__rand_augment_operations=2),
      "RandAugment needs uint8 images, but data.dtype is float32",
    ),
    (
      dict(augment__rotate=True, data__image_size=(32, 64)),
      "augment.rotate rotates by 90°, which needs square images",
    ),
    (dict(log__picture_bands=(0, 1)), "must have 0, 1 or 3 entries, not 2"),
    (dict(data__std=(60.0,)), "data.std = (60.0,), but pixels of data.dtype=uint8 are scaled to 0..1"),
    (dict(log__picture_bands=(1,)), "must be one or three of the bands 0 to 0"),
  ],
)
def test_config_checks(changes, message):
  with pytest.raises(BadInput) as error:
    checks.check(tiny.config(**changes))
  assert message in str(error.value)


def test_statistics_on_a_full_disk_are_a_fault(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(measuring.files, "write", full)
  with pytest.raises(Fault, match="statistics.json cannot be written: no space left on the disk"):
    measuring.write(str(tmp_path), {})
