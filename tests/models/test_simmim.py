"""SimMIM: masked pixels are hidden from the encoder, and only they count in the loss."""

import functools
import math

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swin_jax.models import swin
from swin_jax.models.simmim import SimMim
from swin_jax.tasks import masked_loss, masked_pixels
from tests.support import slow_block


def make_model(depths=(1,)):
  return SimMim(
    swin.make_encoder(
      version=2,
      patch_size=4,
      embed_dim=16,
      depths=depths,
      num_heads=(2,) * len(depths),
      window_sizes=(4,) * len(depths),
      trained_window_sizes=(),
      mlp_ratio=1.0,
      drop_path_rate=0.0,
      extra_norm_every=0,
      remat="none",
      unroll=True,
      dtype="float32",
    )
  )


def shapes_of(model, images, mask):
  return jax.eval_shape(lambda: flax.core.meta.unbox(model.init(jax.random.key(0), images, mask)["params"]))


def make_batch(bands, height, width, seed=0):
  rng = np.random.default_rng(seed)
  images = rng.normal(size=(2, height, width, bands)).astype(np.float32)
  return images, rng.random((2, -(-height // 4), -(-width // 4))) < 0.6


@pytest.mark.parametrize("bands, height, width", [(1, 32, 32), (3, 16, 40), (4, 28, 20), (14, 30, 18)])
def test_the_reconstruction_has_the_shape_of_the_images(bands, height, width):
  """28 × 20 px is not a multiple of the stride, and 30 × 18 not even of the patch."""
  model, (images, mask) = make_model((1, 1)), make_batch(bands, height, width)
  out, variables = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), images, mask))
  assert out.shape == images.shape and out.dtype == jnp.float32
  assert flax.core.meta.unbox(variables)["params"]["decoder"]["kernel"].shape == (32, 8 * 8 * bands)
  assert flax.core.meta.unbox(variables)["params"]["encoder"]["patch_embed"]["proj"]["kernel"].shape == (
    16 * bands,
    16,
  )


@pytest.mark.parametrize("bands, height, width", [(1, 16, 24), (4, 18, 9)])
def test_every_decoder_channel_is_the_official_pixel(bands, height, width):
  model, (images, mask) = make_model(), make_batch(bands, height, width)
  params = slow_block.random_params(shapes_of(model, images, mask), 0)
  params["decoder"] = {
    "kernel": np.zeros_like(params["decoder"]["kernel"]),
    "bias": np.arange(16 * bands, dtype=np.float32),
  }
  out = jax.jit(lambda *x: model.apply({"params": params}, *x))(images, mask)
  for y, x, band in np.ndindex(height, width, bands):
    assert (out[:, y, x, band] == band * 16 + (y % 4) * 4 + x % 4).all()


@pytest.mark.parametrize("bands", [14])
def test_masked_pixels_are_hidden_from_the_encoder(bands):
  model, (images, mask) = make_model((1, 1)), make_batch(bands, 16, 24)
  params = slow_block.random_params(shapes_of(model, images, mask), 1)
  run = jax.jit(lambda x, mask, token: model.apply({"params": params | {"mask_token": token}}, x, mask))
  hidden = np.asarray(masked_loss.pixel_mask(mask, (4, 4), (16, 24)))
  other = np.random.default_rng(2).normal(size=images.shape).astype(np.float32)
  out = run(images, mask, params["mask_token"])
  np.testing.assert_array_equal(run(np.where(hidden, other, images), mask, params["mask_token"]), out)
  # the visible pixels are used
  assert np.abs(run(np.where(hidden, images, other), mask, params["mask_token"]) - out).max() > 1e-3
  assert np.abs(run(images, mask, params["mask_token"] + 1) - out).max() > 1e-3  # and so is the mask token
  np.testing.assert_array_equal(
    run(images, ~mask | mask, params["mask_token"]), run(other, ~mask | mask, params["mask_token"])
  )
  # Without a mask the token has no effect.
  nothing = np.zeros_like(mask)
  np.testing.assert_array_equal(
    run(images, nothing, params["mask_token"]), run(images, nothing, params["mask_token"] + 1)
  )


@pytest.mark.parametrize("bands, height, width", [(1, 16, 24), (3, 15, 22), (14, 15, 22)])
def test_masked_l1_is_a_mean_over_masked_pixels(bands, height, width):
  rng = np.random.default_rng(3)
  target, mask = make_batch(bands, height, width, seed=4)
  reconstruction = rng.normal(size=target.shape).astype(np.float32)
  total, count = 0.0, 0
  for b, y, x in np.ndindex(2, height, width):
    if mask[b, y // 4, x // 4]:
      total, count = (
        total + np.abs(target[b, y, x].astype(np.float64) - reconstruction[b, y, x]).sum(),
        count + 1,
      )
  loss = lambda r: masked_loss.masked_l1(r, target, mask, (4, 4))
  value, gradient = jax.jit(jax.value_and_grad(loss))(reconstruction)
  np.testing.assert_allclose(value, total / (count + 1e-5) / bands, rtol=1e-6)
  inside = np.broadcast_to(np.asarray(masked_loss.pixel_mask(mask, (4, 4), (height, width))), gradient.shape)
  np.testing.assert_allclose(
    gradient[inside], (np.sign(reconstruction - target) / (count + 1e-5) / bands)[inside], rtol=1e-6
  )
  assert (gradient[~inside] == 0).all()


def test_masked_l1_of_nothing_and_of_one_pixel():
  zeros, ones = np.zeros((1, 4, 4, 2), np.float32), np.ones((1, 4, 4, 2), np.float32)
  assert masked_loss.masked_l1(zeros, ones, np.zeros((1, 4, 4), bool), (1, 1)) == 0.0  # 0, not NaN
  one = np.zeros((1, 4, 4), bool)
  one[0, 1, 2] = True
  np.testing.assert_allclose(masked_loss.masked_l1(zeros, ones, one, (1, 1)), 1 / (1 + 1e-5), rtol=1e-6)


def test_pixels_without_data_weigh_nothing():
  """Worked out by hand: 2 × 2 pixels of two bands, the upper two masked; of the first only band 0 holds data,
  of the second both bands do.
  """
  target = np.float32([[[[1, 9], [2, 3]], [[4, 5], [6, 7]]]])
  valid = np.array([[[[True, False], [True, True]], [[True, True], [False, True]]]])
  mask = np.array([[[True, True], [False, False]]])
  loss = lambda r: masked_loss.masked_l1(r, target, mask, (1, 1), valid)
  value, gradient = jax.value_and_grad(loss)(np.zeros_like(target))
  # one and a half pixels, each of two bands
  np.testing.assert_allclose(value, (1 + 2 + 3) / (0.5 + 1 + 1e-5) / 2, rtol=1e-6)
  np.testing.assert_array_equal(gradient != 0, valid & mask[..., None])
  # 0, not NaN
  assert masked_loss.masked_l1(np.ones_like(target), target, mask, (1, 1), np.zeros_like(valid)) == 0.0


@pytest.mark.parametrize("bands", [3, 14])
def test_where_all_pixels_hold_data_the_loss_is_the_official_one(bands):
  target, mask = make_batch(bands, 16, 24)
  reconstruction = np.random.default_rng(3).normal(size=target.shape).astype(np.float32)
  official = masked_loss.masked_l1(reconstruction, target, mask, (4, 4))
  assert masked_loss.masked_l1(reconstruction, target, mask, (4, 4), np.ones_like(target, bool)) == official


@pytest.mark.parametrize("window", [3, 5])
def test_normalised_target_without_data_equals_loops(window):
  rng = np.random.default_rng(5)
  images = (5.0 + rng.normal(size=(1, 8, 9, 2))).astype(np.float32)
  valid = rng.random(images.shape) < 0.6
  images = np.where(valid, images, 0.0).astype(np.float32)
  ours = jax.jit(masked_loss.normalise_target, static_argnums=1)(images, window, valid)
  assert np.isfinite(ours).all()
  reach = window // 2
  for y, x, band in zip(*np.nonzero(valid[0]), strict=True):
    box = (0, slice(max(0, y - reach), y + reach + 1), slice(max(0, x - reach), x + reach + 1), band)
    near = images[box][valid[box]].astype(np.float64)
    variance = near.var(ddof=1) if near.size > 1 else 0.0
    np.testing.assert_allclose(
      ours[0, y, x, band], (images[0, y, x, band] - near.mean()) / math.sqrt(variance + 1e-6), atol=5e-3
    )


def both_bands(task, params, batch):
  """Returns the pictures of the two bands, each drawn alone in grey."""
  return np.concatenate(
    [jax.jit(functools.partial(task.pictures, bands=(band,)))(params, batch) for band in (0, 1)], axis=-1
  )


@pytest.mark.parametrize("target_norm_window", [0, 3])
def test_the_task_on_floats_with_gaps(target_norm_window):
  """Values inside a gap have no effect, neither as input nor as target; an image that is all gap is not
  evaluated.
  """
  model = make_model()
  task = masked_pixels.make_task(
    model, mean=(500.0, 40.0), std=(200.0, 30.0), target_norm_window=target_norm_window
  )
  rng = np.random.default_rng(6)
  pixels = rng.normal((500, 40), (200, 30), (3, 16, 16, 2)).astype(np.float32)
  gap = rng.random((3, 16, 16, 2)) < 0.3
  gap[2] = True
  mask = rng.random((3, 4, 4)) < 0.5
  batch = {
    "image": np.where(gap, np.nan, pixels),
    "valid": ~gap,
    "mask": mask,
    "weight": np.ones(3, np.float32),
  }
  params = slow_block.random_params(shapes_of(model, np.zeros((1, 16, 16, 2), np.float32), mask[:1]), 7)
  value, _, _ = jax.jit(task.loss)(params, batch, jax.random.key(0))
  total, count = jax.jit(task.measure)(params, batch).sums["loss"]
  assert np.isfinite(value) and np.isfinite(total) and count == 2
  whole, _, _ = jax.jit(task.loss)(
    params, batch | {"image": pixels, "valid": np.ones_like(gap)}, jax.random.key(0)
  )
  assert abs(whole - value) > 1e-4
  pictures = both_bands(task, params, batch)
  hidden = np.broadcast_to(np.asarray(masked_loss.pixel_mask(mask, (4, 4), (16, 16))), gap.shape)
  assert pictures.dtype == np.uint8 and (pictures[:, 0][gap] == 0).all()
  stretched = np.clip((pixels - np.float32((500, 40))) / np.float32((200, 30)) / 4 + 0.5, 0, 1) * 255
  np.testing.assert_allclose(pictures[:, 0][~gap], stretched[~gap], atol=0.51)
  np.testing.assert_array_equal(pictures[:, 2][~hidden], pictures[:, 0][~hidden])


def test_pixel_mask():
  mask = np.array([[[True, False], [False, True]]])
  expected = [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
  np.testing.assert_array_equal(masked_loss.pixel_mask(mask, (2, 2), (3, 3))[0, :, :, 0], expected)


@pytest.mark.parametrize(
  "window, height, width, bands", [(3, 6, 9, 1), (5, 7, 8, 4), (47, 12, 20, 3), (1, 3, 4, 2)]
)
def test_normalised_target_equals_loops(window, height, width, bands):
  images = (5.0 + np.random.default_rng(5).normal(size=(1, height, width, bands))).astype(np.float32)
  ours = jax.jit(masked_loss.normalise_target, static_argnums=1)(images, window)
  assert ours.shape == images.shape
  reach = window // 2
  for y, x, band in np.ndindex(height, width, bands):
    near = images[0, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1, band].astype(
      np.float64
    )
    variance = near.var(ddof=1) if near.size > 1 else 0.0
    expected = (images[0, y, x, band] - near.mean()) / math.sqrt(variance + 1e-6)
    np.testing.assert_allclose(ours[0, y, x, band], expected, atol=1e-3)


def test_normalised_target_of_a_constant_image_is_finite():
  out = jax.jit(masked_loss.normalise_target, static_argnums=1)(np.full((1, 8, 8, 2), 3.3, np.float32), 5)
  assert np.isfinite(out).all() and np.abs(out).max() < 0.1


@pytest.mark.parametrize("target_norm_window", [0, 3])
def test_the_task_measures_in_training_what_it_measures_in_evaluation(target_norm_window):
  model = make_model()
  task = masked_pixels.make_task(
    model, mean=(0.5, 0.4), std=(0.2, 0.3), target_norm_window=target_norm_window
  )
  rng = np.random.default_rng(6)
  mask = np.zeros((2, 4, 4), bool)
  mask[0, :2], mask[1, 2:] = True, True  # equally many per image: both means agree
  batch = {
    "image": rng.integers(0, 256, (2, 16, 16, 2), dtype=np.uint8),
    "mask": mask,
    "weight": np.ones(2, np.float32),
  }
  params = slow_block.random_params(shapes_of(model, np.zeros((1, 16, 16, 2), np.float32), mask[:1]), 7)
  value, sums, _ = jax.jit(task.loss)(params, batch, jax.random.key(0))
  total, count = jax.jit(task.measure)(params, batch).sums["loss"]
  np.testing.assert_allclose(value, total / count, rtol=1e-5)
  np.testing.assert_allclose(value, sums["loss"][0] / sums["loss"][1])
  weighted, one = jax.jit(task.measure)(params, batch | {"weight": np.array([1.0, 0.0], np.float32)}).sums[
    "loss"
  ]
  assert one == 1 and 0 < weighted < total
  pictures = both_bands(task, params, batch)
  assert pictures.shape == (2, 3, 16, 16, 2) and pictures.dtype == np.uint8
  np.testing.assert_array_equal(pictures[:, 0], batch["image"])
  hidden = np.broadcast_to(np.asarray(masked_loss.pixel_mask(mask, (4, 4), (16, 16))), batch["image"].shape)
  np.testing.assert_array_equal(pictures[:, 2][~hidden], batch["image"][~hidden])


@pytest.mark.parametrize("window", [2, 48, -1])
def test_a_target_window_has_a_middle(window):
  with pytest.raises(masked_pixels.BadInput, match=f"target_norm_window = {window}"):
    masked_pixels.make_task(make_model(), mean=(0.5,), std=(0.2,), target_norm_window=window)
