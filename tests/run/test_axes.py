"""The number of axes is that of data.image_size: settings that must agree with it, and a step on clips."""

import flax
import jax
import jax.numpy as jnp
import pytest

from configs import own_labels
from swin_jax.mesh import sharding
from swin_jax.run import checks
from swin_jax.run.program import build
from swin_jax.saved import description as descriptions
from swin_jax.saved import pretrained
from swin_jax.tasks import kind_of
from swin_jax.terminal.errors import BadInput
from tests.support import tiny

CLIPS = dict(
  data__image_size=(4, 32, 32),
  model__patch_size=(2, 4, 4),
  model__merge_size=(1, 2, 2),
  model__window_sizes=((2, 4, 4), (2, 4, 4)),
)


def test_sizes_of_clips_pass():
  checks.check(tiny.config(**CLIPS))
  checks.check(tiny.config(**CLIPS, model__version=1, model__bias_rows="first", model__padding="attended"))


@pytest.mark.parametrize(
  "wrong, key",
  [
    (dict(model__patch_size=4), "model.patch_size = 4"),
    (dict(model__patch_size=(4, 4)), r"model.patch_size = \(4, 4\)"),
    (dict(model__merge_size=(2, 2)), r"model.merge_size = \(2, 2\)"),
    (dict(model__window_sizes=(4, 4)), r"model.window_sizes = \(4, 4\)"),
    (dict(model__trained_window_sizes=((4, 4),) * 2), r"model.trained_window_sizes = \(\(4, 4\), \(4, 4\)\)"),
  ],
)
def test_sizes_of_another_number_of_axes_are_named_with_the_image(wrong, key):
  with pytest.raises(BadInput, match=rf"{key} must have .* 3 axes of data.image_size = \(4, 32, 32\)"):
    checks.check(tiny.config(**CLIPS | wrong))


@pytest.mark.parametrize(
  "wrong, message",
  [
    (dict(data__image_size=(32,)), r"data.image_size = \(32,\): must have 2 or 3 entries, not 1"),
    (
      dict(data__image_size=(1, 32, 32), **{k: v for k, v in CLIPS.items() if "model" in k}),
      "data.image_size",
    ),
    (dict(model__patch_size=(0, 4)), r"model.patch_size = \(0, 4\): .* entry 0 must be at least 1"),
    (dict(model__merge_size=(1, 2, 2)), r"model.merge_size = \(1, 2, 2\) .* 2 axes"),
    (dict(model__padding="zeros"), "model.padding = 'zeros': choose one of 'masked', 'attended'"),
    (dict(model__bias_rows="last"), "model.bias_rows = 'last': choose one of 'offsets', 'first'"),
    (dict(model__bias_rows="first"), "model.bias_rows = 'first' needs model.version = 1"),
    (dict(model__bias_rows="first", model__version=1), "model.bias_rows = 'first' needs"),
  ],
  ids=str,
)
def test_choices_that_cannot_be_are_named(wrong, message):
  with pytest.raises(BadInput, match=message):
    checks.check(tiny.config(**wrong))


@pytest.mark.parametrize("kind", ["pretrain", "finetune"])
def test_what_clips_do_not_have_is_named(kind):
  config = tiny.config(kind, **CLIPS, augment__rand_augment_operations=2)
  with pytest.raises(BadInput, match=r"RandAugment .* data.image_size = \(4, 32, 32\)"):
    checks.check(config)
  with pytest.raises(BadInput, match=r"reads images, not clips: data.image_size = \(4, 32, 32\)"):
    kind_of(config).views(config)


def test_a_map_of_pixels_has_two_axes():
  config = own_labels.get_config("finetune")
  config.data.image_size = CLIPS["data__image_size"]
  with pytest.raises(
    BadInput, match=r"task=segmentation reads images, not clips: data.image_size = \(4, 32, 32\)"
  ):
    kind_of(config).check(config)


def test_a_saved_model_of_clips_runs_on_clips():
  description = descriptions.describe(tiny.config(**CLIPS).to_dict(), "clips")
  model, shapes = pretrained.Model(description), descriptions.parameter_shapes(description)
  params = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shapes.items()}
  params = flax.traverse_util.unflatten_dict(params, sep="/")
  clips, mask = jnp.zeros((2, 4, 32, 32, 1)), jnp.zeros((2, 2, 8, 8), bool)
  assert jax.eval_shape(model.apply, params, clips, mask).shape == clips.shape
  pyramid = jax.eval_shape(model.features, params, clips)
  assert [level.shape for level in pyramid] == [(2, 2, 8, 8, 16), (2, 2, 4, 4, 32)]
  with pytest.raises(BadInput, match=r"\[B, frames, height, width, 1\], not \[2, 32, 32, 1\]"):
    jax.eval_shape(model.apply, params, clips[:, 0], mask)
  with pytest.raises(BadInput, match=r"needs a mask \(2, 2, 8, 8\)"):
    jax.eval_shape(model.apply, params, clips, mask[:, 0])


@pytest.mark.parametrize("target_norm_window", [0, 3])
def test_a_step_on_masked_clips(target_norm_window):
  config = tiny.config(**CLIPS, masked_pixels__target_norm_window=target_norm_window)
  program = build(config, 1, 1)
  shapes = {name: leaf.shape for name, leaf in program.batch.items()}
  assert shapes["image"] == (16, 4, 32, 32, 1) and shapes["mask"] == (16, 2, 8, 8)
  with sharding.trace_on(program.mesh, program.rules):
    state, sums = jax.eval_shape(program.step, program.state, program.batch)
  assert jax.tree.map(jnp.shape, state) == jax.tree.map(jnp.shape, program.state)
  assert sums["loss"][0].shape == ()
