"""Normalising, erasing, mixup and cutmix: tested exactly where the random draws are known, and by
distribution elsewhere.
"""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swin_jax.ops import mixing

pytestmark = [pytest.mark.devices(8), pytest.mark.every_python]

SIZE = (12, 20)


def key(seed):
  return jax.random.key(seed)


@functools.cache
def compiled_mix(mixup_alpha, cutmix_alpha):
  return jax.jit(functools.partial(mixing.mix, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha))


erase = jax.jit(mixing.erase)
ERASED_SHAPE = (1000, 32, 32, 2)


def batch():
  """Returns eight random images with targets of eight classes."""
  rng = np.random.default_rng(0)
  return rng.normal(size=(8, *SIZE, 2)).astype(np.float32), rng.dirichlet(np.ones(8), 8).astype(np.float32)


def numbered(size):
  """Returns images filled with their own index, and the index's one-hot targets."""
  images = np.broadcast_to(np.arange(size, dtype=np.float32)[:, None, None, None], (size, *SIZE, 2))
  return images, np.eye(size, dtype=np.float32)


def test_normalise():
  images = np.arange(2 * 3 * 4 * 2, dtype=np.uint8).reshape(2, 3, 4, 2)
  expected = (images / 255 - np.array([0.1, 0.2])) / np.array([0.5, 0.25])
  normalised = mixing.normalise(images, (0.1, 0.2), (0.5, 0.25))
  assert normalised.dtype == jnp.float32
  np.testing.assert_allclose(normalised, expected, atol=1e-6)


def test_normalise_floats():
  """Floats are not divided by 255, and NaN (no data) becomes the mean."""
  images = np.float32([[[[300.0, 2.0], [np.nan, 4.0]]]])
  normalised = mixing.normalise(images, (290.0, 3.0), (20.0, 0.5))
  np.testing.assert_allclose(normalised, [[[[0.5, -2.0], [0.0, 2.0]]]])


# Erasing.


def official_erase(rng, shape):
  """Returns (top, left, h, w) of each image, None where no box fits: the published loop on the same draws."""
  b, height, width, _ = shape
  keys = jax.random.split(rng, 5)
  area = np.asarray(jax.random.uniform(keys[0], (b, 10), minval=0.02, maxval=1 / 3), np.float64)
  aspect = np.exp(
    np.asarray(
      jax.random.uniform(keys[1], (b, 10), minval=math.log(0.3), maxval=math.log(1 / 0.3)), np.float64
    )
  )
  corner = np.asarray(jax.random.uniform(keys[2], (b, 2)), np.float64)
  boxes = []
  for i in range(b):
    boxes.append(None)
    for attempt in range(10):
      target_area = area[i, attempt] * height * width
      h = int(round(math.sqrt(target_area * aspect[i, attempt])))
      w = int(round(math.sqrt(target_area / aspect[i, attempt])))
      if w < width and h < height:
        boxes[i] = int(corner[i, 0] * (height - h + 1)), int(corner[i, 1] * (width - w + 1)), h, w
        break
  return boxes, np.asarray(jax.random.normal(keys[4], shape, jnp.float32))


@pytest.mark.parametrize("shape", [ERASED_SHAPE, (64, 6, 60, 1)])
def test_erased_boxes_are_the_official_ones(shape):
  images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  boxes, noise = official_erase(key(3), shape)
  expected = images.copy()
  for i, box in enumerate(boxes):
    if box:
      top, left, h, w = box
      expected[i, top : top + h, left : left + w] = noise[i, top : top + h, left : left + w]
  # Not one program: compiled together with what follows it, the noise may have another last bit.
  np.testing.assert_array_equal(mixing.erase(images, key(3), 1.0), expected)


def test_erase_probability():
  def share(probability):
    return np.mean(
      (np.asarray(erase(jnp.full(ERASED_SHAPE, 100.0), key(1), probability)) != 100).any(axis=(1, 2, 3))
    )

  assert share(0.0) == 0.0
  assert share(1.0) == 1.0
  assert share(0.25) == pytest.approx(0.25, abs=5 * math.sqrt(0.25 * 0.75 / ERASED_SHAPE[0]))


def test_erased_area_position_and_noise():
  erased = np.asarray(erase(jnp.full(ERASED_SHAPE, 100.0), key(2), 1.0))
  inside = erased[..., 0] != 100
  area = inside.mean(axis=(1, 2))
  assert area.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.015)
  assert area.min() < 0.03 and 0.32 < area.max() < 0.35
  # all corners are equally likely
  np.testing.assert_allclose(inside.mean(axis=0), inside.mean(axis=0)[::-1, ::-1], atol=0.1)
  h, w = inside.any(axis=2).sum(axis=1), inside.any(axis=1).sum(axis=1)
  assert (h * w == inside.sum(axis=(1, 2))).all()  # one complete box
  # At most 1 / 0.3, and slightly more where sides are rounded.
  assert abs(np.log(h / w).mean()) < 0.1 and 3.2 < (h / w).max() < 4.1 and 3.2 < (w / h).max() < 4.1
  noise = erased[inside]
  assert noise.mean() == pytest.approx(0.0, abs=0.01) and noise.std() == pytest.approx(1.0, abs=0.01)
  assert abs(np.corrcoef(noise.T)[0, 1]) < 0.02  # each band has its own noise


def test_image_that_no_box_fits_stays():
  # With two rows, even the flattest and smallest box, √(0.02 · 400 · 0.3) high, rounds to a height of two.
  assert (erase(jnp.full((50, 2, 200, 1), 100.0), key(0), 1.0) == 100).all()


# Mixing.


def test_mixup_combines_images_and_targets_with_their_mirror():
  images, targets = batch()
  for seed in range(5):
    mixed, mixed_targets = compiled_mix(0.8, 0.0)(images, targets, key(seed))
    # Least squares: the share fitted to the images equals the share in the targets, with no residual.
    difference = (images - images[::-1]).ravel()
    share = difference @ np.asarray(mixed - images[::-1]).ravel() / (difference @ difference)
    assert 0 <= share <= 1
    np.testing.assert_allclose(mixed, share * images + (1 - share) * images[::-1], atol=2e-6)
    np.testing.assert_allclose(mixed_targets, share * targets + (1 - share) * targets[::-1], atol=1e-6)


@jax.jit
def cutmix_draws(rng):
  """Returns λ and the centre as one group draws them."""
  keys = jax.random.split(jax.random.split(rng, 1)[0], 4)
  return jax.random.beta(keys[2], 1.0, 1.0), jax.random.randint(keys[3], (2,), 0, jnp.array(SIZE))


def official_cutmix(rng):
  """Returns (top, bottom, left, right) of the published box for these draws."""
  share, (y, x) = jax.device_get(cutmix_draws(rng))
  ratio = np.sqrt(1.0 - float(share))
  cut_h, cut_w = int(SIZE[0] * ratio), int(SIZE[1] * ratio)
  top, bottom = np.clip(y - cut_h // 2, 0, SIZE[0]), np.clip(y + cut_h // 2, 0, SIZE[0])
  left, right = np.clip(x - cut_w // 2, 0, SIZE[1]), np.clip(x + cut_w // 2, 0, SIZE[1])
  return top, bottom, left, right


def test_cutmix_box_is_the_official_one():
  images, targets = batch()
  for seed in range(30):
    top, bottom, left, right = official_cutmix(key(seed))
    expected = images.copy()
    expected[:, top:bottom, left:right] = images[::-1, top:bottom, left:right]
    share = 1 - (bottom - top) * (right - left) / (SIZE[0] * SIZE[1])
    mixed, mixed_targets = compiled_mix(0.0, 1.0)(images, targets, key(seed))
    np.testing.assert_array_equal(mixed, expected)
    np.testing.assert_allclose(mixed_targets, share * targets + (1 - share) * targets[::-1], atol=1e-6)


def test_pasted_area_is_the_partners_share_of_the_target():
  images, targets = numbered(8)
  for seed in range(20):
    mixed, mixed_targets = compiled_mix(0.0, 1.0)(images, targets, key(seed))
    pasted = np.mean(np.asarray(mixed) == images[::-1], axis=(1, 2, 3))
    np.testing.assert_allclose(pasted, np.asarray(mixed_targets)[np.arange(8), 7 - np.arange(8)], atol=1e-6)


@pytest.mark.parametrize("alphas", [(0.8, 1.0), (0.8, 0.0), (0.0, 1.0)])
def test_targets_stay_distributions(alphas):
  images, targets = batch()
  for seed in range(10):
    _, mixed = compiled_mix(*alphas)(images, targets, key(seed))
    assert (np.asarray(mixed) >= 0).all()
    np.testing.assert_allclose(np.sum(mixed, axis=1), 1.0, atol=1e-6)


@pytest.fixture(scope="module")
def many_draws():
  """Mixes 4000 batches of two; returns the image's own share of its target, and whether the method was
  cutmix.
  """
  images, targets = numbered(2)

  def one(rng):
    mixed, mixed_targets = mixing.mix(images, targets, rng, mixup_alpha=0.8, cutmix_alpha=1.0)
    return mixed_targets[0, 0], jnp.all((mixed == 0) | (mixed == 1))

  share, cutmix = jax.jit(jax.vmap(one))(jax.random.split(key(0), 4000))
  return np.asarray(share), np.asarray(cutmix)


def test_with_both_each_is_taken_half_of_the_time(many_draws):
  assert many_draws[1].mean() == pytest.approx(0.5, abs=0.04)


def test_share_of_mixup_is_beta(many_draws):
  share = many_draws[0][~many_draws[1]]
  assert share.mean() == pytest.approx(0.5, abs=0.04)
  assert share.var() == pytest.approx(1 / (4 * (2 * 0.8 + 1)), rel=0.1)  # variance of Beta(α, α)


def test_boxes_of_cutmix_are_cut_off_at_the_border(many_draws):
  share = many_draws[0][many_draws[1]]

  def mean_length(side, cut):  # over all centres
    center = np.arange(side)
    return np.mean(np.minimum(center + cut // 2, side) - np.maximum(center - cut // 2, 0)) / side

  ratios = np.sqrt(1 - (np.arange(2000) + 0.5) / 2000)  # λ ~ Beta(1, 1) is uniform
  expected = np.mean(
    [1 - mean_length(SIZE[0], int(SIZE[0] * r)) * mean_length(SIZE[1], int(SIZE[1] * r)) for r in ratios]
  )
  assert share.mean() == pytest.approx(expected, abs=0.03) and expected > 0.6  # 0.5 with no border


def test_no_mixing_is_the_identity():
  images, targets = batch()
  mixed, mixed_targets = mixing.mix(images, targets, key(0), mixup_alpha=0.0, cutmix_alpha=0.0)
  assert mixed is images and mixed_targets is targets


def test_large_batch_is_mixed_in_groups_of_128_with_draws_of_their_own():
  images, targets = numbered(384)
  mixed, mixed_targets = (np.asarray(x) for x in compiled_mix(0.8, 0.0)(images, targets, key(0)))
  index = np.arange(384)
  partner = index // 128 * 128 + 127 - index % 128
  share = mixed_targets[index, index]
  np.testing.assert_allclose(mixed_targets[index, partner], 1 - share, atol=1e-6)
  np.testing.assert_allclose(mixed[:, 0, 0, 0], share * index + (1 - share) * partner, atol=1e-3)
  groups = share.reshape(3, 128)
  assert (groups == groups[:, :1]).all() and len(set(groups[:, 0])) == 3


def test_other_batches_are_one_group():
  images, targets = numbered(192)
  _, mixed = compiled_mix(0.8, 0.0)(images, targets, key(0))
  share = np.diag(mixed)
  assert (share == share[0]).all()
  np.testing.assert_allclose(np.diag(np.asarray(mixed)[::-1]), 1 - share, atol=1e-6)


def test_no_image_travels_where_a_device_holds_whole_groups():
  mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
  split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  shapes = jax.ShapeDtypeStruct((1024, 8, 8, 1), jnp.float32), jax.ShapeDtypeStruct((1024, 4), jnp.float32)
  mix = functools.partial(mixing.mix, mixup_alpha=0.8, cutmix_alpha=1.0)
  mix = jax.jit(mix, in_shardings=(split, split, None), out_shardings=split)
  text = mix.lower(*shapes, jax.eval_shape(lambda: key(0))).compile().as_text()
  assert not re.search(r"collective-permute|all-gather|all-to-all", text)
