"""Classes go by name: in evaluation, prediction and fine-tuning on data with other or fewer classes."""

import csv
import json
import shutil

import numpy as np
from PIL import Image
import pytest

import swin_jax
from swin_jax.data.read import class_names
from swin_jax.run import evaluate, predict, train
from swin_jax.saved import class_rows
from swin_jax.terminal.errors import BadInput
from tests.support import seals, tiny
from tests.support.folders import command
from tests.support.prepared import run as prepare

GREY = dict(cat=40, dog=200, zebra=120, owl=90)  # each class is one shade, which a tiny model learns at once


def folder(root, **splits):
  """Writes root/SPLIT/CLASS/N.png: for each split, the number of images by class; class "" is no folder."""
  for split, counts in splits.items():
    for name, count in counts.items():
      for i in range(count):
        path = root / split / name / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).normal(GREY.get(name, GREY["dog"]), 10, (32, 32))
        Image.fromarray(np.uint8(np.clip(pixels, 0, 255))).save(path)
  return root


def config(path, **changes):
  steps = 40
  return tiny.config(
    "finetune",
    data__source=changes.pop("data__source", "folder"),
    data__path=str(path),
    data__batch_size=8,
    data__eval_batch_size=4,
    optim__total_epochs=steps / 4,
    optim__warmup_epochs=1.0,
    optim__lr=0.1,
    optim__ema_decay=0.0,
    checkpoint__every_epochs=1000.0,
    log__eval_every_epochs=1000.0,
    **changes,
  )


@pytest.fixture(scope="module", name="cat_dog")
def _cat_dog(tmp_path_factory):
  """Returns the workdir of a model that tells cats from dogs."""
  root = tmp_path_factory.mktemp("cat_dog")
  data = folder(root / "data", train=dict(cat=16, dog=16), val=dict(cat=4, dog=4))
  assert train.train(config(data), str(root / "run"))["eval/top1"] == 1
  return root / "run"


@pytest.mark.parametrize("prepared", [False, True])
def test_the_reported_sets(cat_dog, prepared, tmp_path, capsys):
  """A folder of dogs alone, and one of dogs and zebras, which the model does not know."""
  for name, counts in (("dog_only", dict(dog=6)), ("dog_zebra", dict(dog=6, zebra=6))):
    source, kind = folder(tmp_path / name, val=counts), "folder"
    if prepared:
      prepare(source, tmp_path / f"{name}_set")
      source, kind = tmp_path / f"{name}_set", "array_record"
    values = evaluate.evaluate_checkpoint(config(source, data__source=kind), str(cat_dog))
    assert values["eval/top1"] == 1
    said = capsys.readouterr().out
    assert f"classes by name: 1 of {len(counts)} of the data are known to {cat_dog}, step 40 (2)" in said
    unknown = f"not known to {cat_dog}, step 40: zebra; their 6 of 12 images are left out of the evaluation"
    assert (unknown in said) == ("zebra" in counts)


def test_another_order_of_classes(cat_dog, tmp_path):
  """Numbered by the data, dog would be class 0 and all would be wrong."""
  data = folder(tmp_path / "data", val=dict(cat=4, dog=4, antelope=2))
  assert evaluate.evaluate_checkpoint(config(data), str(cat_dog))["eval/top1"] == 1


def test_images_of_unknown_classes_count_nowhere(cat_dog, tmp_path):
  known = folder(tmp_path / "known", val=dict(cat=5, dog=4))
  mixed = folder(tmp_path / "mixed", val=dict(cat=5, dog=4, antelope=3, zebra=7))
  values = [evaluate.evaluate_checkpoint(config(data), str(cat_dog)) for data in (known, mixed)]
  assert values[0].keys() == values[1].keys() >= {"eval/auroc", "eval/loss"}
  for name, value in values[0].items():
    np.testing.assert_allclose(values[1][name], value, rtol=1e-5, err_msg=name)


def test_data_without_a_common_class_or_without_labels_is_refused(cat_dog, tmp_path):
  for name, counts, message in (
    ("other", dict(owl=2, zebra=2), r"none of the classes of the evaluation data \(owl, zebra\) is one of"),
    ("bare", {"": 3}, "has no labels .* nothing to score: .* --mode=predict"),
  ):
    with pytest.raises(BadInput, match=message):
      evaluate.evaluate_checkpoint(config(folder(tmp_path / name, val=counts)), str(cat_dog))


def test_a_split_whose_images_are_all_unknown_is_refused(cat_dog, tmp_path):
  data = folder(tmp_path / "data", val=dict(zebra=2), test=dict(dog=2))
  with pytest.raises(BadInput, match="all 2 images .* are of classes that .* does not know: zebra"):
    evaluate.evaluate_checkpoint(config(data), str(cat_dog))


def without_names(workdir, path):
  assert command("adapt", workdir, path) == 0
  seals.edit(path / "config.json", lambda config: config["data"].update(class_names=[]))
  return path


def test_a_model_without_names_goes_by_number(cat_dog, tmp_path, capsys):
  model = without_names(cat_dog, tmp_path / "model")
  data = folder(tmp_path / "data", val=dict(cat=4, dog=4))
  assert evaluate.evaluate_checkpoint(config(data), str(model))["eval/top1"] == 1
  assert f"classes by number: {model} has no names of classes" in capsys.readouterr().out
  with pytest.raises(BadInput, match="2 classes without names, .* but the data has 1: .*class_map"):
    evaluate.evaluate_checkpoint(config(folder(tmp_path / "dogs", val=dict(dog=4))), str(model))


# Prediction.


def table(path):
  with path.open() as file:
    return list(csv.DictReader(file))


@pytest.mark.parametrize("counts", [{"": 9}, dict(zebra=2, dog=3)])
def test_any_split_can_be_predicted(cat_dog, counts, tmp_path, capsys):
  model = tmp_path / "run"
  shutil.copytree(cat_dog, model)
  data = folder(tmp_path / "data", train=dict(cat=2, dog=2), test=counts)
  (data / "test" / next(iter(counts)) / "01.png").write_bytes(b"no image")
  written = predict.predict(config(data, data__eval_split="test", data__max_bad_fraction=0.5), str(model))
  rows = table(written)
  assert written == model / "predictions-test.csv" and len(rows) == sum(counts.values()) - 1
  names = sorted(f"test/{name}/{i:02}.png" for name, n in counts.items() for i in range(n))
  names = [name.replace("//", "/") for name in names if not name.endswith(f"{next(iter(counts))}/01.png")]
  assert sorted(row["name"] for row in rows) == names
  assert all(row["prediction"] == "dog" for row in rows if "zebra" not in row["name"])
  assert all(0.5 <= float(row["probability"]) <= 1 for row in rows)
  assert "; 1 unreadable images are left out" in capsys.readouterr().out


def test_what_cannot_be_predicted_is_refused(cat_dog, tmp_path):
  data = folder(tmp_path / "data", val={"": 2})
  for changes, message in (
    (dict(task="segmentation"), "swin_jax.show segment"),
    (dict(task="masked_pixels"), "predicts no classes"),
    (dict(transfer__class_map="map.txt"), "leave out config.transfer.class_map"),
  ):
    with pytest.raises(BadInput, match=message):
      predict.predict(config(data, **changes), str(cat_dog))


# Fine-tuning.


@pytest.mark.parametrize(
  "counts", [dict(dog=8, zebra=8), dict(antelope=6, cat=6, dog=6), dict(owl=8, zebra=8)]
)
def test_a_head_is_transferred_by_name(cat_dog, counts, tmp_path):
  data = folder(tmp_path / "data", train=counts, val=counts)
  c = config(data, init_from=str(cat_dog))
  c.optim.update(lr=0.0, warmup_lr=0.0, total_epochs=1.0)  # the parameters stay as they are transferred
  train.train(c, str(tmp_path / "run"))
  (ours, new), (theirs, old) = swin_jax.load(tmp_path / "run"), swin_jax.load(cat_dog)
  report = (tmp_path / "run" / "transfer.txt").read_text()
  common = set(ours.class_names) & set(theirs.class_names)
  for name in common:
    i, j = ours.class_names.index(name), theirs.class_names.index(name)
    np.testing.assert_array_equal(new["head"]["kernel"][:, i], old["head"]["kernel"][:, j])
    np.testing.assert_array_equal(new["head"]["bias"][i], old["head"]["bias"][j])
  for name in set(ours.class_names) - common:
    column = np.asarray(new["head"]["kernel"][:, ours.class_names.index(name)])
    assert column.std() > 0 and not (column[:, None] == np.asarray(old["head"]["kernel"])).any()
  label = f", {len(common)} of {len(counts)} classes by name"
  assert (label in report) == bool(common) and ("fresh    head/kernel" in report) == (not common)


def test_evaluation_data_of_a_run_goes_by_name(tmp_path, capsys):
  """The splits of one folder share their numbers, but those of separate files need not."""
  for split, counts in (("train", dict(cat=16, dog=16)), ("val", dict(dog=4, owl=4))):
    prepare(folder(tmp_path / f"{split}_images", **{split: counts}), tmp_path / split)
    shutil.copytree(tmp_path / split, tmp_path / "set", dirs_exist_ok=True)
  (tmp_path / "set" / "manifest.json").unlink()
  c = config(tmp_path / "set", data__source="array_record")
  assert train.train(c, str(tmp_path / "run"))["eval/top1"] == 1
  assert "not known to the training data: owl; their 4 of 8 images are left out" in capsys.readouterr().out
  assert json.loads((tmp_path / "run" / "config.json").read_text())["data"]["class_names"] == ["cat", "dog"]


def test_names_that_occur_twice_match_in_order():
  names = ("crane", "maillot", "crane")
  assert class_names.match(("crane", "crane", "crane", "fox"), names) == (0, 2, -1, -1)


def test_rows_that_do_not_fit_are_refused():
  rows = class_rows.Rows(np.array([0, 5]), "", "map.txt")
  with pytest.raises(BadInput, match="names class 5, but the saved head has classes 0 to 4"):
    rows.check(5, 2)
  with pytest.raises(BadInput, match="map.txt has 2 classes, but the model has 3"):
    rows.check(6, 3)
