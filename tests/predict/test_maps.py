"""Maps of whole images by `predict`, and what model folders say of the view."""

import csv
import json
import pathlib

import numpy as np
from PIL import Image
import pytest
import rasterio
from rasterio.transform import from_origin

from configs import common
import swin_jax
from swin_jax.predict import __main__ as command
from swin_jax.predict import whole_images
from swin_jax.saved import description as descriptions
from swin_jax.saved import folder, pretrained
from swin_jax.tasks import image_input
from tests.support import images, prepared, tiny
from tests.support.folders import imported
from tests.support.rasters import round_hole, write_tif

pytestmark = [
  pytest.mark.devices(2),
  pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning"),
]


def make(path, task, bands, dtype, **changes):
  """Writes the folder of a model with random weights."""
  c = tiny.config(
    task=task, dense__sides=(40, 40), dense__window=(24, 24), dense__eval_canvas=(48, 48), **changes
  )
  c.data.update(mean=(0.5,) * bands, std=(0.5,) * bands, dtype=dtype, image_size=(24, 24))
  c[task].channels = 32
  description = descriptions.describe(c.to_dict(), "a config")
  shapes, rng = descriptions.parameter_shapes(description), np.random.default_rng(0)
  folder.write(
    str(path), description, shapes, lambda name: rng.normal(size=shapes[name]).astype(np.float32) / 4
  )
  return str(path)


def predict(*words):
  return command.main(["predict", *map(str, words)])


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
  path = tmp_path_factory.mktemp("model") / "segmenter"
  return make(path, "segmentation", 3, "uint8", segmentation__num_classes=3)


def test_label_maps_are_those_of_whole_images(segmenter, tmp_path):
  """Windows of two images are computed together; files with one stem do not share a map."""
  rng = np.random.default_rng(1)
  for name, size in {"a/x.png": (40, 60), "a/x.jpg": (60, 40), "b/y.png": (20, 30)}.items():
    (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(tmp_path / "set" / name)
  np.save(tmp_path / "set/z.npy", rng.integers(0, 256, (2, 30, 50, 3), np.uint8))
  assert predict(segmenter, tmp_path / "set", f"--out={tmp_path / 'out'}") == 0
  with open(tmp_path / "out/maps.csv", newline="") as file:
    maps = {row["path"]: row["map"] for row in csv.DictReader(file)}
  assert maps == {
    "a/x.jpg": "maps/a/x.jpg.png",
    "a/x.png": "maps/a/x.png.png",
    "b/y.png": "maps/b/y.png",
    "z.npy[0]": "maps/z-0.png",
    "z.npy[1]": "maps/z-1.png",
  }
  assert len((tmp_path / "out/maps/classes.txt").read_text().splitlines()) == 3
  model, params = pretrained.load(segmenter)
  written = iter(maps.values())
  for name in ("a/x.jpg", "a/x.png", "b/y.png", "z.npy"):
    for image in whole_images.read(model, tmp_path / "set" / name):
      found = np.asarray(Image.open(tmp_path / "out" / next(written)))
      assert found.shape == image.size
      if image.size == image.pixels.shape[:2]:
        np.testing.assert_array_equal(found, whole_images.predict(model, params, image))


def test_value_maps_of_rasters_keep_the_georeference(tmp_path):
  model_path = make(tmp_path / "model", "pixel_regression", 2, "float32", pixel_regression__value_std=2.0)
  where = dict(crs="EPSG:32633", transform=from_origin(5e5, 5e6, 10, 10))
  write_tif(tmp_path / "set/deep/scene.tif", round_hole(1)[:40, :40], **where)
  assert predict(model_path, tmp_path / "set", f"--out={tmp_path / 'out'}") == 0
  model, params = pretrained.load(model_path)
  (image,) = whole_images.read(model, tmp_path / "set/deep/scene.tif")
  with rasterio.open(tmp_path / "out/maps/deep/scene.tif") as file:
    assert file.crs.to_epsg() == 32633 and file.transform == where["transform"]
    found = file.read(1)
  np.testing.assert_allclose(found, whole_images.predict(model, params, image), rtol=1e-4, atol=1e-4)
  assert np.isnan(found).any() and not np.isnan(found).all()


def test_what_a_model_cannot_answer_is_refused(segmenter, tmp_path, capsys):
  def refused(*words):
    assert predict(*words, f"--out={tmp_path / 'out'}") == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line

  set_ = images.make_folder(tmp_path / "set", {"train": 3, "val": 3})
  masked = imported(tmp_path, simmim=True)
  assert "--features=pooled gives its features" in refused(masked, set_)
  assert "sees images of one size" in refused(segmenter, set_, "--features=pooled")
  prepared.run(set_, tmp_path / "prepared")
  assert "give files or folders, not a prepared set" in refused(segmenter, tmp_path / "prepared")
  assert not (tmp_path / "out").exists()
  assert predict(masked, tmp_path / "prepared", f"--out={tmp_path / 'out'}", "--features=pooled") == 0
  assert np.load(tmp_path / "out/features.npy").shape == (6, 32)


def test_a_folder_that_does_not_state_the_view_uses_the_defaults_of_the_config_and_says_so(tmp_path, capsys):
  path = pathlib.Path(imported(tmp_path))
  held = json.loads((path / "config.json").read_text())
  assert held["augment"] == {"interpolation": "bicubic", "eval_crop_fraction": 0.875}
  image = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
  model, _ = swin_jax.load(str(path))
  expected = model.preprocess(image)
  assert expected.shape == (32, 32, 3)
  del held["augment"], held["digests"]
  (path / "config.json").write_text(json.dumps(held))
  capsys.readouterr()
  model, _ = swin_jax.load(str(path))
  np.testing.assert_array_equal(model.preprocess(image), expected)
  said = capsys.readouterr().out
  assert "assuming augment.interpolation=bicubic, augment.eval_crop_fraction=0.875" in said
  assert "augment" not in model.description  # what was not known is not written as known
  defaults = common.base().augment
  assert all(defaults[key] == value for key, value in image_input.SAVED_VIEW.defaults["augment"].items())
