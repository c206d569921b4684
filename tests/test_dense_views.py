"""Crops of images with label maps: image and map stay together, no class fills a crop, whole images lie on
their canvas.
"""

import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swin_jax.data.read.decoding import Decoded
from swin_jax.data.view import dense_views
from swin_jax.ops import photometric


def example(height=40, width=60, classes=7, seed=0):
  """An image whose bands say the class of each pixel: 10 times it."""
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
  assert not alone["label_map"].any()  # there is no other: the last of ten is taken


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


def test_saturation_and_hue_are_those_of_hsv():
  x = np.random.default_rng(0).uniform(0, 255, (1, 5, 40, 3)).astype(np.float32)
  x[0, 0, :3] = [[0, 0, 0], [80, 80, 80], [255, 0, 255]]
  for factor, turn in ((1.0, 0.0), (0.6, 0.0), (1.4, 0.07), (1.0, -0.1)):
    made = photometric._saturate_and_turn(
      jnp.asarray(x), jnp.full((1, 1, 1, 1), factor), jnp.full((1, 1, 1, 1), turn)
    )
    wanted = np.empty_like(x)
    for index in np.ndindex(x.shape[:3]):
      h, s, v = colorsys.rgb_to_hsv(*(x[index] / 255))
      wanted[index] = 255 * np.asarray(colorsys.hsv_to_rgb((h + turn) % 1, min(s * factor, 1), v))
    np.testing.assert_allclose(made, wanted, atol=2e-3)


def test_distortion_leaves_some_as_they_are_and_no_two_alike():
  images = jnp.asarray(np.random.default_rng(0).integers(60, 180, (1, 4, 4, 3), np.uint8)).repeat(2048, 0)
  made = np.asarray(photometric.distort(images, jax.random.key(0)))
  assert made.dtype == np.uint8
  same = np.mean([np.array_equal(image, images[0]) for image in made])
  assert abs(same - 1 / 16) < 0.015  # (1/2)⁴; three deviations
  assert len({image.tobytes() for image in made}) > 1800
  brighter = made.astype(int).mean((1, 2, 3)) - np.asarray(images[0], int).mean()
  assert brighter.min() < -20 and brighter.max() > 20
