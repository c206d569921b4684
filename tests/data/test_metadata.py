"""What rasters declare reaches what is made of them: names of bands, place, anchor; statistics are finite."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from swin_jax.data.prepare import tiles
from swin_jax.data.read import array_files, places, shards, statistics
from swin_jax.run import config as run_config
from swin_jax.terminal.errors import BadInput
from tests.support import prepared, seals, tiny
from tests.support.rasters import scene, write_tif

NAMES = ("blue", "red edge", "near infrared")


def named(path, names=NAMES, **profile):
  write_tif(path, scene(bands=len(names), height=20, width=20), **profile)
  with rasterio.open(path, "r+") as file:
    file.descriptions = names
  return path


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("tile", [0, 10])
def test_names_of_bands_reach_the_set_and_its_table(tmp_path, tile, capsys):
  named(tmp_path / "in/0.tif")
  prepared.run(tmp_path / "in", tmp_path / "out", cut=tiles.Cut(tile))
  assert shards.read_header(str(tmp_path / "out"), "train")["band_names"] == list(NAMES)
  assert statistics.read(tmp_path / "out")["band_names"] == list(NAMES)
  table = capsys.readouterr().out
  lines = [line for line in table.splitlines() if any(name in line for name in NAMES)]
  assert [line.split()[0] for line in lines] == ["0", "1", "2"]
  assert len(set(map(len, lines))) == 1 and len(lines[0]) < 130


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_set_from_before_names_of_bands_goes_on(tmp_path):
  named(tmp_path / "in/0.tif")
  prepared.run(tmp_path / "in", tmp_path / "out")
  path = tmp_path / "out/train.json"
  header = json.loads(path.read_text())
  del header["band_names"]
  path.write_text(json.dumps(header))
  (tmp_path / "out/manifest.json").unlink()
  prepared.run(tmp_path / "in", tmp_path / "out")
  named(tmp_path / "in/0.tif", ("a", "b", "c"))
  assert "prepared with other band_names" in prepared.bad(tmp_path / "in", tmp_path / "out")


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bands_without_names_have_none(tmp_path):
  named(tmp_path / "in/0.tif", ("a", None, "c"))
  prepared.run(tmp_path / "in", tmp_path / "out")
  assert "band_names" not in statistics.read(tmp_path / "out")


@pytest.mark.parametrize("anchor", ["Area", "Point"])
def test_maps_keep_the_place_and_anchor_of_their_image(tmp_path, anchor):
  path = named(tmp_path / "x.tif", crs="EPSG:32633", transform=from_origin(500000, 4600000, 10, 10))
  with rasterio.open(path, "r+") as file:
    file.update_tags(AREA_OR_POINT=anchor)
  where = places.of(str(path))
  assert where.anchor == anchor
  places.write(
    str(tmp_path / "map.tif"), np.zeros((20, 20), np.uint8), where, 255, class_names=("sky", "road")
  )
  with rasterio.open(tmp_path / "map.tif") as file:
    assert file.tags()["AREA_OR_POINT"] == anchor and file.crs == where.crs
    assert file.transform == where.transform and file.descriptions == ("predicted class",)
    assert {key: name for key, name in file.tags(1).items() if key.startswith("class_")} == {
      "class_0": "sky",
      "class_1": "road",
    }
  assert places.of(str(tmp_path / "map.tif")) == where


# Numbers that float32 cannot hold.


@pytest.mark.parametrize("sentinel", [-1.797e308, 1.797e308, float("-inf"), 3.5e38])
@pytest.mark.parametrize("kind", ["npy", "tif"])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_numbers_beyond_float32_are_no_data(tmp_path, sentinel, kind):
  numbers = scene(bands=2, height=20, width=20).astype(np.float64)
  values = 2 * numbers[..., :1]
  numbers[:7] = values[:7] = values[10] = sentinel
  for folder, pixels in (("images", numbers), ("values", values)):
    path = tmp_path / "in/train" / folder / f"0.{kind}"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, pixels) if kind == "npy" else write_tif(path, pixels)
  prepared.run(tmp_path / "in", tmp_path / "out", cut=tiles.Cut(10))
  measured = statistics.read(tmp_path / "out")
  assert measured["valid"] == [13 * 20] * 2 and np.isfinite(measured["mean"]).all()
  assert measured["values"]["valid"] == [12 * 20] and np.isfinite(measured["values"]["std"]).all()
  for example in map(prepared.read(tmp_path / "out").__getitem__, range(4)):
    assert not np.isinf(array_files.unpack(example.image)).any()
    assert not np.isinf(array_files.unpack(example.target)).any()


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "null"])
@pytest.mark.parametrize("column", ["mean", "std", "p50"])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_a_run_refuses_statistics_that_are_not_finite(tmp_path, text, column):
  write_tif(tmp_path / "in/0.tif", scene(bands=2))
  prepared.run(tmp_path / "in", tmp_path / "out")
  path = tmp_path / "out/statistics.json"
  stored = json.loads(path.read_text()) | {column: [1.0, "?"]}
  path.write_text(json.dumps(stored).replace('"?"', text))
  seals.reseal(tmp_path / "out")
  config = tiny.config(
    data__source="array_record",
    data__path=str(tmp_path / "out"),
    data__dtype="float32",
    data__mean=(),
    data__std=(),
  )
  with pytest.raises(BadInput, match=r"statistics.json is damaged: .*; delete it and run") as error:
    run_config.with_statistics(config)
  assert "\n" not in str(error.value)
