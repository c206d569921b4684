"""RandAugment: levels against the published table, operations against arrays written out, draws against their distributions."""

import collections

import numpy as np
from PIL import Image
import pytest

from swin_jax.data import rand_augment

FILL = (124, 116, 104)


@pytest.mark.parametrize(
    "name, at_0, at_5, at_10, signed",
    [
        ("auto_contrast", 0, 0, 0, False),
        ("equalize", 0, 0, 0, False),
        ("invert", 0, 0, 0, False),
        ("rotate", 0, 15, 30, True),
        ("posterize", 4, 2, 0, False),
        ("solarize", 256, 128, 0, False),
        ("solarize_add", 0, 55, 110, False),
        ("shear_x", 0, 0.15, 0.3, True),
        ("shear_y", 0, 0.15, 0.3, True),
        ("translate_x", 0, 0.225, 0.45, True),
        ("translate_y", 0, 0.225, 0.45, True),
    ],
)
def test_levels(name, at_0, at_5, at_10, signed):
  for magnitude, expected in ((0, at_0), (5, at_5), (10, at_10)):
    assert rand_augment.level(name, magnitude, 1) == pytest.approx(expected)
    assert rand_augment.level(name, magnitude, -1) == pytest.approx(-expected if signed else expected)


@pytest.mark.parametrize("name", ["color", "contrast", "brightness", "sharpness"])
def test_levels_of_factors(name):
  for magnitude, low, high in ((0, 1, 1), (5, 0.55, 1.45), (10, 0.1, 1.9)):
    assert rand_augment.level(name, magnitude, 1) == pytest.approx(high)
    assert rand_augment.level(name, magnitude, -1) == pytest.approx(low)


def test_whole_levels_are_cut_off():
  assert rand_augment.level("posterize", 9.0, 1) == 1  # 4 - int(3.6)
  assert rand_augment.level("solarize", 9.0, 1) == 26  # 256 - int(230.4)
  assert rand_augment.level("solarize_add", 9.55, 1) == 105  # int(105.05)


def test_every_name_has_a_level_and_an_effect():
  assert len(set(rand_augment.OPERATIONS)) == 15
  image = np.random.default_rng(0).integers(40, 180, (40, 40, 3), dtype=np.uint8)
  for name in rand_augment.OPERATIONS:
    assert (run(name, image, 10) != image).any(), name


def run(name, image, magnitude, sign=1):
  picture = Image.fromarray(np.asarray(image, np.uint8))
  return np.asarray(rand_augment.apply(picture, name, rand_augment.level(name, magnitude, sign)))


@pytest.mark.parametrize(
    "name, magnitude, sign, before, after",
    [
        ("invert", 0, 1, [0, 1, 100, 255], [255, 254, 155, 0]),
        ("solarize", 0, 1, [0, 127, 128, 255], [0, 127, 128, 255]),
        ("solarize", 5, 1, [0, 127, 128, 255], [0, 127, 127, 0]),
        ("solarize", 10, 1, [0, 127, 128, 255], [255, 128, 127, 0]),
        ("solarize_add", 10, 1, [0, 100, 127, 128], [110, 210, 237, 128]),
        ("posterize", 0, 1, [15, 16, 31, 255], [0, 16, 16, 240]),
        ("posterize", 5, 1, [63, 64, 127, 255], [0, 64, 64, 192]),
        ("posterize", 9, 1, [127, 128, 200, 255], [0, 128, 128, 128]),
        ("posterize", 10, 1, [127, 128, 200, 255], [0, 0, 0, 0]),
        ("auto_contrast", 0, 1, [50, 101, 75, 60], [0, 255, 125, 50]),
        ("brightness", 10, 1, [0, 100, 130, 255], [0, 190, 247, 255]),
        ("brightness", 10, -1, [0, 100, 130, 255], [0, 10, 13, 25]),
        # Around the mean, 100: 100 + 1.9 · (value - 100).
        ("contrast", 10, 1, [80, 120, 90, 110], [62, 138, 81, 119]),
        ("sharpness", 5, 1, [7, 7, 7, 7], [7, 7, 7, 7]),
        ("color", 10, 1, [10, 20, 30, 40], [10, 20, 30, 40]),
    ],
)
def test_values_of_grey_pixels(name, magnitude, sign, before, after):
  image = np.array(before, np.uint8).reshape(2, 2)
  assert run(name, image, magnitude, sign).ravel().tolist() == after
  rgb = run(name, np.repeat(image[..., None], 3, axis=-1), magnitude, sign)
  assert (rgb == np.array(after).reshape(2, 2, 1)).all()


def test_equalize_spreads_values_evenly():
  image = np.repeat(np.array([[10, 11, 12, 13]], np.uint8), 256, axis=0)
  assert run("equalize", image, 0)[0].tolist() == [0, 85, 171, 255]


def test_color_moves_away_from_and_towards_luminance():
  image = np.full((2, 2, 3), (200, 100, 50), np.uint8)  # luminance 0.299 · 200 + 0.587 · 100 + 0.114 · 50 = 124
  assert run("color", image, 5, -1)[0, 0].tolist() == [165, 110, 83]  # 124 + 0.55 · (value - 124), cut off
  assert run("color", image, 10, 1)[0, 0].tolist() == [255, 78, 0]


def test_sharpness_pulls_a_pixel_from_its_neighbours():
  image = np.full((5, 5), 100, np.uint8)
  image[2, 2] = 126  # smoothed with (5 · itself + its 8 neighbours) / 13: 110
  assert run("sharpness", image, 10, 1)[2, 2] == 140  # 110 + 1.9 · 16
  assert run("sharpness", image, 10, -1)[2, 2] == 111


@pytest.mark.parametrize("axis, name", [(1, "translate_x"), (0, "translate_y")])
def test_translation_by_whole_pixels(axis, name):
  image = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
  for sign in (1, -1):
    moved = run(name, image, 10, sign)  # 0.45 · 20 = 9 pixels
    kept, filled = (slice(0, 11), slice(11, 20)) if sign > 0 else (slice(9, 20), slice(0, 9))
    source = slice(9, 20) if sign > 0 else slice(0, 11)
    assert np.array_equal(moved.take(np.r_[kept], axis), image.take(np.r_[source], axis))
    assert (moved.take(np.r_[filled], axis) == FILL).all()


def test_translation_is_relative_to_its_own_side():
  image = np.zeros((20, 40, 3), np.uint8)
  assert ((run("translate_x", image, 10) == FILL).all(axis=-1).sum(axis=1) == 18).all()
  assert ((run("translate_y", image, 10) == FILL).all(axis=-1).sum(axis=0) == 9).all()


def test_shear_shifts_each_line_by_its_distance_from_the_border():
  image = np.zeros((41, 41), np.uint8)
  image[:, 20] = 255
  sheared = run("shear_x", image, 10)
  for row in (0, 10, 20, 40):
    line = sheared[row, :27].astype(float)  # further right the fill comes into view
    assert line @ np.arange(27) / line.sum() == pytest.approx(20 - 0.3 * (row + 0.5), abs=0.15)
  assert (sheared[40, -12:] == 117).all()
  assert np.array_equal(run("shear_y", image.T, 10), sheared.T)
  assert np.array_equal(run("shear_x", image[:, ::-1], 0), image[:, ::-1])


def test_rotation_is_about_the_centre_and_bicubic():
  image = np.random.default_rng(0).integers(0, 256, (21, 21, 3), dtype=np.uint8)
  turned = run("rotate", image, 10)
  assert np.array_equal(turned, np.asarray(Image.fromarray(image).rotate(30, Image.Resampling.BICUBIC, fillcolor=FILL)))
  assert (turned[10, 10] == image[10, 10]).all()
  assert (turned[0, 0] == FILL).all()
  assert not np.array_equal(turned, run("rotate", image, 10, -1))


def test_grey_image_keeps_its_band_and_gets_the_grey_fill():
  image = np.zeros((20, 20, 1), np.uint8)
  rng = np.random.default_rng(0)
  seen = set()
  for _ in range(200):
    augmented = rand_augment.rand_augment(image, rng, 2, 1.0, 9.0, 0.5)
    assert augmented.shape == image.shape and augmented.dtype == np.uint8
    seen |= set(augmented.ravel().tolist())
  assert 117 in seen  # 0.299 · 124 + 0.587 · 116 + 0.114 · 104


@pytest.mark.parametrize("bands", [2, 4, 14])
def test_other_bands_are_refused(bands):
  with pytest.raises(ValueError, match=f"not for {bands} bands"):
    rand_augment.rand_augment(np.zeros((8, 8, bands), np.uint8), np.random.default_rng(0), 2, 0.5, 9.0, 0.5)


@pytest.fixture
def applied(monkeypatch):
  """Every (name, level) that is applied; the image stays."""
  calls = []
  monkeypatch.setattr(rand_augment, "apply", lambda image, name, value: (calls.append((name, value)), image)[1])
  return calls


def test_operations_are_uniform_with_replacement_and_left_out_half_of_the_time(applied):
  rng, image, n = np.random.default_rng(0), np.zeros((2, 2, 3), np.uint8), 6000
  twice, per_image = 0, collections.Counter()
  for _ in range(n):
    before = len(applied)
    rand_augment.rand_augment(image, rng, 2, 0.5, 9.0, 0.5)
    names = [name for name, _ in applied[before:]]
    per_image[len(names)] += 1
    twice += len(names) == 2 and names[0] == names[1]
  for number, share in ((0, 0.25), (1, 0.5), (2, 0.25)):
    assert per_image[number] / n == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / n))
  counts = collections.Counter(name for name, _ in applied)
  assert set(counts) == set(rand_augment.OPERATIONS)
  assert np.abs(np.array(list(counts.values())) - n / 15).max() < 5 * np.sqrt(n / 15)
  assert twice / per_image[2] == pytest.approx(1 / 15, abs=0.035)


def test_magnitude_is_normal_drawn_anew_and_cut_with_either_sign(applied):
  rng, image = np.random.default_rng(0), np.zeros((2, 2, 3), np.uint8)
  for _ in range(6000):
    rand_augment.rand_augment(image, rng, 2, 1.0, 9.0, 0.5)
  angles = np.array([value for name, value in applied if name == "rotate"])
  magnitudes = np.abs(angles) / 3
  assert len(angles) > 700
  assert magnitudes.max() == 10.0
  assert np.mean(magnitudes == 10.0) == pytest.approx(0.0228, abs=0.02)  # beyond two deviations
  assert magnitudes.mean() == pytest.approx(9.0, abs=0.08) and magnitudes.std() == pytest.approx(0.5, abs=0.07)
  assert np.mean(angles > 0) == pytest.approx(0.5, abs=0.09)


def test_probability_and_operations_at_their_ends(applied):
  image = np.zeros((2, 2, 3), np.uint8)
  rand_augment.rand_augment(image, np.random.default_rng(0), 5, 0.0, 9.0, 0.5)
  assert not applied
  rand_augment.rand_augment(image, np.random.default_rng(0), 5, 1.0, 9.0, 0.5)
  assert len(applied) == 5


def test_the_generator_alone_decides_and_the_input_stays():
  image = np.random.default_rng(0).integers(0, 256, (16, 12, 3), dtype=np.uint8)
  copy = image.copy()
  image.flags.writeable = False

  def views():
    return [rand_augment.rand_augment(image[:, ::-1], np.random.default_rng(seed), 2, 0.5, 9.0, 0.5) for seed in range(20)]

  first = views()
  assert np.array_equal(first, views())
  assert len({view.tobytes() for view in first}) > 10
  assert np.array_equal(image, copy)
