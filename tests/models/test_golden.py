"""The models, with weights loaded by the importer, equal the official code, timm and transformers: every
tensor within 2e-5 of its largest value.
"""

import json

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swin_jax.saved import description, tensors
from swin_jax.tasks import masked_loss
from swin_jax.weights import importer, inference
from tests.support.golden import golden

pytestmark = pytest.mark.every_python


def read(name, **hints):
  """Returns the module, its imported parameters, inputs and outputs, and the settings of the case."""
  spec = json.loads(golden(f"{name}.json").read_text())
  planned = importer.plan(tensors.open_tensors(str(golden(f"{name}.safetensors"))), inference.Hints(**hints))
  params = flax.traverse_util.unflatten_dict(
    {path: jnp.asarray(planned.read(path)) for path in planned.shapes}, sep="/"
  )
  values = dict(np.load(golden(f"{name}.npz")))
  images = jnp.asarray(values["image"].transpose(0, 2, 3, 1))
  return description.make_module(planned.description), {"params": params}, values, images, spec


def check(ours, theirs, tolerance=2e-5):
  theirs = np.asarray(theirs)
  assert np.abs(np.asarray(ours) - theirs).max() <= tolerance * np.abs(theirs).max()


def nchw(x):
  return np.asarray(x).transpose(0, 3, 1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v2_window4_img64", "v2_window8_img128_pretrained4", "v1_window7_img56"])
def test_supervised(name):
  model, params, values, images, _ = read(name)
  maps = jax.jit(lambda p, x: model.apply(p, x, method=lambda m, x: m.encoder(x).levels))(params, images)
  for i, stage in enumerate(maps):
    check(stage.reshape(stage.shape[0], -1, stage.shape[-1]), values[f"stage_{i}"])
  _, state = model.apply(
    params, images, capture_intermediates=lambda m, _: m.name == "patch_embed", mutable=["intermediates"]
  )
  embedded = state["intermediates"]["encoder"]["patch_embed"]["__call__"][0]
  check(embedded.reshape(values["patch_embed"].shape), values["patch_embed"])
  check(jax.jit(model.apply)(params, images), values["logits"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["simmim_v2_window6_img96", "simmim_v2_window6_img96_norm47"])
def test_simmim(name):
  model, params, values, images, spec = read(name)
  mask = jnp.asarray(values["mask"], bool)

  def encode(m, x):
    return m.encoder(x, mask=mask, mask_token=m.variables["params"]["mask_token"]).last

  features = jax.jit(lambda p, x: model.apply(p, x, method=encode))(params, images)
  check(nchw(features), values["features"])
  reconstruction = jax.jit(model.apply)(params, images, mask)
  check(nchw(reconstruction), values["reconstruction"])
  target = masked_loss.normalise_target(images, 47) if spec["norm_target"] else images
  if spec["norm_target"]:
    check(nchw(target), values["target"])
  check(masked_loss.masked_l1(reconstruction, target, mask, model.encoder.levels[0].stride), values["loss"])


SIZES = dict(image_size=64, window=4, trained_window=0)  # these files do not state the sizes


@pytest.mark.slow
def test_timm():
  model, params, values, images, _ = read("timm_v2_window4_img64", **SIZES)
  features = jax.jit(lambda p, x: model.apply(p, x, method=lambda m, x: m.encoder(x).last))(params, images)
  check(features, values["features"])
  check(jax.jit(model.apply)(params, images), values["logits"])


@pytest.mark.slow
def test_hugging_face():
  """Its code adds the shift mask twice, so it differs slightly more."""
  model, params, values, images, _ = read("hf_v2_window4_img64", **SIZES)
  check(jax.jit(model.apply)(params, images), values["logits"], 1e-4)
  model, params, values, images, _ = read("hf_simmim_v2_window4_img64", **SIZES)
  mask = jnp.asarray(values["mask"], bool)
  reconstruction = jax.jit(model.apply)(params, images, mask)
  check(nchw(reconstruction), values["reconstruction"], 1e-4)
  check(
    masked_loss.masked_l1(reconstruction, images, mask, model.encoder.levels[0].stride),
    values["loss"],
    1e-4,
  )
