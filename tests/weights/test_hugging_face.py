"""Queries, keys and values: three tensors at Hugging Face, consecutive rows of one tensor in the official
code.
"""

import numpy as np
import pytest
from safetensors.numpy import load_file

from swin_jax.saved import tensors
from swin_jax.weights import importer, inference, layouts
from tests.support import official
from tests.support.folders import TINY, command, save

pytestmark = pytest.mark.every_python

PARTS = ("query", "key", "value")
ATTENTION = "encoder.layers.1.blocks.3.attention.self"


def official_state(version):
  return official.random(official.state_dict(version, **TINY))


def parts(state, leaf):
  """Returns queries, keys and values of one block."""
  return dict(zip(PARTS, np.split(state[f"layers.1.blocks.3.attn.qkv.{leaf}"], 3), strict=True))


def hugging_face(state, version):
  """Returns the state under Hugging Face's names."""
  layout, named = layouts.make("hf", version, 2), {}
  for name, value in state.items():
    head, attention, leaf = name.partition(".attn.qkv.")
    if not attention:
      named[layout.spell(name)[0]] = value
    for part, rows in zip(PARTS, np.split(value, 3), strict=True) if attention else ():
      named[f"{layout.encoder}encoder.{head}.attention.self.{part}.{leaf}"] = rows
  return named


def plan(path):
  return importer.plan(tensors.open_tensors(str(path)), inference.Hints())


@pytest.mark.parametrize("version", [1, 2])
def test_they_come_in_as_those_of_the_official_code(version, tmp_path):
  state = official_state(version)
  ours = plan(save(tmp_path / "official.safetensors", state))
  theirs = plan(save(tmp_path / "hf.safetensors", hugging_face(state, version)))
  assert theirs.layout.name == "hf" and ours.shapes == theirs.shapes
  for path in ours.shapes:
    np.testing.assert_array_equal(theirs.read(path), ours.read(path), err_msg=path)


@pytest.mark.parametrize("version", [1, 2])
def test_they_go_out_by_their_names(version, tmp_path):
  state = official_state(version)
  path = save(tmp_path / "official.safetensors", state)
  assert command("import", path, tmp_path / "ours") == 0
  assert command("export", tmp_path / "ours", tmp_path / "hf/model.safetensors", "--layout=hf") == 0
  written = load_file(tmp_path / "hf/model.safetensors")
  prefix = layouts.make("hf", version, 2).encoder + ATTENTION
  for part, value in parts(state, "weight").items():
    np.testing.assert_array_equal(written[f"{prefix}.{part}.weight"], value)
