"""Descriptions of models, in config.json: whatever is wrong in one is one line."""

import json
import os
import pathlib

import pytest

import swin_jax
from swin_jax.saved import description
from swin_jax.saved import folder as folders
from swin_jax.tasks import KINDS
from swin_jax.terminal.errors import BadInput
from tests.support import damages, edits, tiny
from tests.support.folders import imported


def described(task="classification"):
  heads = dict(segmentation__channels=32, segmentation__num_classes=3, pixel_regression__channels=32)
  config = tiny.config(task=task, pixel_regression__value_std=2.0, dense__eval_canvas=(32, 32), **heads)
  return json.loads(json.dumps(description.describe(config.to_dict(), "a run")))


@pytest.mark.parametrize("task", KINDS)
def test_every_edit_is_described_or_refused_in_one_line(task):
  """Nothing else is raised, and what is described is a model."""
  config, accepted = described(task), []
  for path, value, changed in edits.edited(config):
    try:
      accepted.append((path, value, description.describe(changed, "a folder")))
    except BadInput as error:
      assert "\n" not in str(error) and len(str(error)) < 500, (path, value)
      assert str(error).startswith("the config of a folder ")
  assert 10 < len(accepted) < 120 and ("task",) not in [path for path, *_ in accepted]
  for path, value, other in accepted[::12]:
    assert description.parameter_shapes(other), (path, value)


@pytest.mark.parametrize(
  "group, key, value, message",
  [
    ("model", "depths", "2,2", "model.depths = '2,2': must be a tuple or list of 1 to 8 entries"),
    ("model", "depths", [2, 1, 1], "contradicts itself: model.num_heads"),
    ("model", "embed_dim", -16, "model.embed_dim = -16: must be at least 1"),
    ("model", "num_heads", [3, 4], r"contradicts itself: model.num_heads\[0\] = 3 does not divide"),
    ("model", "padding", "none", "model.padding = 'none': choose one of"),
    ("model", "clamp_windows", 1, "model.clamp_windows = 1: choose one of"),
    ("model", "backbone", "vit", "model.backbone = 'vit': choose one of"),
    ("model", "window_sizes", [4, [4, 4, 4]], "contradicts itself: model.window_sizes"),
    ("data", "image_size", [65536, 65536], "contradicts itself: data.image_size"),
    ("data", "mean", [], "contradicts itself: data.mean"),
    ("data", "std", [0.0], "data.std = .*entry 0 must be at least"),
    ("data", "std", [float("nan")], "data.std = .*entry 0 must be at least"),
    ("data", "class_names", [1], "data.class_names = .*entry 0 must be text"),
    ("segmentation", "channels", 47, "contradicts itself: config.segmentation.channels = 47"),
    ("segmentation", "num_classes", None, "segmentation.num_classes = None: must be an integer"),
    ("dense", "window", [8], r"dense.window = \[8\]: must have 0 or 2 entries, not 1"),
  ],
)
def test_a_wrong_value_is_named(group, key, value, message):
  config = described("segmentation")
  config[group][key] = value
  with pytest.raises(BadInput, match=f"the config of x .*{message}"):
    description.describe(config, "x")


def test_keys_that_no_weights_need_are_not_checked():
  """An older version may have allowed another value of them."""
  config = described()
  config["model"] |= {"remat": "everything", "attention_kernel": "pallas"}
  config["optim"] = {"lr": "fast"}
  assert description.describe(config, "x") == described()


def not_a_number(path):
  path.write_text(path.read_text().replace("0.485", "NaN"))


def latin(path):
  path.write_bytes(path.read_bytes().replace(b"swin", b"sw\xefn"))


def deep(path):
  path.write_text("[" * 100_000)


def of_another_program(path):
  path.write_text('{"model_type": "swin"}')


@pytest.mark.parametrize(
  "damage, message",
  [
    (damages.remove, "cannot be read: No such file"),
    (damages.folder, "cannot be read: it is a folder"),
    (damages.pipe, "cannot be read: it is not a regular file"),
    (damages.dangle, "cannot be read: No such file"),
    (not_a_number, "is damaged: it is not valid JSON .it holds NaN"),
    (latin, "is damaged: it is not UTF-8"),
    (deep, "is damaged: it is not valid JSON, but nested too deeply"),
    (of_another_program, "but a model of swin_jax itself: use it with its own config.json"),
  ],
)
def test_a_model_folder_without_a_readable_config_is_one_line(model, damage, message):
  damage(model / folders.CONFIG)
  with pytest.raises(BadInput, match=message) as caught:
    swin_jax.load(model)
  assert "\n" not in str(caught.value) and folders.CONFIG in str(caught.value)


def test_a_model_folder_without_weights_names_them(model):
  (model / folders.WEIGHTS).unlink()
  with pytest.raises(BadInput, match="holds no checkpoint and no model.safetensors, only config.json"):
    swin_jax.load(model)


@pytest.fixture
def model(tmp_path):
  return pathlib.Path(imported(tmp_path))


@pytest.mark.parametrize("path", ["absent", "file", "nowhere", "pipe", "a" * 5000, "nul\0l"])
def test_what_is_no_model_is_one_line(tmp_path, path):
  (tmp_path / "file").touch()
  (tmp_path / "nowhere").symlink_to("absent")
  os.mkfifo(tmp_path / "pipe")
  with pytest.raises(BadInput) as caught:
    swin_jax.load(str(tmp_path / path))
  assert "\n" not in str(caught.value)
