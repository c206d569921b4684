"""Runs whose model is that of the weights they start from (`model_of_source`)."""

import json
import shutil

import numpy as np
from PIL import Image
import pytest

from configs import own_images, own_labels, own_rasters
from swin_jax.run import evaluate, reads, source_model, train
from swin_jax.saved import description, folder
from swin_jax.terminal import preemption
from swin_jax.terminal.errors import BadInput, Preempted
from tests.support import prepared, tiny
from tests.support.folders import imported
from tests.support.runs import assert_same, lines, saved

OTHER = dict(embed_dim=16, depths=(2, 2), num_heads=(4, 8))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
  """A model folder of another architecture than that of `tiny.config`, for images of one band."""
  return imported(tmp_path_factory.mktemp("source"), bands=1, **OTHER)


def config(source, steps=4, **changes):
  c = tiny.config("finetune", init_from=source, model_of_source=True, **changes)
  c.optim.update(total_epochs=steps / 89, warmup_epochs=0.0)
  c.checkpoint.every_epochs = 2 / 89
  return c


def described(path):
  saved = folder.open_saved(path)
  return description.describe(saved.config, saved.source)


@pytest.fixture(scope="module")
def finished(source, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("finished")
  train.train(config(source), str(workdir))
  return workdir


def test_the_config_of_the_run_holds_what_was_taken(source, finished):
  stored, theirs = json.loads((finished / "config.json").read_text()), described(source)
  for key, value in theirs["model"].items():
    assert stored["model"][key] == value, key
  assert [stored["model"]["drop_path_rate"], stored["model"]["dtype"]] == [0.1, "float32"]
  for key in ("image_size", "mean", "std", "dtype"):
    assert stored["data"][key] == theirs["data"][key], key


def test_the_start_says_what_is_taken_and_what_is_still_read(source, tmp_path, capsys):
  train.train(config(source, steps=1), str(tmp_path))
  said = capsys.readouterr().out
  assert f"the model is that of {source}: Swin V2, width 16, blocks 2, 2, heads 4, 8" in said
  assert "images of 32 × 32 px, 1 band normalised as there; of config.model it reads only" in said
  only = said.partition("reads only ")[2].splitlines()[0].split(", ")
  assert {"drop_path_rate", "dtype", "remat"} <= set(only) and "embed_dim" not in only


def test_a_run_continues_without_its_source_bit_for_bit(source, finished, tmp_path, monkeypatch):
  moved = shutil.copytree(source, tmp_path / "moved")
  with monkeypatch.context() as patch, pytest.raises(Preempted):
    asked = iter([False] * 3)
    patch.setattr(preemption, "requested", lambda: next(asked, True))
    train.train(config(str(moved)), str(tmp_path / "run"))
  shutil.rmtree(moved)
  train.train(config(str(moved)), str(tmp_path / "run"))
  assert_same(saved(tmp_path / "run", 4), saved(finished, 4))
  assert lines(tmp_path / "run") == lines(finished)


def test_a_run_is_evaluated_with_a_config_that_takes_its_model(source, finished):
  values = evaluate.evaluate_checkpoint(config(source), str(finished))
  assert values == pytest.approx({name: lines(finished)[-1][name] for name in values}, rel=1e-5)


def test_a_run_of_this_program_is_a_source_too(finished):
  c = source_model.with_model(config(str(finished)))
  assert c.model.embed_dim == 16 and c.model.depths == (2, 2)


def test_flags_win_over_what_is_not_fixed_by_the_weights(source):
  given = ("data.image_size", "model.window_sizes", "data.mean", "data.std")
  c = config(source, data__image_size=(48, 48), data__mean=(0.1,), data__std=(0.2,))
  c.model.window_sizes = (4, 4)
  taken = source_model.with_model(c, given)
  assert taken.data.image_size == (48, 48) and taken.model.window_sizes == (4, 4)
  assert (taken.data.mean, taken.data.std, taken.model.depths) == ((0.1,), (0.2,), (2, 2))


@pytest.mark.parametrize("key", ["model.embed_dim", "model.depths[0]", "model.padding", "model.backbone"])
def test_a_flag_for_the_architecture_is_refused(source, key):
  with pytest.raises(BadInput, match=f"--config.{key.partition('[')[0]}.* has no effect: .*init_from"):
    reads.check_flags(config(source), [key])
  reads.check_flags(tiny.config("finetune"), [key])


def test_without_weights_there_is_no_model(tmp_path):
  with pytest.raises(BadInput, match="--config.init_from is missing"):
    train.train(config(""), str(tmp_path / "run"))
  with pytest.raises(BadInput, match="config.init_from: .*holds no checkpoint.*model folder$"):
    train.train(config(str(tmp_path / "nothing")), str(tmp_path / "run"))
  assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
  """A prepared set of colour images, with statistics."""
  path = tmp_path_factory.mktemp("colours")
  for split in ("train", "val"):
    for name in ("a", "b"):
      for i in range(3):
        file = path / "images" / split / name / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 40, 3), 10 * i, np.uint8)).save(file)
  prepared.run(path / "images", path / "set")
  assert prepared.main(f"--out={path / 'set'}") == 0
  return str(path / "set")


@pytest.mark.parametrize(
  "recipe, bands, takes",
  [
    (own_images.get_config("from_public,cpu"), 3, True),
    (own_images.get_config("from_public,cpu"), 1, True),  # grey and RGB are converted into each other
    (own_images.get_config("from_public,cpu"), 5, False),
    (own_rasters.get_config("from_public,cpu"), 3, True),  # the set holds uint8, so they are read as uint8
    (own_rasters.get_config("from_public,cpu"), 5, False),
  ],
)
def test_the_normalisation_is_taken_where_the_data_can_have_it(tmp_path, colours, recipe, bands, takes):
  c = recipe.copy_and_resolve_references()
  c.data.path, c.init_from = colours, imported(tmp_path, bands=bands, **OTHER)
  taken, theirs = source_model.with_model(c), described(c.init_from)
  assert taken.data.image_size == (32, 32)
  if takes:
    assert [taken.data.dtype, *taken.data.mean] == [theirs["data"]["dtype"], *theirs["data"]["mean"]]
  else:
    assert (taken.data.dtype, taken.data.mean) == (c.data.dtype, c.data.mean)


def test_weights_of_8_bits_do_not_normalise_other_numbers(tmp_path, colours, monkeypatch):
  c = own_rasters.get_config("from_public,cpu")
  c.data.path, c.init_from = colours, imported(tmp_path, bands=3, **OTHER)
  measured = source_model.statistics.read(colours)
  monkeypatch.setattr(source_model.statistics, "read", lambda path: measured | {"dtype": "uint16"})
  assert source_model.with_model(c).data.mean == ()


@pytest.mark.parametrize("name", ["from_public,cpu", "from_public"])
def test_a_dense_task_keeps_its_crop_and_takes_the_encoder(source, name):
  c = own_labels.get_config(name)
  crop, c.init_from = c.data.image_size, source
  taken = source_model.with_model(c)
  assert taken.data.image_size == crop and taken.model.depths == (2, 2)


def test_the_head_has_the_width_of_that_of_the_same_task(source, tmp_path):
  """The weights of another task do not change it."""
  trained = described(source)
  dense = {"sides": [64, 64], "eval_canvas": [64, 64], "window": []}
  other = trained | {
    "task": "segmentation",
    "segmentation": {"num_classes": 3, "channels": 48},
    "dense": dense,
  }
  other["augment"] = {"interpolation": "bilinear"}
  c = own_labels.get_config("from_public")
  assert source_model.adopt(c, other, "x").segmentation.channels == 48
  assert source_model.adopt(c, trained, "x").segmentation.channels == 512
  assert source_model.adopt(c, other, "x", ["segmentation.channels"]).segmentation.channels == 512
  assert source_model.adopt(c, other, "x").segmentation.num_classes == 0
