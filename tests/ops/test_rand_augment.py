"""RandAugment on the device: compared with Pillow and with hand-written arrays, draws compared with their
distributions, on any number of devices.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest
import sklearn.datasets

from swin_jax.data.feed import pipeline
from swin_jax.mesh import sharding
from swin_jax.ops import rand_augment
from swin_jax.run import config as run_config
from swin_jax.run import inputs, program
from swin_jax.tasks import KINDS
from tests.support import pillow_operations, tiny

pytestmark = pytest.mark.devices(8)

FILL = (124, 116, 104)
RECIPE = dict(operations=2, probability=0.5, magnitude=9.0, magnitude_std=0.5)
LOOK_UP = (
  "invert",
  "posterize",
  "solarize",
  "solarize_add",
  "brightness",
  "auto_contrast",
  "equalize",
  "contrast",
)
apply = jax.jit(rand_augment.apply)
draw = jax.jit(rand_augment.draw, static_argnums=1, static_argnames=tuple(RECIPE))


def index(name):
  return rand_augment.OPERATIONS.index(name)


def level(name, magnitude, sign):
  return float(rand_augment.level(jnp.int32(index(name)), jnp.float32(magnitude), jnp.float32(sign)))


def apply_one(name, image, value):
  """Applies one operation to a uint8 image [height, width] or [height, width, 3]."""
  pixels = np.asarray(image, np.uint8).reshape(1, *image.shape[:2], -1)
  return np.asarray(
    apply(pixels, np.full((1, 1), index(name), np.int32), np.full((1, 1), value, np.float32))
  )[0].reshape(image.shape)


def run(name, image, magnitude, sign=1):
  return apply_one(name, image, level(name, magnitude, sign))


# Against Pillow.


@functools.cache
def photographs(bands):
  """Returns four images of 96 × 128 pixels: a plain one, a dark one, one of few values, one of a single
  value.
  """
  china, flower = (sklearn.datasets.load_sample_image(name) for name in ("china.jpg", "flower.jpg"))
  images = [
    china[100:196, 200:328],
    flower[50:146, 300:428] // 3 + 20,
    china[200:296, :128] // 64 * 50,
    np.full_like(china[:96, :128], 77),
  ]
  return [image[..., :bands] for image in images]


def by_pillow(name, image, value):
  picture = Image.fromarray(image if image.shape[-1] == 3 else image[..., 0])
  whole = name in ("posterize", "solarize", "solarize_add")
  return np.asarray(pillow_operations.apply(picture, name, int(value) if whole else value)).reshape(
    image.shape
  )


@pytest.mark.every_python
@pytest.mark.slow
@pytest.mark.parametrize("bands", [3, 1])
@pytest.mark.parametrize("name", rand_augment.OPERATIONS)
def test_every_operation_is_pillows(name, bands):
  worst, differing = 0, []
  for image in photographs(bands):
    for magnitude in (0, 0.7, 3.2, 8.1, 9.03, 9.6, 10):
      for sign in (1, -1):
        value = level(name, magnitude, sign)
        difference = np.abs(apply_one(name, image, value).astype(int) - by_pillow(name, image, value))
        if name in LOOK_UP:
          assert not difference.any()
        # Where the edge of the image passes exactly through the centre of a pixel, rounding decides whether
        # the pixel is outside.
        assert np.sum(difference > 1) <= 2
        worst, differing = (
          max(worst, np.sort(difference.ravel())[-3 * bands]),
          [*differing, np.mean(difference > 0)],
        )
  assert worst <= 1
  assert np.mean(differing) < 0.002


@pytest.mark.slow
def test_auto_contrast_is_pillows_for_every_lowest_and_highest_value():
  for low in range(256):
    image = np.tile(np.arange(256, dtype=np.uint8)[None], (256, 1))  # row h holds the values from low to h
    image = np.clip(image, low, np.maximum(np.arange(256), low)[:, None]).astype(np.uint8)
    ours = apply(
      image[:, None, :, None],
      np.full((256, 1), index("auto_contrast"), np.int32),
      np.zeros((256, 1), np.float32),
    )
    for row, result in zip(image, np.asarray(ours)[:, 0, :, 0], strict=True):
      assert np.array_equal(result, by_pillow("auto_contrast", row[None, :, None], 0)[0, :, 0])


@pytest.mark.slow
def test_all_at_once_is_one_after_the_other():
  """The vectorised variant, used on other devices, agrees with the sequential one, the only one that
  `platform_dependent` gives a CPU.
  """
  images = np.stack(photographs(3) * 12)
  drawn = draw(jax.random.key(0), len(images), **RECIPE | dict(operations=3, probability=0.9))

  elsewhere = jax.jit(functools.partial(rand_augment.in_turns, 32))(images, *drawn)  # 48 = 32 + 16
  difference = np.abs(np.asarray(apply(images, *drawn)).astype(int) - np.asarray(elsewhere))
  assert difference.max() <= 3 and np.mean(difference > 0) < 1e-4


# Against hand-written numbers.


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
    assert level(name, magnitude, 1) == pytest.approx(expected)
    assert level(name, magnitude, -1) == pytest.approx(-expected if signed else expected)


@pytest.mark.parametrize("name", ["color", "contrast", "brightness", "sharpness"])
def test_levels_of_factors(name):
  for magnitude, low, high in ((0, 1, 1), (5, 0.55, 1.45), (10, 0.1, 1.9)):
    assert level(name, magnitude, 1) == pytest.approx(high)
    assert level(name, magnitude, -1) == pytest.approx(low)


def test_whole_levels_are_cut_off():
  assert level("posterize", 9.0, 1) == 1  # 4 - int(3.6)
  assert level("solarize", 9.0, 1) == 26  # 256 - int(230.4)
  assert level("solarize_add", 9.55, 1) == 105  # int(105.05)


def test_every_name_has_an_effect():
  assert len(set(rand_augment.OPERATIONS)) == 15
  image = np.random.default_rng(0).integers(40, 180, (40, 40, 3), dtype=np.uint8)
  for name in rand_augment.OPERATIONS:
    assert (run(name, image, 10) != image).any(), name


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
    # Around the mean, which is 100: 100 + 1.9 · (value - 100).
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
  # the luminance is 0.299 · 200 + 0.587 · 100 + 0.114 · 50 = 124
  image = np.full((2, 2, 3), (200, 100, 50), np.uint8)
  assert run("color", image, 5, -1)[0, 0].tolist() == [165, 110, 83]  # 124 + 0.55 · (value - 124), truncated
  assert run("color", image, 10, 1)[0, 0].tolist() == [255, 78, 0]


def test_sharpness_pulls_a_pixel_from_its_neighbours():
  image = np.full((5, 5), 100, np.uint8)
  image[2, 2] = 126  # smoothed as (5 · itself + its 8 neighbours) / 13: 110
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
    line = sheared[row, :27].astype(float)  # further right the fill colour becomes visible
    assert line @ np.arange(27) / line.sum() == pytest.approx(20 - 0.3 * (row + 0.5), abs=0.15)
  assert (sheared[40, -12:] == 117).all()
  assert np.array_equal(run("shear_y", image.T, 10), sheared.T)
  assert np.array_equal(run("shear_x", image[:, ::-1], 0), image[:, ::-1])


def test_rotation_is_about_the_centre_and_bicubic():
  image = np.random.default_rng(0).integers(0, 256, (21, 21, 3), dtype=np.uint8)
  turned = run("rotate", image, 10)
  assert np.array_equal(
    turned, np.asarray(Image.fromarray(image).rotate(30, Image.Resampling.BICUBIC, fillcolor=FILL))
  )
  assert (turned[10, 10] == image[10, 10]).all()
  assert (turned[0, 0] == FILL).all()
  assert not np.array_equal(turned, run("rotate", image, 10, -1))


def test_grey_image_gets_the_grey_fill():
  # The luminance of the fill colour: 0.299 · 124 + 0.587 · 116 + 0.114 · 104.
  assert set(run("rotate", np.zeros((20, 20), np.uint8), 9).ravel().tolist()) == {0, 117}


# Random draws.


def test_operations_are_uniform_with_replacement_and_left_out_half_of_the_time():
  n = 30000
  operations, _ = (np.asarray(x) for x in draw(jax.random.key(0), n, **RECIPE))
  applied = operations != rand_augment.NOTHING
  for number, share in ((0, 0.25), (1, 0.5), (2, 0.25)):
    assert np.mean(applied.sum(axis=1) == number) == pytest.approx(
      share, abs=5 * np.sqrt(share * (1 - share) / n)
    )
  counts = np.bincount(operations[applied], minlength=15)
  assert len(counts) == 15 and np.abs(counts - n / 15).max() < 5 * np.sqrt(n / 15)
  both = operations[applied.all(axis=1)]
  assert np.mean(both[:, 0] == both[:, 1]) == pytest.approx(1 / 15, abs=0.015)


def test_magnitude_is_normal_drawn_anew_and_cut_with_either_sign():
  operations, levels = (
    np.asarray(x) for x in draw(jax.random.key(1), 30000, **RECIPE | dict(probability=1.0))
  )
  angles = levels[operations == index("rotate")]
  magnitudes = np.abs(angles) / 3
  assert len(angles) > 3500
  assert magnitudes.max() == pytest.approx(10.0)
  assert np.mean(magnitudes > 9.9999) == pytest.approx(0.0228, abs=0.01)  # above 2σ
  assert magnitudes.mean() == pytest.approx(9.0, abs=0.04) and magnitudes.std() == pytest.approx(
    0.5, abs=0.03
  )
  assert np.mean(angles > 0) == pytest.approx(0.5, abs=0.05)
  shifts = np.all(operations == index("translate_x"), axis=1)
  assert np.corrcoef(np.abs(levels[shifts]).T)[0, 1] == pytest.approx(0, abs=0.4)


def test_probability_and_operations_at_their_ends():
  images = np.stack(photographs(3))
  operations, levels = draw(jax.random.key(0), 4, **RECIPE | dict(operations=5, probability=0.0))
  assert operations.shape == levels.shape == (4, 5) and (operations == rand_augment.NOTHING).all()
  assert np.array_equal(apply(images, operations, levels), images)
  assert (draw(jax.random.key(0), 4, **RECIPE | dict(probability=1.0))[0] != rand_augment.NOTHING).all()


def test_the_key_and_the_place_in_the_batch_alone_decide():
  image = photographs(3)[0]
  images = np.stack([image] * 16)
  views = [np.asarray(apply(images, *draw(jax.random.key(seed), 16, **RECIPE))) for seed in (0, 0, 1)]
  assert np.array_equal(views[0], views[1]) and not np.array_equal(views[0], views[2])
  assert len({view.tobytes() for view in views[0]}) > 8


# In the step.


def step_parts(**changes):
  """Returns a config with RandAugment for every image, its program, and a batch."""
  config = tiny.config(
    "finetune", augment__rand_augment_operations=2, augment__rand_augment_probability=1.0, **changes
  )
  config = run_config.resolve(config, *[tuple("0123456789")] * 2)
  return (
    config,
    program.build(config, 89, 20),
    next(inputs.open_input(config).train_batches(0, pipeline.Part(0, 1))),
  )


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [(1, 8, 1), (2, 2, 2), (4, 1, 2)])
def test_devices_augment_what_they_hold_without_a_word_to_others(mesh):
  config, p, batch = step_parts(
    **{f"mesh__{axis}": size for axis, size in zip(("data", "fsdp", "model"), mesh, strict=True)}
  )
  augment = KINDS["classification"].augment(config)
  alone = augment({"image": batch["image"]}, jax.random.key(3))["image"]
  assert not np.array_equal(alone, batch["image"])
  with sharding.trace_on(p.mesh, p.rules):
    compiled = (
      jax.jit(augment, in_shardings=(p.batch_sharding, None))
      .lower({"image": p.batch["image"]}, jax.random.key(3))
      .compile()
    )
  placed = jax.device_put({"image": batch["image"]}, p.batch_sharding)
  spread = compiled(placed, jax.random.key(3))["image"]
  assert np.array_equal(spread, alone) and spread.sharding.is_equivalent_to(p.batch_sharding, 4)
  assert not [
    word
    for word in ("all-gather", "all-reduce", "collective-permute", "all-to-all")
    if word in compiled.as_text()
  ]


@pytest.mark.slow
def test_the_step_trains_on_augmented_images():
  """The loss of a step is that of the batch after `augment`; another step draws anew."""
  config, p, batch = step_parts(
    classification__mixup_alpha=0.0,
    classification__cutmix_alpha=0.0,
    classification__erase_probability=0.0,
    model__drop_path_rate=0.0,
    model__depths=(1,),
    model__num_heads=(2,),
    model__window_sizes=(4,),
  )
  batch = {name: batch[name] for name in ("image", "label")}
  augment, loss = jax.jit(KINDS["classification"].augment(config)), jax.jit(p.task.loss)
  with sharding.trace_on(p.mesh, p.rules):
    state = p.init()
    keys = [
      jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), step), 1 << 30) for step in (0, 1)
    ]
    losses = [
      loss(state.params, trained_on, keys[0])[0]
      for trained_on in (batch, *(augment(batch, key) for key in keys))
    ]
    _, sums = p.step(state, jax.device_put(batch, p.batch_sharding))
  assert float(sums["loss"][0]) == pytest.approx(float(losses[1]), rel=1e-5)
  assert len({round(float(value), 5) for value in losses}) == 3


def test_none_is_none():
  assert KINDS["classification"].augment(tiny.config("finetune", augment__rand_augment_operations=0)) is None
