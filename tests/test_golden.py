"""The models equal the official code on random weights: every tensor within 2e-5 of its own largest value."""

import json
import os
import pathlib

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from swin_jax.models.heads import Classifier
from swin_jax.models.simmim import SimMim
from swin_jax.models.swin import Swin
from swin_jax.models.swin import group_size
from swin_jax.tasks import masked_pixels
from tests import official

HERE = pathlib.Path(__file__).parent / "golden"
ELSEWHERE = pathlib.Path(os.environ.get("SWIN_JAX_GOLDEN", pathlib.Path(__file__).parents[2] / "shared" / "golden"))


def golden(name):
  """The small golden files are here, the large ones beside the checkout."""
  folder = next((folder for folder in (HERE, ELSEWHERE) if (folder / name).exists()), None)
  if folder is None:
    pytest.skip(f"golden file {name} of the official code is not in {ELSEWHERE}; SWIN_JAX_GOLDEN says where it is")
  return folder / name


def read(name):
  spec = json.loads(golden(f"{name}.json").read_text())
  w = spec["window_size"]
  encoder = Swin(
      version=1 if spec["kind"] == "v1" else 2,
      patch_size=spec["patch_size"],
      embed_dim=spec["embed_dim"],
      depths=tuple(spec["depths"]),
      num_heads=tuple(spec["num_heads"]),
      window_sizes=((w, w),) * len(spec["depths"]),
      trained_window_sizes=tuple((p, p) if p else None for p in spec.get("pretrained_window_sizes", [0] * len(spec["depths"]))),
      mlp_ratio=4.0,
      drop_path_rate=0.0,
      extra_norm_every=0,
      remat="none",
      unroll=False,
      dtype=jnp.float32,
  )
  values = dict(np.load(golden(f"{name}.npz")))
  images = jnp.asarray(values["image"].transpose(0, 2, 3, 1))
  return encoder, values, images, spec


def import_weights(name, model, *inputs):
  spec = json.loads(golden(f"{name}.json").read_text())
  abstract = jax.eval_shape(lambda: flax.core.meta.unbox(model.init(jax.random.key(0), *inputs)["params"]))
  shapes = {k: v.shape for k, v in flax.traverse_util.flatten_dict(abstract, sep="/").items()}
  groups = [group_size(d, 0) for d in spec["depths"]]
  flat = official.load(load_file(golden(f"{name}.safetensors")), shapes, spec["depths"], spec["num_heads"], groups)
  return {"params": flax.traverse_util.unflatten_dict(flat, sep="/")}


def check(ours, theirs):
  theirs = np.asarray(theirs)
  assert np.abs(np.asarray(ours) - theirs).max() <= 2e-5 * np.abs(theirs).max()


def nchw(x):
  return np.asarray(x).transpose(0, 3, 1, 2)


@pytest.mark.parametrize("name", ["v2_window4_img64", "v2_window8_img128_pretrained4", "v1_window7_img56"])
def test_supervised(name):
  encoder, values, images, spec = read(name)
  model = Classifier(encoder, spec["num_classes"])
  params = import_weights(name, model, images)
  _, maps = jax.jit(lambda p, x: model.apply(p, x, method=lambda m, x: m.encoder(x)))(params, images)
  for i, stage in enumerate(maps):
    check(stage.reshape(stage.shape[0], -1, stage.shape[-1]), values[f"stage_{i}"])
  _, state = model.apply(params, images, capture_intermediates=lambda m, _: m.name == "patch_embed", mutable=["intermediates"])
  embedded = state["intermediates"]["encoder"]["patch_embed"]["__call__"][0]
  check(embedded.reshape(values["patch_embed"].shape), values["patch_embed"])
  check(jax.jit(model.apply)(params, images), values["logits"])


@pytest.mark.parametrize("name", ["simmim_v2_window6_img96", "simmim_v2_window6_img96_norm47"])
def test_simmim(name):
  encoder, values, images, spec = read(name)
  model = SimMim(encoder)
  mask = jnp.asarray(values["mask"], bool)
  params = import_weights(name, model, images, mask)


  def encode(m, x):
    return m.encoder(x, mask=mask, mask_token=m.variables["params"]["mask_token"])

  features, _ = jax.jit(lambda p, x: model.apply(p, x, method=encode))(params, images)
  check(nchw(features), values["features"])
  reconstruction = jax.jit(model.apply)(params, images, mask)
  check(nchw(reconstruction), values["reconstruction"])
  target = masked_pixels.normalise_target(images, 47) if spec["norm_target"] else images
  if spec["norm_target"]:
    check(nchw(target), values["target"])
  check(masked_pixels.masked_l1(reconstruction, target, mask, encoder.patch_size), values["loss"])
