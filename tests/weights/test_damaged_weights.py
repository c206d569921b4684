"""Files of others whose tensors or settings make no sense end in one line; our own bugs do not."""

import json

import numpy as np
import pytest

from swin_jax.saved import tensors
from swin_jax.terminal.errors import BadInput
from swin_jax.weights import importer, inference
from tests.support import official
from tests.support.folders import TINY, command, refusal, save

TABLE = "layers.0.blocks.0.attn.relative_coords_table"
SHAPES = [
  ("patch_embed.proj.weight", ()),
  ("patch_embed.proj.weight", (16,)),
  ("patch_embed.proj.weight", (0, 3, 4, 4)),
  ("patch_embed.proj.weight", (16, 3, 0, 0)),
  ("layers.0.blocks.0.attn.logit_scale", ()),
  ("layers.0.blocks.0.mlp.fc1.weight", ()),
  ("head.weight", ()),
  (TABLE, ()),
  (TABLE, (0, 7, 7, 2)),
  (TABLE, (1, 8, 8, 2)),
  (TABLE, (1, 7, 7, 1)),
  (TABLE, (1, 7, 7, 2, 1)),
]
OF_V1 = "layers.1.blocks.0.attn.relative_position_bias_table"


def state_of(version=2):
  return official.random(official.state_dict(version, **TINY))


def refused(state, tmp_path, **hints):
  path = save(tmp_path / "x.safetensors", state)
  with pytest.raises(BadInput) as error:
    importer.plan(tensors.open_tensors(str(path)), inference.Hints(**hints))
  return str(error.value)


@pytest.mark.parametrize("name, shape", SHAPES)
def test_a_tensor_of_an_impossible_shape_is_named(name, shape, tmp_path):
  said = refused(state_of() | {name: np.ones(shape, np.float32)}, tmp_path)
  assert f"is not a known form of Swin: its {name} has shape {list(shape)}" in said


@pytest.mark.parametrize("shape", [(), (49,), (0, 4)])
def test_a_bias_table_of_an_impossible_shape_is_named(shape, tmp_path):
  said = refused(state_of(1) | {OF_V1: np.ones(shape, np.float32)}, tmp_path, image_size=32)
  assert f"is not a known form of Swin: its {OF_V1} has shape {list(shape)}" in said


@pytest.mark.parametrize("largest", [0, -1, 1e-20, 1e30, np.inf, -np.inf, np.nan])
def test_offsets_of_no_window_are_refused(largest, tmp_path):
  said = refused(state_of() | {TABLE: np.full((1, 7, 7, 2), largest, np.float32)}, tmp_path)
  assert "does not follow" in said or "trained_window" in said


def test_a_mask_of_no_window_says_nothing_of_the_image(tmp_path):
  mask = {"layers.0.blocks.1.attn_mask": np.ones((0, 16, 16), np.float32)}
  assert "does not say its image size" in refused(state_of() | mask, tmp_path)


@pytest.mark.parametrize("part", ["blocks.{}.x", "downsample.{}.x"])
@pytest.mark.parametrize("number", ["9" * 5000, str(10**8)], ids=["no number", "many"])
def test_a_name_with_a_long_number_is_refused(part, number, tmp_path):
  name = f"layers.{number}." + part.format(number)
  refused(state_of() | {name: np.zeros(1, np.float32)}, tmp_path)


@pytest.mark.parametrize(
  "settings, said",
  [
    (dict(model_type="swinv2", image_size=[[1, 2], [3, 4]], window_size=4), "--image_size must be a number"),
    (dict(model_type="swinv2", image_size=32, window_size=[[4, 4, 4], 4]), "--window must be one number"),
    (dict(architecture="swinv2_x_window0_32"), "does not say its image size"),
    (dict(architecture="swinv2_x_window4to8_0"), "does not say its image size"),
    (dict(architecture=f"swinv2_x_window{'9' * 5000}_32"), "does not say its image size"),
  ],
)
def test_settings_next_to_a_file_are_not_believed(settings, said, tmp_path):
  state = official.random(official.state_dict(2, **TINY, buffers=False))
  (tmp_path / "config.json").write_text(json.dumps(settings))
  assert said in refused(state, tmp_path)


def test_a_refused_file_leaves_nothing_behind(tmp_path, capsys):
  path = save(tmp_path / "x.safetensors", state_of() | {TABLE: np.ones((1, 8, 8, 2), np.float32)})
  assert f"its {TABLE} has shape [1, 8, 8, 2]" in refusal(capsys, "import", path, tmp_path / "ours")
  assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("bug", [IndexError, ValueError, TypeError, ZeroDivisionError])
def test_a_bug_of_ours_keeps_its_traceback(bug, tmp_path, monkeypatch, capsys):
  def wrong(*_):
    raise bug("a bug")

  monkeypatch.setattr(inference, "infer", wrong)
  assert command("import", save(tmp_path / "x.safetensors", state_of()), tmp_path / "ours") == 1
  assert "Traceback" in capsys.readouterr().err
