"""Models of clips give the numbers of the official video code and of torchvision on random weights, within
2e-5 of the largest value of each tensor.
"""

import functools
import json
import re

import flax
import jax
import numpy as np
import pytest
import safetensors.numpy

from swin_jax.models.heads import Classifier
from swin_jax.models.swin import make_encoder, official
from tests.support.golden import golden

EXACT = "video_v1_window2x4x4_clip8x128"  # no padding, and clamping has no effect
FOREIGN = (
  "video_v1_window8x7x7_clip8x112",
  "video_v1_window4x7x7_clip11x50x70",
  "torchvision_window4x4x4_clip16x64",
  "torchvision_window4x7x7_clip11x50x70",
)
AS_THERE = dict(padding="attended", bias_rows="first")


def official_name(name):
  """Returns the name in the official image code of a tensor of the video code or of torchvision."""
  name = name.removeprefix("backbone.").replace("cls_head.fc_cls.", "head.")
  if m := re.fullmatch(r"features\.(\d+)\.(reduction|norm)\.(\w+)", name):
    return f"layers.{int(m[1]) // 2}.downsample.{m[2]}.{m[3]}"
  if m := re.fullmatch(r"features\.(\d+)\.(\d+)\.(.*)", name):
    leaf = m[3].replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
    return f"layers.{int(m[1]) // 2}.blocks.{m[2]}.{leaf}"
  return name


def filled(path, model, tensors):
  """Returns one of our parameters, built from the tensors under their official names."""
  names = official.names(path, model)
  blocks = [official.form(name, model).read(tensors[name]) for name in np.atleast_1d(names)]
  return np.stack(blocks) if isinstance(names, list) else blocks[0]


@functools.cache
def case(name):
  """Returns the settings of the case, its tensors by official name, and its values."""
  spec = json.loads(golden(f"video/{name}.json").read_text())
  tensors = safetensors.numpy.load_file(golden(f"video/{name}.safetensors"))
  tensors = {official_name(key): value.astype(np.float32) for key, value in tensors.items()}
  values = {key: value.astype(np.float32) for key, value in np.load(golden(f"video/{name}.npz")).items()}
  return spec, tensors, values


def outputs(name, **switches):
  """Returns our model's outputs under the names of the golden file, with channels second."""
  spec, tensors, values = case(name)
  numbers = {key: spec[key] for key in ("embed_dim", "depths", "num_heads", "patch_size")}
  windows = [spec["window_size"]] * 4
  encoder = make_encoder(
    version=1, merge_size=[1, 2, 2], window_sizes=windows, unroll=False, **numbers, **switches
  )
  model = Classifier(encoder, spec["num_classes"])
  clips = np.moveaxis(values["clip"], 1, -1)
  shapes = jax.eval_shape(lambda: flax.core.meta.unbox(model.init(jax.random.key(0), clips)["params"]))
  paths = flax.traverse_util.flatten_dict(shapes, sep="/")
  params = {path: filled(path, numbers | {"extra_norm_every": 0}, tensors) for path in paths}
  params = flax.traverse_util.unflatten_dict(params, sep="/")
  assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes)

  @jax.jit
  def run(params, clips):
    logits, captured = model.apply(
      {"params": params},
      clips,
      capture_intermediates=lambda module, _: module.name in ("encoder", "patch_embed"),
      mutable=["intermediates"],
    )
    captured = captured["intermediates"]["encoder"]
    features = captured["__call__"][0]
    maps = {f"stage_{i}": x for i, x in enumerate(features.levels)}
    return maps | {"patch_embed": captured["patch_embed"]["__call__"][0], "features": features.last}, logits

  maps, logits = run(params, clips)
  values_by_name = {key: np.moveaxis(x, -1, 1) for key, x in maps.items()} | {"logits": np.asarray(logits)}
  # The golden file holds only the first clip, and only the top-left corner of the embedding.
  values_by_name["patch_embed"], values_by_name["stage_0"] = (
    values_by_name["patch_embed"][:1, :, :, :8, :8],
    values_by_name["stage_0"][:1],
  )
  return values_by_name


def differences(name, **switches):
  """Returns the largest difference in each tensor, relative to the tensor's largest value."""
  ours, theirs = outputs(name, **switches), case(name)[2]
  assert ours.keys() == theirs.keys() - {"clip"}
  assert all(ours[key].shape == theirs[key].shape for key in ours)
  return {key: np.abs(ours[key] - theirs[key]).max() / np.abs(theirs[key]).max() for key in ours}


@pytest.mark.slow
def test_with_the_default_switches():
  errors = differences(EXACT)
  assert max(errors.values()) <= 2e-5, errors


@pytest.mark.slow
@pytest.mark.parametrize("name", (EXACT, *FOREIGN))
def test_with_the_switches_of_foreign_weights(name):
  errors = differences(name, **AS_THERE)
  assert max(errors.values()) <= 2e-5, errors


@pytest.mark.slow
@pytest.mark.parametrize("name", FOREIGN)
def test_these_need_the_switches(name):
  """Where padding is masked or rows are chosen by offset, the model computes a different function."""
  errors = differences(name)
  assert errors["logits"] > 1e-3 and errors["features"] > 1e-3, errors
