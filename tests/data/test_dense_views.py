"""Crops of images with label maps: image and map stay aligned, no class fills a crop, and whole images are
placed on their canvas.
"""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swin_jax.data.read import image_ops, targets
from swin_jax.data.read.decoding import Decoded
from swin_jax.data.view import dense_views, views
from swin_jax.ops import photometric
from tests.support.rasters import round_hole, stripes


def example(height=40, width=60, classes=7, seed=0):
  """Returns an image whose bands encode the class of each pixel as 10 times the class."""
  rng = np.random.default_rng(seed)
  blocks = rng.integers(0, classes, (height // 10, width // 10), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
  return Decoded(np.repeat(10 * blocks[..., None], 3, -1), blocks)


def augment(**changes):
  settings = dict(
    image_size=(24, 32),
    sides=(60, 40),
    scale_range=(1.0, 1.0),
    flip_probability=0.0,
    interpolation="bilinear",
    fill=(5.0, 6.0, 7.0),
    field="label_map",
  )
  return dense_views.Augment(**settings | changes)


@pytest.mark.parametrize(
  "size, sides, factor, wanted",
  [
    ((480, 640), (2048, 512), 1.0, (512, 683)),
    ((640, 480), (2048, 512), 1.0, (683, 512)),
    ((100, 1000), (2048, 512), 1.0, (205, 2048)),
    ((480, 640), (2048, 512), 0.5, (256, 341)),
    ((360, 480), (480, 360), 1.0, (360, 480)),
  ],
)
def test_images_are_fitted_between_two_sides(size, sides, factor, wanted):
  assert dense_views.fit(size, sides, factor) == wanted


def test_image_and_map_stay_together():
  for seed in range(20):
    view = augment(flip_probability=0.5)(example(), np.random.default_rng(seed))
    assert view["image"].shape == (24, 32, 3) and view["label_map"].shape == (24, 32)
    np.testing.assert_array_equal(view["image"][..., 0], 10 * view["label_map"])


def test_flips_and_scales_happen():
  source = Decoded(
    np.arange(40 * 60, dtype=np.uint16).astype(np.uint8).reshape(40, 60, 1).repeat(3, -1),
    np.zeros((40, 60), np.uint8),
  )
  mirrored = dense_views.Augment((40, 60), (60, 40), (1.0, 1.0), 1.0, "bilinear", (0.0,) * 3, "label_map")(
    source, np.random.default_rng(0)
  )
  np.testing.assert_array_equal(mirrored["image"], source.image[:, ::-1])
  small = augment(scale_range=(0.5, 0.5))(example(), np.random.default_rng(0))
  assert (
    np.all(small["label_map"][20:] == 255)
    and np.all(small["label_map"][:, 30:] == 255)
    and np.all(small["label_map"][:20, :30] < 7)
  )
  assert small["image"][23, 31].tolist() == [5, 6, 7]


def test_no_class_fills_a_crop_where_another_can_be_found(monkeypatch):
  maps = np.zeros((40, 400), np.uint8)
  maps[:, 200:] = np.arange(200) // 5 % 3 + 1
  maps[:, :200:20] = 9
  source = Decoded(np.zeros((40, 400, 3), np.uint8), maps)
  shares = []
  for share in (1.0, dense_views.MAX_CLASS_SHARE):
    monkeypatch.setattr(dense_views, "MAX_CLASS_SHARE", share)
    views = [augment(sides=(400, 40))(source, np.random.default_rng(seed))["label_map"] for seed in range(60)]
    shares.append(np.mean([np.bincount(view.ravel()).max() / view.size >= 0.75 for view in views]))
  assert shares[0] > 0.3 and shares[1] < 0.05
  alone = augment()(
    Decoded(np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)), np.random.default_rng(0)
  )
  assert not alone["label_map"].any()  # there is no other class, so the last of ten attempts is used


def test_the_share_of_a_class_is_that_of_the_labelled_pixels():
  """In the left half, one class has 13 of 16 labelled columns in every crop; in the right half it has 3 of 6,
  and most pixels are unlabelled.
  """
  left, right = ([255] * none + [1] * one + [2] * two for none, one, two in ((16, 13, 3), (26, 3, 3)))
  maps = np.tile(np.uint8(10 * left + 10 * right), (40, 1))
  source = Decoded(np.zeros((*maps.shape, 3), np.uint8), maps)
  view = augment(sides=(maps.shape[1], 40))
  crops = [view(source, np.random.default_rng(seed))["label_map"] for seed in range(60)]
  assert np.mean([np.mean(crop == 255) > 0.7 for crop in crops]) > 0.9


@pytest.mark.parametrize(
  "size, canvas, wanted",
  [((40, 60), (64, 64), (40, 60)), ((80, 120), (64, 64), (40, 60)), ((60, 40), (50, 64), (50, 33))],
)
def test_whole_images_lie_on_their_canvas(size, canvas, wanted):
  view = dense_views.EvalView(canvas, (60, 40), "bilinear", (5.0, 6.0, 7.0), "label_map")(
    Decoded(np.full((*size, 3), 9, np.uint8), np.full(size, 3, np.uint8)), np.random.default_rng(0)
  )
  inside = np.zeros(canvas, bool)
  inside[: wanted[0], : wanted[1]] = True
  np.testing.assert_array_equal(view["label_map"], np.where(inside, 3, 255))
  np.testing.assert_array_equal(view["image"], np.where(inside[..., None], 9, np.uint8([5, 6, 7])))


# Images with missing data.

NAN = (float("nan"),) * 2


def with_map(image, field):
  """Returns the image as decoded, with a class or a value for every pixel that holds data."""
  target = np.ones(image.shape[:2], np.uint8 if field == "label_map" else np.float32)
  return Decoded(image, targets.where_valid(target, image_ops.valid_pixels(image)))


@pytest.mark.parametrize("field", ["label_map", "value_map"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("image", [stripes(), *(round_hole(seed) for seed in range(6))])
def test_no_pixel_without_data_keeps_its_target(image, interpolation, field):
  """This holds for views of any size, although resizing changes the holes in the data and those in the maps
  differently.
  """
  example, rng = with_map(image, field), np.random.default_rng(1)
  look = [
    augment(
      sides=(),
      scale_range=(0.4, 1.6),
      flip_probability=0.5,
      interpolation=interpolation,
      fill=NAN,
      field=field,
      image_size=(24, 24),
      rotate=True,
    )
  ] * 8 + [
    dense_views.EvalView((64, 64), sides, interpolation, NAN, field) for sides in ((), (31, 31), (64, 50))
  ]
  for view in look:
    sample = view(example, rng)
    valid = ~np.isnan(sample["image"]).all(-1)
    known = sample[field] != 255 if field == "label_map" else ~np.isnan(sample[field])
    assert sample["valid"].dtype == bool and known.any()
    np.testing.assert_array_equal(sample["valid"], valid)
    assert not (known & ~valid).any()


def test_beyond_a_float_image_there_is_no_data():
  example = with_map(np.zeros((40, 60, 2), np.float32), "value_map")
  sample = dense_views.EvalView((50, 64), (), "bilinear", NAN, "value_map")(example, None)
  inside = np.pad(np.ones((40, 60), bool), ((0, 10), (0, 4)))
  np.testing.assert_array_equal(sample["valid"], inside)
  np.testing.assert_array_equal(~np.isnan(sample["image"]), np.repeat(inside[..., None], 2, -1))


def test_masks_of_simmim_come_with_the_bands_that_hold_data():
  image, mask = round_hole(0), views.Mask(8, 4, 0.5)
  image[:20, :, 1] = np.nan
  for view in (
    views.Augment((16, 24), (0.2, 1.0), (3 / 4, 4 / 3), 0, "bicubic", 0.5),
    views.EvalView((16, 24), 0.875, "bilinear"),
  ):
    sample = views.Masked(view, mask)(Decoded(image), np.random.default_rng(0))
    np.testing.assert_array_equal(sample["valid"], ~np.isnan(sample["image"]))
    assert sample["valid"].any() and not sample["valid"].all()
    assert "valid" not in views.Masked(view, mask)(
      Decoded(np.zeros((40, 60, 2), np.uint8)), np.random.default_rng(0)
    )


def test_saturation_and_hue_are_those_of_hsv():
  x = np.random.default_rng(0).uniform(0, 255, (1, 5, 40, 3)).astype(np.float32)
  x[0, 0, :3] = [[0, 0, 0], [80, 80, 80], [255, 0, 255]]
  for factor, turn in ((1.0, 0.0), (0.6, 0.0), (1.4, 0.07), (1.0, -0.1)):
    turned = photometric.saturate_and_turn(
      jnp.asarray(x), jnp.full((1, 1, 1, 1), factor), jnp.full((1, 1, 1, 1), turn)
    )
    expected = np.empty_like(x)
    for index in np.ndindex(x.shape[:3]):
      h, s, v = colorsys.rgb_to_hsv(*(x[index] / 255))
      expected[index] = 255 * np.asarray(colorsys.hsv_to_rgb((h + turn) % 1, min(s * factor, 1), v))
    np.testing.assert_allclose(turned, expected, atol=2e-3)


def test_distortion_leaves_some_as_they_are_and_no_two_alike():
  images = jnp.asarray(np.random.default_rng(0).integers(60, 180, (1, 4, 4, 3), np.uint8)).repeat(2048, 0)
  distorted = np.asarray(photometric.distort(images, jax.random.key(0)))
  assert distorted.dtype == np.uint8
  same = np.mean([np.array_equal(image, images[0]) for image in distorted])
  assert abs(same - 1 / 16) < 0.015  # (1/2)⁴, within three standard deviations
  assert len({image.tobytes() for image in distorted}) > 1800
  brighter = distorted.astype(int).mean((1, 2, 3)) - np.asarray(images[0], int).mean()
  assert brighter.min() < -20 and brighter.max() > 20
