"""Whole images through `show`: they are resized as in evaluation, and pixels without data get no
prediction.
"""

import functools

import numpy as np
from PIL import Image
import pytest
import rasterio

from swin_jax.data.read import image_ops
from swin_jax.predict import whole_images
from swin_jax.predict.maps import Maps
from swin_jax.saved import description, pretrained
from swin_jax.show import output
from swin_jax.show import truth as truth_maps
from swin_jax.show import whole_images as pictures
from swin_jax.tasks import KINDS
from swin_jax.terminal.errors import BadInput
from tests.support import tiny
from tests.support.rasters import round_hole, stripes, with_alpha, write_tif


def load(task, interpolation="bicubic", sides=(31, 31), dtype="float32", bands=2):
  """Returns a model without weights; the tests replace its outputs."""
  config = tiny.config(
    task=task,
    data__dtype=dtype,
    data__mean=(0.0,) * bands,
    data__std=(1.0,) * bands,
    dense__sides=sides,
    augment__interpolation=interpolation,
  )
  if KINDS[task].needs.has_classes:
    config[task].num_classes = 3
  return pretrained.Model(description.describe(config.to_dict(), "a run"))


@pytest.fixture(autouse=True)
def said(monkeypatch):
  """Makes the model predict 2 for every pixel."""

  def answer(model, params, pixels):
    scores = np.zeros((*pixels.shape[:2], 3 if model.class_names else 1), np.float32)
    scores[..., -1] = 2.0
    return scores

  monkeypatch.setattr(whole_images, "answer", answer)


def unknown(found):
  return found == 255 if found.dtype == np.uint8 else np.isnan(found)


def read_map(path):
  """Returns the values in a map: classes in a PNG, or numbers in a TIFF."""
  if path.suffix == ".png":
    return np.asarray(Image.open(path))
  with rasterio.open(path) as file:
    return file.read(1)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("task", ["segmentation", "pixel_regression"])
@pytest.mark.parametrize("image", [stripes(), round_hole(1), round_hole(2)])
def test_no_pixel_without_data_is_given_an_answer(tmp_path, monkeypatch, image, task):
  """This holds at the size that the model sees, in maps of the file's size, and in pictures made smaller."""
  model = load(task)
  (tmp_path / "maps").mkdir()
  path = write_tif(tmp_path / "scene.tif", image)
  (scene,) = whole_images.read(model, path)
  prediction = whole_images.predict(model, None, scene)
  lacking = np.isnan(scene.pixels).all(-1)
  assert scene.pixels.shape[:2] == (21, 31) and not lacking.all()
  np.testing.assert_array_equal(unknown(prediction), lacking)
  path_of = functools.partial(output.new_file, tmp_path / "maps", scene.name)
  written = read_map(Maps(tmp_path / "maps", model.class_names).write(scene, prediction, path_of))
  assert written.shape == (40, 60) and unknown(written)[np.isnan(image).all(-1)].all()
  monkeypatch.setattr(pictures, "_LARGEST", 17)
  pixels, valid, smaller, truth = pictures.for_a_picture(scene, "bicubic", prediction, None)
  assert pixels.shape[:2] == smaller.shape == (12, 17) and truth is None
  np.testing.assert_array_equal(valid, ~np.isnan(pixels).all(-1))
  assert unknown(smaller)[~valid].all() and not unknown(smaller).all()


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_images_are_fitted_as_in_evaluation(tmp_path, interpolation):
  image = np.random.default_rng(0).normal(size=(40, 60, 2)).astype(np.float32)
  (scene,) = whole_images.read(load("segmentation", interpolation), write_tif(tmp_path / "scene.tif", image))
  np.testing.assert_array_equal(scene.pixels, image_ops.resize(image, (21, 31), interpolation))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_the_truth_is_unknown_where_there_is_no_data(tmp_path):
  image = round_hole(1)
  model, path = load("pixel_regression"), write_tif(tmp_path / "scene.tif", image)
  (tmp_path / "values").mkdir()
  write_tif(tmp_path / "values/scene.tif", np.ones((40, 60, 1), np.float32))
  (scene,) = whole_images.read(model, path)
  truth = truth_maps.Truth("--values", str(tmp_path / "values"), 0).of(scene)
  np.testing.assert_array_equal(np.isnan(truth), ~scene.valid)


@pytest.mark.parametrize(
  "names, expected", [(("sky", "sea", "road"), [2, 255, 0, 255]), ((), [0, 1, 2, 255])]
)
def test_true_classes_go_by_name(tmp_path, capsys, names, expected):
  """The names in classes.txt decide, where the model has names too."""
  (tmp_path / "classes.txt").write_text("road\ncar\nsky\n")
  (tmp_path / "labels").mkdir()
  Image.fromarray(np.uint8([[0, 1, 2, 255]])).save(tmp_path / "labels/x.png")
  image = whole_images.Whole("x", np.zeros((1, 4, 2), np.float32), None, (1, 4))
  folder = str(tmp_path / "labels")
  truth = truth_maps.Truth("--labels", folder, 3, names).of(image)
  np.testing.assert_array_equal(truth, [expected])
  assert ("not known to the model: car; their pixels count as unlabelled" in capsys.readouterr().out) == bool(
    names
  )
  with pytest.raises(BadInput, match="has classes road, car, sky, but the model has cat, dog, cow"):
    truth_maps.Truth("--labels", folder, 3, ("cat", "dog", "cow"))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_alpha_channel_is_data_for_a_model_that_was_trained_with_it(tmp_path):
  """And it is a mask for a model of the other bands."""
  pixels = np.random.default_rng(0).integers(0, 255, (31, 31, 3), np.uint8)
  pixels[:9, :, 2] = 0
  with_alpha(tmp_path / "two.tif", pixels[..., 1:2], pixels[..., 2])
  with_alpha(tmp_path / "three.tif", pixels[..., :2], pixels[..., 2])
  (kept,) = whole_images.read(load("segmentation"), tmp_path / "two.tif")
  np.testing.assert_array_equal(kept.pixels, pixels[..., 1:])
  (masked,) = whole_images.read(load("segmentation"), tmp_path / "three.tif")
  np.testing.assert_array_equal(np.isnan(masked.pixels), np.repeat(pixels[..., 2:] == 0, 2, -1))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_captions_name_the_bands_that_are_shown(tmp_path, monkeypatch):
  model, path = load("segmentation"), write_tif(tmp_path / "x.tif", np.ones((31, 31, 2), np.float32))
  with rasterio.open(path, "r+") as file:
    file.descriptions = ("red", "near infrared")
  (image,) = whole_images.read(model, path)
  captions = []
  sheet = pictures.sheet
  monkeypatch.setattr(pictures, "sheet", lambda *words: captions.append(words[2]) or sheet(*words))
  predictions = whole_images.predict(model, None, image)
  pictures.picture(model, image, predictions, bands=(1,))
  pictures.picture(model, image._replace(band_names=()), predictions)
  assert captions == ["image: near infrared", "image"]


def test_the_truth_of_masks_is_understood_like_a_set(tmp_path, capsys):
  Image.fromarray(np.full((31, 31), 255, np.uint8)).save(tmp_path / "x.png")
  (tmp_path / "classes.txt").write_text("background\nobject\n")
  truth = truth_maps.Truth("--labels", str(tmp_path), 2)
  image = whole_images.Whole("x", np.zeros((31, 31, 2), np.float32), None, (31, 31))
  assert (truth.of(image) == 1).all() and "255 is class object" in capsys.readouterr().out


def test_a_map_that_lies_like_the_stored_pixels_is_turned(tmp_path):
  """As in prepare and in training."""
  exif = Image.Exif()
  exif[0x0112] = 6
  Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "x.jpg", exif=exif)
  stored = np.random.default_rng(0).integers(0, 2, (20, 30), np.uint8)
  (tmp_path / "labels").mkdir()
  Image.fromarray(stored).save(tmp_path / "labels" / "x.png")
  (image,) = whole_images.read(load("segmentation", dtype="uint8", bands=1), tmp_path / "x.jpg")
  truth = truth_maps.Truth("--labels", str(tmp_path / "labels"), 2)
  np.testing.assert_array_equal(truth.of(image._replace(pixels=np.zeros((30, 20, 1)))), np.rot90(stored, -1))


@pytest.mark.parametrize("count", [1, 3])
def test_maps_are_paired_as_in_prepare(count, tmp_path):
  folders = tmp_path / "raw", tmp_path / "truth"
  for folder in folders:
    folder.mkdir()
  for i in range(3):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folders[0] / f"cell {i}_ch00.jpg")
    Image.fromarray(np.full((4, 4), i, np.uint8)).save(folders[1] / f"cell {i}_seg.png")
  files = [folders[0] / f"cell {i}_ch00.jpg" for i in range(count)]
  truth = truth_maps.Truth("--labels", str(folders[1]), 3, (), files)
  for i, file in enumerate(files):
    image = whole_images.Whole(file.stem, np.zeros((4, 4, 2), np.float32), None, (4, 4))
    assert (truth.of(image) == i).all()
  with pytest.raises(BadInput, match="holds no map called cell_ch00, nor one whose name differs only by"):
    truth.of(image._replace(name="cell_ch00"))


def test_maps_that_may_belong_to_several_images_are_not_paired(tmp_path):
  for name in ("x_flip.jpg", "x_turn.jpg"):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / name)
  (tmp_path / "labels").mkdir()
  Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "labels/x_mask.png")
  truth = truth_maps.Truth("--labels", str(tmp_path / "labels"), 3, (), [tmp_path / "x_flip.jpg"])
  with pytest.raises(BadInput, match="holds no map called x_flip"):
    truth.of(whole_images.Whole("x_flip", np.zeros((4, 4, 2), np.float32), None, (4, 4)))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bands_keep_their_names_where_alpha_has_none(tmp_path):
  path = with_alpha(tmp_path / "x.tif", np.ones((31, 31, 2), np.float32), np.full((31, 31), 255))
  with rasterio.open(path, "r+") as file:
    file.descriptions = ("red", "near infrared", None)
  (image,) = whole_images.read(load("segmentation"), path)
  assert image.band_names == ("red", "near infrared")


def test_an_array_next_to_a_label_map_is_not_a_second_map(tmp_path):
  """As in prepare: arrays count only where there are no image files."""
  Image.fromarray(np.ones((4, 4), np.uint8)).save(tmp_path / "x.png")
  np.save(tmp_path / "x.npy", np.zeros((4, 4), np.uint8))
  image = whole_images.Whole("x", np.zeros((4, 4, 2), np.float32), None, (4, 4))
  assert (truth_maps.Truth("--labels", str(tmp_path), 2).of(image) == 1).all()
