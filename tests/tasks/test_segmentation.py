"""Segmentation: scores by hand and on eight devices, sliding windows, several views, the loss, and a run from
start to pictures.
"""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import rasterio

import swin_jax
from swin_jax.data.read import image_ops, targets
from swin_jax.data.view import dense_views
from swin_jax.drawing import label_pictures, legend
from swin_jax.predict import whole_images
from swin_jax.run import compatibility, evaluate, metrics, optim, train
from swin_jax.show import whole_images as pictures
from swin_jax.show.__main__ import main as show
from swin_jax.tasks import dense, segmentation
from swin_jax.terminal.errors import BadInput
from tests.support import runs, tiny
from tests.support.label_sets import CLASSES, png, write
from tests.support.prepared import main as prepare
from tests.support.rasters import write_tif


def test_scores_of_a_confusion_matrix_by_hand():
  """Two of the three pixels of class 0 are right and the third is predicted as 1; one pixel of class 1 is
  right; class 2 occurs neither in the labels nor in the predictions.
  """
  labels, guessed = jnp.asarray([[0, 0, 0], [1, 255, 255]]), jnp.asarray([[0, 0, 1], [1, 0, 2]])
  confusion = segmentation.confusion_matrix(labels, guessed, 3)
  assert confusion.tolist() == [[2, 1, 0], [0, 1, 0], [0, 0, 0]]
  mean = metrics.Mean()
  mean.add(jax.device_get(segmentation.score_sums(confusion)))
  assert mean.compute("eval/", ("sky", "road")) == pytest.approx(
    {
      "eval/iou/sky": 2 / 3,
      "eval/iou/road": 1 / 2,
      "eval/mean_iou": (2 / 3 + 1 / 2) / 2,
      "eval/pixel_accuracy": 3 / 4,
      "eval/majority_share": 3 / 4,
    }
  )


def test_scores_are_of_all_pixels_not_means_of_batches():
  rng = np.random.default_rng(0)
  labels, guessed = rng.integers(0, 4, (6, 8, 8)), rng.integers(0, 4, (6, 8, 8))
  labels[rng.random(labels.shape) < 0.2] = 255
  sums = [
    segmentation.score_sums(
      segmentation.confusion_matrix(jnp.asarray(labels[part]), jnp.asarray(guessed[part]), 4)
    )
    for part in (slice(0, 1), slice(1, 6), slice(0, 6))
  ]
  parts, whole = metrics.Mean(), metrics.Mean()
  parts.add(jax.device_get(sums[0]))
  parts.add(jax.device_get(sums[1]))
  whole.add(jax.device_get(sums[2]))
  assert parts.compute("") == whole.compute("")
  known = labels != 255
  for label in range(4):
    both = np.sum(known & (labels == label) & (guessed == label))
    either = np.sum(known & ((labels == label) | (guessed == label)))
    assert whole.compute("")[f"iou/{label}"] == pytest.approx(both / either)


def test_many_pixels_are_counted_one_by_one():
  mean = metrics.Mean()
  for _ in range(3):
    mean.add({"iou": (np.asarray([2**24 - 1]), np.asarray([2**24]))})
  assert mean.sums["iou"][0].tolist() == [3 * (2**24 - 1)]


def scores(images, classes=3):
  """A "model" that sees only its own patch; returns [B, H/4, W/4, classes]."""
  b, height, width, _ = images.shape
  patches = images.reshape(b, height // 4, 4, width // 4, 4, -1).mean((2, 4, 5))
  return jnp.stack([patches * (i + 1) - i * i for i in range(classes)], axis=-1)


def noise(*shape, seed=0):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.parametrize("window", [(24, 36), (64, 64), (24, 100)])
def test_a_window_that_covers_the_image_is_the_whole_image(window):
  images = noise(2, 24, 36, 3)
  np.testing.assert_array_equal(dense.slide(scores, images, window=window), dense.whole(scores, images))


def test_sliding_is_the_mean_of_the_windows_over_each_pixel():
  images = noise(2, 28, 44, 3)
  logits = dense.slide(scores, images, window=(16, 20))
  total, times = np.zeros(logits.shape), np.zeros(logits.shape[1:3])
  for top in (0, 10, 12):
    for left in (0, 13, 24):
      total[:, top : top + 16, left : left + 20] += dense.whole(
        scores, images[:, top : top + 16, left : left + 20]
      )
      times[top : top + 16, left : left + 20] += 1
  np.testing.assert_allclose(logits, total / times[None, :, :, None], atol=1e-5)


def test_every_pixel_is_seen_whatever_the_sizes():
  for size in range(1, 60):
    for window in range(1, size + 1):
      starts = dense.starts(size, window)
      assert (
        starts[0] == 0
        and starts[-1] == size - window
        and max(np.diff(starts), default=0) <= max(1, window * 2 // 3)
      )


def test_views_are_averaged_as_probabilities():
  images = noise(1, 16, 24, 3)
  views = dense.TestTimeViews((), (1.0, 0.5), True)
  probabilities = []
  for scale in (1.0, 0.5):
    for mirror in (1, -1):
      view = dense.resize(images, (int(16 * scale), int(24 * scale)))[:, :, ::mirror]
      logits = dense.resize(dense.whole(scores, view)[:, :, ::mirror], (16, 24))
      probabilities.append(jax.nn.softmax(logits, axis=-1))
  np.testing.assert_allclose(dense.predict(scores, images, views), np.mean(probabilities, axis=0), atol=1e-6)
  # A model without a sense of left and right predicts the same for a mirrored image.
  once = dense.predict(scores, images, dense.TestTimeViews())
  np.testing.assert_allclose(
    dense.predict(scores, images, dense.TestTimeViews(mirrored=True)), once, atol=1e-6
  )


def test_the_loss_is_the_mean_over_pixels_with_a_class():
  logits = noise(2, 4, 4, 3)
  labels = np.random.default_rng(1).integers(0, 3, (2, 4, 4)).astype(np.uint8)
  labels[1, :3] = 255
  losses = -np.asarray(jax.nn.log_softmax(logits))
  expected = np.mean([losses[(*i, labels[i])] for i in np.ndindex(labels.shape) if labels[i] != 255])
  assert float(segmentation.cross_entropy(logits, jnp.asarray(labels))) == pytest.approx(expected, rel=1e-6)
  assert float(segmentation.cross_entropy(logits, jnp.full((2, 4, 4), 255, jnp.uint8))) == 0.0
  gradient = jax.grad(lambda x: segmentation.cross_entropy(x, jnp.full((2, 4, 4), 255, jnp.uint8)))(logits)
  assert not np.any(gradient)


def test_the_rate_falls_along_a_line():
  rate = functools.partial(
    optim.learning_rate,
    peak=2.0,
    schedule="polynomial",
    total_steps=110,
    warmup_steps=10,
    warmup_lr=0.0,
    min_lr=0.0,
    milestones=(),
    decay_rate=0.1,
  )
  assert [float(rate(step)) for step in (0, 5, 10, 60, 110)] == pytest.approx([0.0, 1.0, 2.0, 1.0, 0.0])


def test_pictures_show_image_truth_prediction_and_errors():
  pixels = jnp.full((1, 2, 2, 3), 0.5)
  truth, prediction = jnp.asarray([[[0, 1], [255, 1]]]), jnp.asarray([[[0, 0], [1, 1]]])
  image, said, prediction_panel, errors = np.asarray(
    label_pictures.label_panels(pixels, prediction, truth, 2)
  )[0]
  assert np.all(image == 128) and np.array_equal(said[1, 0], image[1, 0])
  assert (
    np.array_equal(said[0, 0], prediction_panel[0, 0])
    and np.array_equal(prediction_panel[0, 1], prediction_panel[0, 0])
    and np.array_equal(prediction_panel[1, 0], said[0, 1])
  )
  assert (errors == legend.ERROR).all(-1).tolist() == [[False, True], [False, False]]
  nothing = np.asarray(label_pictures.label_panels(pixels, jnp.full((1, 2, 2), 255), truth, 2))[0, 2]
  assert np.array_equal(nothing, image)


def test_pictures_of_large_scenes_are_made_smaller(monkeypatch):
  pixels, prediction = (
    np.zeros((100, 50, 3), np.uint8),
    np.repeat([[0, 1]], 100, 0).repeat(25, 1).astype(np.uint8),
  )
  scene = whole_images.Whole("scene", pixels, None, (100, 50))
  assert pictures.for_a_picture(scene, "bilinear", prediction)[0] is pixels
  monkeypatch.setattr(pictures, "_LARGEST", 40)
  image, valid, prediction, truth = pictures.for_a_picture(scene, "bilinear", prediction, None)
  assert truth is None and valid is None
  assert (
    image.shape == (40, 20, 3) and prediction.tolist() == np.repeat([[0, 1]], 40, 0).repeat(10, 1).tolist()
  )


def config(**changes):
  return tiny.config(
    **dict(
      task="segmentation",
      segmentation__channels=16,
      model__drop_path_rate=0.0,
      dense__photometric=False,
      data__image_size=(24, 24),
      dense__sides=(32, 32),
      dense__eval_canvas=(32, 32),
      dense__scale_range=(0.8, 1.25),
    )
    | changes
  )


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory):
  """Trains a model to tell which pixels of the digits are ink."""
  workdir = tmp_path_factory.mktemp("run")
  settings = config(
    optim__total_epochs=60 / 89, optim__lr=0.3, checkpoint__every_epochs=30 / 89, log__num_pictures=2
  )
  return workdir, train.train(settings, str(workdir))


@pytest.mark.slow
def test_a_run_learns_and_shows_it(run):
  workdir, evaluation = run
  assert evaluation["eval/mean_iou"] > 0.6 and evaluation["eval/pixel_accuracy"] > 0.8
  assert evaluation["eval/mean_iou"] == pytest.approx(
    (evaluation["eval/iou/paper"] + evaluation["eval/iou/ink"]) / 2
  )
  last = runs.lines(workdir)[-1]
  assert last["eval/iou/ink"] == evaluation["eval/iou/ink"]
  (picture,) = workdir.glob("pictures/segmentation-*.png")
  grid = np.asarray(Image.open(picture))
  colours = {tuple(colour) for colour in grid.reshape(-1, 3)}
  assert {tuple(colour) for colour in legend.palette(2)} | {
    legend.ERROR
  } <= colours  # the colours of the legend
  assert (grid[:8, :4] == 255).all() and (grid[:30] < 128).any()  # the step and the titles


@pytest.mark.slow
def test_it_is_evaluated_and_shown_again(run, tmp_path, capsys):
  workdir, evaluation = run
  again = evaluate.evaluate_checkpoint(config(), str(workdir))
  assert again == pytest.approx(evaluation, rel=1e-5)
  several = evaluate.evaluate_checkpoint(config(dense__window=(24, 24), dense__mirrored=True), str(workdir))
  assert several != evaluation and several["eval/mean_iou"] > 0.5
  with pytest.raises(BadInput, match="segmentation.channels"):
    evaluate.evaluate_checkpoint(config(segmentation__channels=32), str(workdir))
  images = {f"images/{i}.png": png(np.random.default_rng(i).integers(0, 255, (24, 40))) for i in range(2)}
  maps = {f"labels/{i}.png": png(np.zeros((24, 40))) for i in range(2)}
  folder = pathlib.Path(write(tmp_path / "set", images | maps | {"classes.txt": "paper\nink\n"}))
  assert (
    show(
      [
        "show",
        "segment",
        str(workdir),
        str(folder / "images"),
        f"--out={tmp_path / 'out'}",
        f"--labels={folder / 'labels'}",
      ]
    )
    == 0
  )
  assert len(list((tmp_path / "out").glob("*-segment.png"))) == 2
  capsys.readouterr()
  (folder / "classes.txt").write_text(CLASSES)
  assert (
    show(
      [
        "show",
        "segment",
        str(workdir),
        str(folder / "images"),
        f"--out={tmp_path / 'out'}",
        f"--labels={folder / 'labels'}",
      ]
    )
    == 2
  )
  assert "has classes sky, road, car, but the model has paper, ink" in capsys.readouterr().err
  with pytest.raises(
    BadInput, match="has 2 classes, but the data has 5: evaluate it on data with the same classes"
  ):
    evaluate.evaluate_checkpoint(config(segmentation__num_classes=5), str(workdir))
  assert show(["show", "reconstruct", str(workdir), str(folder / "images"), f"--out={tmp_path / 'out'}"]) == 2
  assert "is not a masked-image model" in capsys.readouterr().err


@pytest.mark.slow
def test_classes_are_written_as_maps(run, tmp_path, capsys):
  """The maps are PNGs in the format of a data set's label maps, at the size of the files, and GeoTIFFs where
  a file is georeferenced.
  """
  workdir, _ = run
  images = {
    f"{split}/images/{i}.png": png(np.random.default_rng(i).integers(0, 255, (24 + i, 40)))
    for split in ("train", "val")
    for i in range(2)
  }
  folder = pathlib.Path(write(tmp_path / "set", images))
  write_tif(
    folder / "placed.tif",
    np.random.default_rng(7).integers(0, 255, (36, 50, 1), np.uint8),
    crs="EPSG:4326",
    transform=rasterio.transform.from_origin(8, 50, 0.1, 0.1),
  )
  for split in ("train", "val"):
    words = ["show", "segment", str(workdir), str(folder / split / "images"), f"--out={tmp_path / 'out'}"]
    assert show([*words, f"--maps={folder / split / 'labels'}"]) == 0
  model, params = swin_jax.load(str(workdir))
  for i in range(2):
    class_map = Image.open(folder / f"val/labels/{i}.png")
    assert class_map.mode == "P" and class_map.size == (40, 24 + i)
    image = np.asarray(Image.open(folder / f"val/images/{i}.png"))[..., None]
    fitted = image_ops.resize(image, dense_views.fit(image.shape[:2], (32, 32)), "bilinear")
    classes = whole_images.predict(model, params, whole_images.Whole("", fitted, None, image.shape[:2]))
    assert np.array_equal(np.asarray(class_map), targets.resize(classes, image.shape[:2]))
  assert (folder / "val/labels/classes.txt").read_text() == "paper\nink\n"
  (folder / "placed.tif").rename(tmp_path / "placed.tif")
  assert prepare(f"--source={folder}", f"--out={tmp_path / 'prepared'}") == 0
  assert (
    show(
      [
        "show",
        "segment",
        str(workdir),
        str(tmp_path / "placed.tif"),
        f"--out={tmp_path / 'out'}",
        f"--maps={tmp_path / 'maps'}",
      ]
    )
    == 0
  )
  with rasterio.open(tmp_path / "maps/placed.tif") as file:
    assert (file.crs, file.transform.e, file.shape, file.dtypes, file.nodata) == (
      rasterio.CRS.from_epsg(4326),
      -0.1,
      (36, 50),
      ("uint8",),
      255,
    )
    assert file.read(1).max() < 2 and file.colormap(1)[1][:3] == tuple(legend.palette(2)[1])
  for name, message in (
    ("classes.txt", "has class names that differ from the model's"),
    ("0.png", "holds 0.png and 0.tif, which is ambiguous"),
  ):
    (tmp_path / "other").mkdir(exist_ok=True)
    (tmp_path / "other" / name).write_bytes(
      (b"paper\nroad\n" if name == "classes.txt" else png(np.zeros((24, 40))))
    )
    write_tif(tmp_path / "other/0.tif", np.zeros((24, 40, 1), np.uint8))
    words = [
      "show",
      "segment",
      str(workdir),
      str(folder / "val/images/0.png"),
      f"--out={tmp_path / 'nothing'}",
    ]
    capsys.readouterr()
    assert show([*words, f"--{'maps' if name == 'classes.txt' else 'labels'}={tmp_path / 'other'}"]) == 2
    assert message in capsys.readouterr().err
  assert (tmp_path / "other/classes.txt").read_text() == "paper\nroad\n"
  assert (
    show(
      [
        "show",
        "segment",
        str(workdir),
        str(folder / "train/images/1.png"),
        f"--out={tmp_path / 'nothing'}",
        f"--labels={folder / 'val/labels'}",
      ]
    )
    == 0
  )
  (folder / "val/labels/1.png").write_bytes(png(np.zeros((24, 40))))
  assert (
    show(
      [
        "show",
        "segment",
        str(workdir),
        str(folder / "train/images/1.png"),
        f"--out={tmp_path / 'nothing'}",
        f"--labels={folder / 'val/labels'}",
      ]
    )
    == 2
  )
  assert "its map has 24 × 40 pixels, but the image has 25 × 40" in capsys.readouterr().err
  write_tif(tmp_path / "many.tif", np.zeros((36, 50, 5), np.int16))
  capsys.readouterr()
  assert show(["show", "segment", str(workdir), str(tmp_path / "many.tif"), f"--out={tmp_path / 'out'}"]) == 2
  assert (
    "many.tif is a raster of 5 bands, int16; the model takes 8-bit images of 1 band"
    in capsys.readouterr().err
  )


@pytest.mark.slow
def test_what_is_larger_than_in_evaluation_is_seen_by_its_window(run):
  model, params = swin_jax.load(str(run[0]))
  forward = functools.partial(model.apply, params)
  for size, window in (((40, 70), (32, 32)), ((20, 32), (20, 32))):  # the canvas is 32 × 32
    image = np.random.default_rng(0).integers(0, 255, (*size, 1), np.uint8)
    expected = dense.slide(forward, model.normalise(image)[None], window=window)[0]
    np.testing.assert_allclose(whole_images.answer(model, params, image), expected, atol=1e-5)


@pytest.mark.parametrize(
  "changes, message",
  [
    (dict(dense__sides=(512,)), "config.dense.sides = (512,): must have 0 or 2 entries, not 1"),
    (
      dict(dense__eval_canvas=(65536, 4097)),
      "config.dense.eval_canvas = (65536, 4097) at a scale of 1 has more",
    ),
    (
      dict(dense__eval_canvas=(8192, 8192), dense__scales=(0.5, 2.1)),
      "config.dense.eval_canvas = (8192, 8192) at a scale of 2.1 has more than 268,435,456 pixels",
    ),
    (
      dict(dense__sides=(8192, 8192), dense__scale_range=(0.5, 2.1)),
      "config.dense.sides = (8192, 8192) at a scale of 2.1 has more than 268,435,456 pixels",
    ),
    (dict(dense__window=(2, 2)), "config.dense.window = (2, 2) must be two numbers"),
    (dict(dense__scale_range=(2.0, 0.5)), "config.dense.scale_range"),
    (dict(dense__scales=()), "config.dense.scales"),
    (dict(dense__photometric=True), "photometric distortion needs uint8 RGB, not uint8 of 1 bands"),
    (dict(segmentation__channels=20), "config.segmentation.channels = 20 must be a multiple of 16"),
    (
      dict(segmentation__num_classes=300),
      "config.segmentation.num_classes = 300: must be at least 0 and at most 255",
    ),
    (dict(data__mean=(120.0,)), "data.mean = (120.0,), but pixels of data.dtype=uint8 are scaled to 0..1"),
    (dict(data__std=()), "give both, or (), () for the values of the data's statistics.json"),
    (
      dict(model__version=1, model__window_sizes=(8, 8), dense__eval_canvas=(64, 64)),
      "V1's bias tables belong to the windows [(6, 6), (3, 3)]",
    ),
  ],
)
def test_mistakes_are_one_line(tmp_path, changes, message):
  with pytest.raises(BadInput) as error:
    train.train(config(**changes), str(tmp_path / "run"))
  assert message in str(error.value) and "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_a_stored_config_without_newer_keys_goes_on(tmp_path):
  settings = tiny.config()
  stored = json.loads(json.dumps(settings.to_dict()))
  del stored["segmentation"], stored["dense"]
  compatibility.check_same_run(settings, stored, str(tmp_path))
  # The missing keys' values are known: such a run can only have used the defaults.
  del stored["augment"]["rotate"], stored["data"]["dtype"]
  compatibility.check_same_run(settings, stored, str(tmp_path))
  for changes, message in (
    (dict(augment__rotate=True), "augment.rotate"),
    (dict(data__dtype="float32"), "data.dtype"),
  ):
    with pytest.raises(BadInput, match=message):
      compatibility.check_same_run(tiny.config(**changes), stored, str(tmp_path))
  stored["optim"]["lr"] = 7.0
  with pytest.raises(BadInput, match="optim.lr"):
    compatibility.check_same_run(settings, stored, str(tmp_path))
