"""Pixel regression: maps of values through `prepare`, errors and loss worked out by hand, and a run from
rasters to predicted maps.
"""

import io
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import rasterio

import swin_jax
from swin_jax.data.prepare import tiles, writing
from swin_jax.data.read import rasters, statistics, targets
from swin_jax.data.read.decoding import Decoded, DecodeMapped
from swin_jax.data.read.targets import Target
from swin_jax.data.view import dense_views
from swin_jax.drawing import legend, value_pictures
from swin_jax.export import loader
from swin_jax.export.__main__ import main as export
from swin_jax.run import checks, evaluate, metrics, train
from swin_jax.run import config as run_config
from swin_jax.run.inputs import open_input
from swin_jax.show.__main__ import main as show
from swin_jax.tasks import pixel_regression
from swin_jax.terminal.errors import BadInput
from tests.support import runs, tiny
from tests.support.label_sets import files, jpeg, write
from tests.support.opened import open_source
from tests.support.prepared import main as run
from tests.support.rasters import scene, write_tif

PLACE = dict(crs="EPSG:32633", transform=rasterio.transform.from_origin(500000, 5400000, 30, 30))


def height_of(image):
  """Returns the quantity that the tests predict: 250 plus a tenth of the sum of two bands' waves."""
  return (250 + 0.1 * (image[..., :1] - 1000.0) + 0.1 * (image[..., 1:2] - 2000.0)).astype(np.float32)


def make_set(root, splits=("train", "val"), count=3, size=(40, 52), kind="values"):
  """Writes rasters of three bands, each with a height map that has a gap; the images have gaps elsewhere."""
  for split in splits:
    for i in range(count):
      image = scene(10 * len(split) + i, *size, bands=3)
      heights = height_of(image)
      image[2:6, 3:9] = -9999
      heights[20:30, 10:20] = -1
      write_tif(root / split / "images" / f"{i}.tif", image, nodata=-9999, **PLACE)
      write_tif(root / split / kind / f"{i}.tif", heights, nodata=-1, **PLACE)
  return root


def config(path, **changes):
  return tiny.config(
    **dict(
      task="pixel_regression",
      data__source="array_record",
      data__path=str(path),
      data__dtype="float32",
      data__mean=(),
      data__std=(),
      data__image_size=(16, 16),
      data__batch_size=8,
      data__eval_batch_size=8,
      model__patch_size=2,
      model__depths=(1, 1),
      model__drop_path_rate=0.0,
      model__num_heads=(2, 2),
      model__window_sizes=(4, 4),
      pixel_regression__channels=16,
      dense__sides=(),
      dense__eval_canvas=(40, 52),
      dense__scale_range=(1.0, 1.0),
      dense__photometric=False,
      augment__rotate=True,
    )
    | changes
  )


@pytest.fixture(scope="module", name="folder")
def _folder(tmp_path_factory):
  root = tmp_path_factory.mktemp("heights")
  make_set(root / "in")
  assert run(f"--source={root / 'in'}", f"--out={root / 'out'}", "--tile=20") == 0
  return root


def test_rasters_and_their_numbers_are_cut_alike(folder):
  source = open_source("array_record", str(folder / "out"), "train", Target.VALUES)
  assert len(source) == 3 * 2 * 2 and source.targets is Target.VALUES and source.num_classes == 0
  known = 0
  for i in range(len(source)):
    image, heights, _ = DecodeMapped(3, "float32")(source[i])
    assert heights.dtype == np.float32 and heights.shape == image.shape[:2] == (20, 26)
    has_value = ~np.isnan(heights)
    assert not np.isnan(image[has_value]).any()  # where the image has no data, no value is known
    np.testing.assert_allclose(heights[has_value], height_of(image)[..., 0][has_value], rtol=1e-5)
    known += has_value.sum()
  assert known == 3 * (40 * 52 - 4 * 6 - 10 * 10)


def test_statistics_of_values_are_numpys(folder):
  known = []
  for i in range(3):
    image, values = (
      rasters.read(str(folder / f"in/train/{kind}/{i}.tif"), "x.tif") for kind in ("images", "values")
    )
    known.append(values[..., 0][~np.isnan(values[..., 0]) & ~np.isnan(image).all(-1)].astype(np.float64))
  known = np.concatenate(known)
  values = statistics.read(str(folder / "out"))["values"]
  assert values["mean"] == pytest.approx([known.mean()]) and values["std"] == pytest.approx([known.std()])
  assert values["valid"] == [known.size] and values["p50"] == pytest.approx([np.median(known)], rel=1e-3)
  assert statistics.describe(str(folder / "out"))[-1].startswith("value")
  filled = run_config.with_statistics(config(folder / "out"))
  assert (
    filled.pixel_regression.value_mean == values["mean"][0]
    and filled.pixel_regression.value_std == values["std"][0]
  )
  said = config(folder / "out", pixel_regression__value_mean=1.0, pixel_regression__value_std=2.0)
  assert run_config.with_statistics(said).pixel_regression.value_mean == 1.0


@pytest.mark.parametrize("source", ["folder", "array_record"])
def test_photographs_with_sixteen_bits_of_depth(tmp_path, source, capsys):
  """Values may come in any raster format, here PNGs; the data is read directly or through `prepare`."""
  depth = np.random.default_rng(0).integers(0, 9000, (20, 30), np.uint16)
  out = io.BytesIO()
  Image.fromarray(depth).save(out, "PNG")
  path = write(
    tmp_path / "set",
    {f"{split}/images/1.jpg": jpeg(20, 30, 1) for split in ("train", "val")}
    | {f"{split}/values/1.png": out.getvalue() for split in ("train", "val")}
    | {"classes.txt": "of something else\n"},
  )
  if source == "array_record":
    assert run(f"--source={path}", f"--out={tmp_path / 'out'}") == 0
    path = str(tmp_path / "out")
    said = capsys.readouterr().out
    assert statistics.read(path)["values"]["mean"][0] == pytest.approx(depth.mean())
    assert (
      "one value per pixel" in said
      and f"--config=own_labels:regress --workdir=runs/own/values --config.data.path={path}\n" in said
    )
  records = open_source(source, path, "val", Target.VALUES)
  image, values, _ = DecodeMapped(3)(records[0])
  assert image.dtype == np.uint8 and values.dtype == np.float32
  np.testing.assert_array_equal(values, depth)


@pytest.mark.parametrize("tile", [0, 20])
def test_a_number_may_stand_for_nothing(folder, tmp_path, tile):
  """-7 marks missing values in the maps, as --values_nodata says, but is an ordinary number in the images.
  Each case uses one of the two ways of reading.
  """
  make_set(tmp_path / "in", splits=("train",), count=2)
  for i in range(2):
    image = scene(i, 40, 52, bands=3)
    image[30:35] = -7
    write_tif(tmp_path / f"in/train/images/{i}.tif", image)
    values = np.where(np.arange(52)[None, :, None] < 20, -7, height_of(image)).astype(np.float32)
    write_tif(tmp_path / f"in/train/values/{i}.tif", values)
  assert (
    run(f"--source={tmp_path / 'in'}", f"--out={tmp_path / 'out'}", f"--tile={tile}", "--values_nodata=-7")
    == 0
  )
  records = open_source("array_record", str(tmp_path / "out"), "train", Target.VALUES)
  maps = [DecodeMapped(3, "float32")(records[i]).target for i in range(len(records))]
  assert sum(np.isnan(values).sum() for values in maps) == 2 * 40 * 20
  assert statistics.read(str(tmp_path / "out"))["values"]["min"][0] > -1000 != -7
  with pytest.raises(BadInput, match="values_nodata"):
    writing.prepare(str(tmp_path / "in"), str(tmp_path / "out"), cut=tiles.Cut(tile))


def test_values_where_the_image_holds_no_data_are_not_measured(tmp_path):
  image = scene(0, 20, 20, bands=3)
  values = height_of(image)
  image[:10], values[:10] = -9999, 1e6
  write_tif(tmp_path / "in/train/images/1.tif", image, nodata=-9999)
  write_tif(tmp_path / "in/train/values/1.tif", values)
  assert run(f"--source={tmp_path / 'in'}", f"--out={tmp_path / 'out'}") == 0
  summary = statistics.read(str(tmp_path / "out"))["values"]
  assert summary["valid"] == [200] and summary["max"][0] < 1000


def test_shrunk_values_fit_their_images(tmp_path):
  values = np.arange(20 * 30, dtype=np.float32).reshape(20, 30, 1)
  write_tif(tmp_path / "set/train/values/1.tif", values)
  write(tmp_path / "set", {"train/images/1.jpg": jpeg(20, 30, 1)})
  assert run(f"--source={tmp_path / 'set'}", f"--out={tmp_path / 'out'}", "--short_side=10") == 0
  example = open_source("array_record", str(tmp_path / "out"), "train", Target.VALUES)[0]
  shrunk = targets.decode(example.target)
  assert shrunk.shape == (10, 15)
  np.testing.assert_allclose(
    shrunk[2:-2, 2:-2], values[..., 0].reshape(10, 2, 15, 2).mean((1, 3))[2:-2, 2:-2], rtol=1e-5
  )


def test_crops_hold_images_and_their_numbers():
  values = np.random.default_rng(0).normal(size=(40, 60)).astype(np.float32)
  values[5:9, 30:40] = np.nan
  view = dense_views.Augment((24, 24), (), (1.0, 1.0), 0.5, "bilinear", (0.0,), "value_map", rotate=True)
  for seed in range(8):
    crop = view(Decoded(values[..., None], values), np.random.default_rng(seed))
    assert crop["value_map"].dtype == np.float32
    np.testing.assert_array_equal(crop["image"][..., 0], crop["value_map"])
  small = dense_views.EvalView((50, 70), (), "bilinear", (0.0,), "value_map")(
    Decoded(values[..., None], values), None
  )
  assert np.isnan(small["value_map"][40:]).all() and np.isnan(small["value_map"][:, 60:]).all()
  np.testing.assert_array_equal(small["value_map"][:40, :60], values)


def test_the_loss_is_the_mean_over_pixels_that_are_known():
  scores = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 4, 1)), jnp.float32)
  target = np.random.default_rng(1).normal(size=(2, 4, 4)).astype(np.float32)
  target[1, :3] = np.nan
  expected = np.nanmean(np.abs(np.asarray(scores)[..., 0] - target))
  assert float(pixel_regression.known_l1(scores, jnp.asarray(target))) == pytest.approx(expected, rel=1e-6)
  gradient = np.asarray(jax.grad(pixel_regression.known_l1)(scores, jnp.asarray(target)))[..., 0]
  np.testing.assert_allclose(
    gradient[~np.isnan(target)],
    np.sign(np.asarray(scores)[..., 0] - target)[~np.isnan(target)] / 20,
    rtol=1e-6,
  )
  assert not gradient[np.isnan(target)].any()
  nothing = jnp.full((2, 4, 4), jnp.nan)
  assert float(pixel_regression.known_l1(scores, nothing)) == 0.0 and not np.any(
    jax.grad(pixel_regression.known_l1)(scores, nothing)
  )


def test_errors_by_hand():
  """In standard deviations of 10 m: three pixels are known, with errors of 1, -2 and 0."""
  predicted, target = jnp.asarray([[2.0, -1.0], [3.0, 5.0]]), jnp.asarray([[1.0, 1.0], [3.0, jnp.nan]])
  mean = metrics.Mean()
  mean.add(jax.device_get(pixel_regression.error_sums(predicted, target, 10.0)))
  assert mean.compute("") == pytest.approx(
    {
      "loss": 1.0,
      "mean_absolute_error": 10.0,
      "mean_squared_error": 500 / 3,
      "relative_squared_error": 5 / 11,
    }
  )


def test_colours_are_those_of_the_scales():
  pixels = jnp.full((1, 2, 2, 3), 0.5)
  truth = jnp.asarray([[[-5.0, 0.0], [5.0, jnp.nan]]])
  image, said, truth_view, errors = np.asarray(
    value_pictures.value_panels(pixels, jnp.asarray([[[-5.0, 1.0], [2.0, 0.0]]]), truth)
  )[0]
  nothing = np.asarray(value_pictures.value_panels(pixels, jnp.full((1, 2, 2), jnp.nan), truth))[0, 2]
  assert np.all(nothing == 51)
  # where no value is known
  assert np.all(image == 128) and said[1, 1].tolist() == errors[1, 1].tolist() == [51] * 3
  assert [said[0, 0].tolist(), said[0, 1].tolist(), said[1, 0].tolist()] == legend.HEAT[[0, 2, 4]].tolist()
  assert np.array_equal(truth_view[0, 0], said[0, 0]) and np.array_equal(truth_view[1, 1], said[0, 1])
  assert [errors[0, 0].tolist(), errors[0, 1].tolist(), errors[1, 0].tolist()] == legend.TOO_LOW_TOO_HIGH[
    [1, 2, 0]
  ].tolist()
  sheet = legend.with_scales(np.zeros((4, 400, 3), np.uint8), 250.0, 10.0)
  assert {(12, 10, 60), (255, 250, 170), (20, 60, 160), (170, 20, 30)} <= {
    tuple(colour) for colour in sheet.reshape(-1, 3)
  }
  assert legend.with_scales(np.zeros((4, 20, 3), np.uint8), 250.0, 10.0).shape[1] == 20  # too narrow for it


def test_mistakes_are_one_line(folder, tmp_path, capsys):
  values = str(folder / "out")
  for task, message in (
    (
      "segmentation",
      "holds no labels of pixels, but values: prepare it from a folder with SPLIT/images, SPLIT/labels",
    ),
    ("classification", "has values of pixels, not of images"),
  ):
    with pytest.raises(BadInput, match=message):
      open_input(run_config.with_statistics(config(values, task=task)))
  with pytest.raises(BadInput, match="data.source=digits has no values of pixels"):
    open_input(
      config("", data__source="digits", data__mean=(0.0,), data__std=(1.0,), pixel_regression__value_std=1.0)
    )
  labelled = write(tmp_path / "labelled", files() | {"classes.txt": "a\nb\nc\n"})
  with pytest.raises(
    BadInput, match="holds labels of pixels, and the task needs values: there must be train/values"
  ):
    open_source("folder", labelled, "train", Target.VALUES)
  assert run(f"--source={labelled}", f"--out={tmp_path / 'labels'}") == 0
  assert run(f"--out={tmp_path / 'labels'}") == 0  # also computes the statistics
  with pytest.raises(
    BadInput, match="holds no values of pixels: prepare it from a folder with SPLIT/images and SPLIT/values"
  ):
    run_config.with_statistics(config(tmp_path / "labels", data__dtype="uint8"))
  with pytest.raises(
    BadInput, match="value_std = 0 means the statistics.json .* --config.pixel_regression.value_mean=250"
  ):
    run_config.with_statistics(config("", data__source="folder", data__mean=(0.5,) * 3, data__std=(0.5,) * 3))
  with pytest.raises(BadInput, match="value_mean is given without value_std"):
    run_config.with_statistics(config(values, pixel_regression__value_mean=3.0))
  for changes, message in (
    (dict(pixel_regression__value_std=-1.0), "value_std = -1.0: must be 0, or at least"),
    (dict(pixel_regression__channels=24), "pixel_regression.channels = 24 must be a multiple of 16"),
  ):
    with pytest.raises(BadInput, match=message):
      checks.check(config(values, **dict(data__mean=(1.0,) * 3, data__std=(1.0,) * 3) | changes))
  both = write(tmp_path / "both", files() | {"classes.txt": "a\nb\nc\n", "train/values/1.png": jpeg(9, 9, 0)})
  with pytest.raises(
    BadInput, match="holds both labels and values, such as .*; prepare each from a separate"
  ):
    open_source("folder", both, "train", Target.VALUES)
  for where in (labelled, str(folder / "in/train/images")):
    capsys.readouterr()
    assert run(f"--source={where}", f"--out={tmp_path / 'none'}", "--values_nodata=0") == 2
    assert "--values_nodata applies to maps of numbers" in capsys.readouterr().err
  make_set(tmp_path / "elsewhere", splits=("train",), count=1)
  place = PLACE | dict(transform=rasterio.transform.from_origin(500300, 5400000, 30, 30))
  for kind, words in (("set", []), ("tiles", ["--tile=20"])):
    write_tif(tmp_path / "elsewhere/train/values/0.tif", np.zeros((40, 52, 1), np.float32), **place)
    assert run(f"--source={tmp_path / 'elsewhere'}", f"--out={tmp_path / kind}", *words) == 2
    assert "train/values/0.tif has another location on Earth than its image" in capsys.readouterr().err
  for name, array, message in (
    ("bands", np.zeros((40, 52, 2), np.float32), "values/0.tif has 2 bands, but must have one"),
    ("size", np.zeros((40, 51, 1), np.float32), "its map has 40 × 51 pixels, but the image has 40 × 52"),
    ("unknown", np.full((40, 52, 1), -1, np.float32), "no pixel has a known value"),
  ):
    make_set(tmp_path / name, splits=("train",), count=1)
    write_tif(tmp_path / name / "train/values/0.tif", array, nodata=-1)
    capsys.readouterr()
    assert run(f"--source={tmp_path / name}", f"--out={tmp_path / name}_out", "--tile=20") == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module", name="trained")
def _trained(folder, tmp_path_factory):
  """Trains on heights that the first two bands determine."""
  workdir = tmp_path_factory.mktemp("run")
  settings = config(
    folder / "out",
    optim__total_epochs=100.0,
    optim__warmup_epochs=5.0,
    optim__lr=0.4,
    checkpoint__every_epochs=100.0,
    log__eval_every_epochs=100.0,
    log__num_pictures=2,
  )
  return settings, workdir, train.train(settings, str(workdir))


@pytest.mark.slow
def test_a_run_learns_and_shows_it(trained):
  settings, workdir, evaluation = trained
  assert evaluation["eval/relative_squared_error"] < 0.35
  assert evaluation["eval/mean_absolute_error"] == pytest.approx(
    evaluation["eval/loss"] * stored(workdir)["value_std"]
  )
  assert runs.lines(workdir)[-1]["eval/mean_squared_error"] == evaluation["eval/mean_squared_error"]
  assert len(list(workdir.glob("pictures/regression-*.png"))) == 1
  assert evaluate.evaluate_checkpoint(settings, str(workdir)) == pytest.approx(evaluation, rel=1e-5)
  with pytest.raises(BadInput, match="pixel_regression.value_std"):
    changed = config(settings.data.path, pixel_regression__value_std=1.0)
    evaluate.evaluate_checkpoint(changed, str(workdir))
  with pytest.raises(
    BadInput, match="was trained for task=pixel_regression, but the config is for masked_pixels"
  ):
    evaluate.evaluate_checkpoint(
      config(settings.data.path, task="masked_pixels", mask__patch_size=2), str(workdir)
    )


@pytest.mark.slow
def test_its_own_units_are_those_of_its_training(trained, tmp_path):
  """On other data with other statistics, errors are in the units of the training data; several views are
  averaged; data without any known value is an error, not a silent end.
  """
  settings, workdir, evaluation = trained
  make_set(tmp_path / "in", splits=("train", "val"), count=1, size=(23, 31))
  assert run(f"--source={tmp_path / 'in'}", f"--out={tmp_path / 'out'}") == 0
  path = str(tmp_path / "out")
  assert statistics.read(path)["values"]["mean"][0] != stored(workdir)["value_mean"]
  values = evaluate.evaluate_checkpoint(config(path), str(workdir))
  assert values["eval/mean_absolute_error"] == pytest.approx(
    values["eval/loss"] * stored(workdir)["value_std"]
  )
  views = config(settings.data.path, dense__window=(16, 16), dense__mirrored=True, dense__scales=(1.0, 1.25))
  several = evaluate.evaluate_checkpoint(views, str(workdir))
  assert several != evaluation and several["eval/relative_squared_error"] < 0.6
  for split in ("train", "val"):
    write_tif(
      tmp_path / f"in/{split}/values/0.tif",
      np.full((23, 31, 1), -1, np.float32),
      nodata=-1 if split == "val" else None,
    )
  assert run(f"--source={tmp_path / 'in'}", f"--out={tmp_path / 'nothing'}") == 0
  with pytest.raises(BadInput, match="has nothing to score"):
    evaluate.evaluate_checkpoint(config(tmp_path / "nothing"), str(workdir))


@pytest.mark.slow
def test_it_starts_from_simmim_and_is_exported(folder, tmp_path):
  """Follows the config's whole path: pre-training on the images, transfer of the encoder, and an exported
  program that returns values in their own unit.
  """
  few = dict(
    optim__total_epochs=2.0,
    optim__warmup_epochs=1.0,
    checkpoint__every_epochs=2.0,
    log__eval_every_epochs=2.0,
    log__num_pictures=0,
  )
  train.train(
    config(folder / "out", task="masked_pixels", mask__patch_size=2, **few), str(tmp_path / "pretrain")
  )
  train.train(config(folder / "out", init_from=str(tmp_path / "pretrain"), **few), str(tmp_path / "run"))
  report = (tmp_path / "run/transfer.txt").read_text()
  assert "encoder/" in report
  assert export(["export", str(tmp_path / "run"), str(tmp_path / "program")]) == 0
  exported, about = loader.load(tmp_path / "program")
  assert about["export"]["outputs"][0]["name"] == "values"
  model, params = swin_jax.load(str(tmp_path / "run"))
  images = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)
  expected = model.apply(params, images)
  np.testing.assert_allclose(jax.tree.leaves(exported(images))[0], expected, rtol=1e-5)
  assert (
    np.abs(np.mean(expected) - stored(tmp_path / "run")["value_mean"])
    < 5 * stored(tmp_path / "run")["value_std"]
  )


def stored(workdir):
  return json.loads((pathlib.Path(workdir) / "config.json").read_text())["pixel_regression"]


@pytest.mark.slow
def test_what_it_says_is_written_in_its_place(trained, folder, tmp_path, capsys):
  """The files that `show` writes have the errors that the evaluation reports, in the values' unit and at
  their size.
  """
  _, workdir, _ = trained
  images, values = folder / "in/val/images", folder / "in/val/values"
  words = [
    "show",
    "regress",
    str(workdir),
    str(images),
    f"--out={tmp_path / 'out'}",
    f"--maps={tmp_path / 'maps'}",
  ]
  assert show([*words, f"--values={values}"]) == 0
  assert len(list((tmp_path / "out").glob("*-regress.png"))) == 3
  model, params = swin_jax.load(str(workdir))
  for i in range(3):
    with rasterio.open(tmp_path / f"maps/{i}.tif") as file:
      assert (
        file.crs == rasterio.CRS.from_string(PLACE["crs"])
        and file.transform == PLACE["transform"]
        and np.isnan(file.nodata)
      )
      said = file.read(1)
    image, truth = (rasters.read(str(where / f"{i}.tif"), "x.tif") for where in (images, values))
    assert np.array_equal(np.isnan(said), np.isnan(image).all(-1))
    whole = np.asarray(model.apply(params, model.normalise(image)[None]))[0, ..., 0]
    assert said.shape == (40, 52) and whole.shape == (20, 26)
    assert np.nanmean(np.abs(said - truth[..., 0])) < 0.7 * np.nanstd(truth)
    assert np.abs(np.nanmean(said) - whole.mean()) < 1.0
  assert not (tmp_path / "maps/classes.txt").exists()
  assert show(words) == 0  # without the truth, into the same folders: nothing is overwritten
  assert (
    len(list((tmp_path / "out").glob("*.png"))) == 6 and len(list((tmp_path / "maps").glob("*.tif"))) == 6
  )
  capsys.readouterr()
  assert show(["show", "segment", str(workdir), str(images), f"--out={tmp_path / 'out'}"]) == 2
  assert (
    "is a model of task=pixel_regression; `show segment` is for task=segmentation" in capsys.readouterr().err
  )
  assert show(["show", "regress", str(workdir), str(tmp_path / "a.zip"), f"--out={tmp_path / 'out'}"]) == 2
  (tmp_path / "a.zip").write_bytes(b"")
  assert show(["show", "regress", str(workdir), str(tmp_path / "a.zip"), f"--out={tmp_path / 'out'}"]) == 2
  assert "a.zip is a zip; unpack it" in capsys.readouterr().err
  write_tif(
    tmp_path / "elsewhere/0.tif",
    np.zeros((40, 52, 1), np.float32),
    crs="EPSG:4326",
    transform=PLACE["transform"],
  )
  assert (
    show(
      [
        "show",
        "regress",
        str(workdir),
        str(images / "0.tif"),
        f"--out={tmp_path / 'out'}",
        f"--values={tmp_path / 'elsewhere'}",
      ]
    )
    == 2
  )
  assert "has another location on Earth than its image" in capsys.readouterr().err
  assert show([*words, f"--values={tmp_path / 'nowhere'}"]) == 2
  assert "--values=" in capsys.readouterr().err
