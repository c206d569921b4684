"""Decoding, resizing and cropping, compared with direct calls of Pillow and with the official arithmetic
restated.

Resizing matches Pillow only up to rounding. Tests of which region is cropped therefore use Pillow's resizing,
so that they can compare pixel by pixel.
"""

from concurrent import futures
import functools
import io
import math
import pathlib

import numpy as np
from PIL import Image
import pytest
import sklearn.datasets

from swin_jax.data.read import image_ops
from swin_jax.data.read.decoding import Decoded
from swin_jax.data.view import crops, views

pytestmark = pytest.mark.every_python

METHODS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
RATIO = (3 / 4, 4 / 3)


def noise(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@functools.cache
def photograph(name="china.jpg"):
  return sklearn.datasets.load_sample_image(name)


def encode(image, file_format="PNG", **options):
  file = io.BytesIO()
  image = image if isinstance(image, Image.Image) else Image.fromarray(image)
  image.save(file, file_format, **options)
  return file.getvalue()


@pytest.fixture
def pillow(monkeypatch):
  """Makes Pillow do the resizing, as on systems without the faster library."""
  monkeypatch.setattr(image_ops, "resizer", None)


# Decoding.


def test_files_and_arrays_of_colour_and_grey():
  rgb, grey = noise(5, 7, 3), noise(5, 7)
  luminance = np.asarray(Image.fromarray(rgb).convert("L"))[..., None]
  assert np.array_equal(image_ops.decode(encode(rgb), 3), rgb)
  assert np.array_equal(image_ops.decode(encode(grey), 1), grey[..., None])
  assert np.array_equal(image_ops.decode(encode(grey), 3), np.stack([grey] * 3, axis=-1))
  assert np.array_equal(image_ops.decode(encode(rgb), 1), luminance)
  assert np.array_equal(image_ops.decode(rgb, 3), rgb)
  assert np.array_equal(image_ops.decode(rgb, 1), luminance)
  for array in (grey, grey[..., None]):
    assert np.array_equal(image_ops.decode(array, 1), grey[..., None])
    assert np.array_equal(image_ops.decode(array, 3), np.stack([grey] * 3, axis=-1))


@pytest.mark.parametrize("bands", [2, 4, 14])
def test_arrays_of_any_number_of_bands(bands):
  image = noise(5, 7, bands)
  assert np.array_equal(image_ops.decode(image, bands), image)


def test_file_of_four_bands_is_taken_as_it_is_where_four_are_wanted():
  image = noise(5, 7, 4)
  assert np.array_equal(image_ops.decode(encode(image), 4), image)


def test_palette():
  image = np.repeat(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8), 4, axis=0)
  file = Image.fromarray(image).quantize(2)
  assert file.mode == "P"
  assert np.array_equal(image_ops.decode(encode(file), 3), image)


def test_transparency_is_dropped():
  image = noise(5, 7, 4)
  assert np.array_equal(image_ops.decode(encode(image), 3), image[..., :3])


def test_cmyk():
  file = Image.fromarray(noise(8, 8, 3)).convert("CMYK")
  encoded = encode(file, "TIFF")
  assert np.array_equal(image_ops.decode(encoded, 3), np.asarray(file.convert("RGB")))


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_keeps_its_upper_bits(file_format):
  wide = np.array([[0, 255, 256, 1000], [30000, 40000, 65000, 65535]], np.uint16)
  encoded = encode(wide, file_format)
  expected = (wide // 256).astype(np.uint8)[..., None]
  assert np.array_equal(image_ops.decode(encoded, 1), expected)
  assert np.array_equal(image_ops.decode(encoded, 3), np.repeat(expected, 3, axis=-1))


def opened(encoded, mode):
  with Image.open(io.BytesIO(encoded)) as file:
    return np.asarray(file.convert(mode))


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
def test_photographs_are_decoded_as_by_pillow(name):
  encoded = (pathlib.Path(sklearn.datasets.__file__).parent / "images" / name).read_bytes()
  assert np.array_equal(image_ops.decode(encoded, 3), opened(encoded, "RGB"))
  assert np.array_equal(image_ops.decode(encoded, 1)[..., 0], opened(encoded, "L"))


@pytest.mark.parametrize(
  "options",
  [dict(subsampling=n) for n in range(3)] + [dict(progressive=True), dict(quality=20), dict(keep_rgb=True)],
)
@pytest.mark.parametrize("height, width", [(1, 1), (16, 24), (37, 51)])
def test_jpegs_are_decoded_as_by_pillow(height, width, options):
  for image in (photograph()[:height, :width], photograph()[:height, :width, 0]):
    encoded = encode(image, "JPEG", **options if image.ndim == 3 else {})
    assert np.array_equal(image_ops.decode(encoded, 3), opened(encoded, "RGB"))
    assert np.array_equal(image_ops.decode(encoded, 1)[..., 0], opened(encoded, "L"))


def test_odd_jpegs_are_left_to_pillow(monkeypatch):
  inks = encode(Image.fromarray(photograph()).convert("CMYK"), "JPEG")
  assert (
    np.array_equal(image_ops.decode(inks, 3), opened(inks, "RGB"))
    and image_ops.decode(inks, 4).shape[-1] == 4
  )
  whole = encode(photograph(), "JPEG")
  trailed, dirty = whole + b"and more", whole[:-2] + b"\0\0\0" + whole[-2:]
  for encoded in (trailed, dirty):  # one of them triggers a warning, the other does not
    assert np.array_equal(image_ops.decode(encoded, 3), opened(encoded, "RGB"))
  with pytest.raises(ValueError, match="cannot be read as an image: .*truncated"):
    image_ops.decode(whole[:-400], 3)
  monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
  with pytest.raises(ValueError, match="exceeds limit of 2000 pixels"):
    image_ops.decode(whole, 3)


@pytest.mark.parametrize("dtype, message", [(np.int32, "more than 16 bits"), (np.float32, "floating-point")])
def test_files_of_unknown_range_are_refused(dtype, message):
  with pytest.raises(ValueError, match=message):
    image_ops.decode(encode(np.full((4, 4), 70000, dtype), "TIFF"), 1)


@pytest.mark.parametrize(
  "encoded, bands, message",
  [
    (b"", 3, "cannot be read"),
    (b"not an image", 3, "cannot be read"),
    (encode(noise(64, 64, 3), "JPEG")[:600], 3, "cannot be read"),
    (encode(noise(64, 64, 3))[:600], 3, "cannot be read"),
    (encode(noise(5, 7, 3)), 4, "has 3 bands, not 4"),
    (noise(5, 7, 14), 3, "has 14 bands, not 3"),
    (noise(5, 7, 3).astype(np.float32), 3, "float32"),
    (noise(5, 7, 3).astype(np.uint16), 3, "uint16"),
    (noise(5), 3, r"\[5\]"),
    (np.zeros((0, 7, 3), np.uint8), 3, r"\[0, 7, 3\]"),
  ],
)
def test_what_cannot_be_decoded_is_a_value_error(encoded, bands, message):
  with pytest.raises(ValueError, match=message):
    image_ops.decode(encoded, bands)


# Resizing.


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(7, 5), (30, 40), (13, 23)])
def test_resize_without_the_faster_library_is_pillows(interpolation, size, pillow):
  image = noise(13, 23, 3)
  direct = Image.fromarray(image).resize(size[::-1], METHODS[interpolation])
  assert np.array_equal(image_ops.resize(image, size, interpolation), np.asarray(direct))
  for bands in (1, 2, 4, 14):
    image = noise(13, 23, bands)
    resized = image_ops.resize(image, size, interpolation)
    assert resized.shape == (*size, bands) and resized.dtype == np.uint8
    last = Image.fromarray(image[..., -1].copy()).resize(size[::-1], METHODS[interpolation])
    assert np.array_equal(resized[..., -1], np.asarray(last))


@pytest.mark.skipif(
  not image_ops.resizer, reason="cykooz-resizer has no wheel for this machine: Pillow itself resizes"
)
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize("height, width", [(100, 80), (200, 260), (256, 256), (400, 301), (427, 640)])
def test_resize_is_pillows_to_within_rounding(name, height, width, interpolation):
  image = photograph(name)[:height, :width]
  for size in ((224, 224), (64, 96), (300, 200)):
    direct = np.asarray(Image.fromarray(image).resize(size[::-1], METHODS[interpolation])).astype(float)
    resized = image_ops.resize(image, size, interpolation)
    difference = np.abs(resized - direct)
    # Where the cubic filter overshoots, the two passes clip in a different order, so a few pixels differ by
    # more than rounding.
    assert difference.mean() < 0.3 and difference.max() <= (1 if interpolation == "bilinear" else 40)
    assert 10 * np.log10(255**2 / np.mean(difference**2)) > 50


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("bands", [1, 2, 4, 5, 14])
def test_bands_do_not_mix(bands, interpolation):
  image = noise(13, 23, bands)
  resized = image_ops.resize(image, (30, 11), interpolation)
  assert resized.shape == (30, 11, bands) and resized.dtype == np.uint8
  for i in range(bands):
    assert np.array_equal(
      resized[..., i : i + 1], image_ops.resize(image[..., i : i + 1], (30, 11), interpolation)
    )


def test_threads_resize_side_by_side():
  images = [photograph()[i : i + 200, : 300 + i] for i in range(60)]
  with futures.ThreadPoolExecutor(8) as pool:
    together = list(pool.map(lambda image: image_ops.resize(image, (64, 64), "bicubic"), images))
  assert np.array_equal(together, [image_ops.resize(image, (64, 64), "bicubic") for image in images])


@pytest.mark.parametrize("bands", [1, 3, 4])
def test_resize_reads_views_in_any_memory_order(bands):
  image = noise(13, 23, bands)
  for view in (image[::-1], image[:, ::-1], image[::2, 1::3], image.transpose(1, 0, 2)):
    assert np.array_equal(
      image_ops.resize(view, (6, 6), "bicubic"), image_ops.resize(view.copy(), (6, 6), "bicubic")
    )


# Training crops.


def official_box(rng, height, width, scale, ratio):
  """Computes the published crop with draws in our order; returns (top, left, h, w)."""
  for _ in range(10):
    target_area = height * width * rng.uniform(scale[0], scale[1])
    aspect = np.exp(rng.uniform(np.log(ratio[0]), np.log(ratio[1])))
    w = int(round((target_area * aspect) ** 0.5))
    h = int(round((target_area / aspect) ** 0.5))
    if 0 < w <= width and 0 < h <= height:
      return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
  if width / height < ratio[0]:
    w, h = width, int(round(width / ratio[0]))
  elif width / height > ratio[1]:
    w, h = int(round(height * ratio[1])), height
  else:
    w, h = width, height
  return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("height, width", [(40, 60), (61, 33), (20, 100), (100, 9), (1, 1)])
def test_random_resized_crop_is_the_official_one(height, width, interpolation, pillow):
  image = noise(height, width, 3)
  for seed in range(20):
    top, left, h, w = official_box(np.random.default_rng(seed), height, width, (0.08, 1.0), RATIO)
    cut = Image.fromarray(image).crop((left, top, left + w, top + h))
    expected = np.asarray(cut.resize((24, 16), METHODS[interpolation]))
    crop = crops.random_resized_crop(
      image, np.random.default_rng(seed), (16, 24), (0.08, 1.0), RATIO, interpolation
    )
    assert np.array_equal(crop, expected)


@pytest.mark.parametrize("height, width, box", [(30, 90, (30, 40)), (90, 30, (40, 30)), (30, 36, (30, 36))])
def test_box_that_never_fits_gives_the_largest_central_one(height, width, box):
  image = np.full((height, width, 1), 255, np.uint8)
  top, left = (height - box[0]) // 2, (width - box[1]) // 2
  image[top : top + box[0], left : left + box[1]] = 0
  crop = crops.random_resized_crop(image, np.random.default_rng(0), (8, 8), (2.0, 3.0), RATIO, "bicubic")
  assert not crop.any()  # none of the surrounding white leaks in, not even through the filter


def test_area_and_aspect_of_crops_are_as_asked(monkeypatch):
  shapes = []
  monkeypatch.setattr(
    image_ops, "resize", lambda image, size, interpolation: (shapes.append(image.shape[:2]), image)[1]
  )
  image, rng = np.zeros((400, 400, 1), np.uint8), np.random.default_rng(0)
  for _ in range(2000):
    # 0.6 · 4 / 3 < 1, so every box fits
    crops.random_resized_crop(image, rng, (8, 8), (0.2, 0.6), RATIO, "bicubic")
  h, w = np.array(shapes).T
  share, aspect = h * w / 160000, np.log(w / h)
  assert 0.198 < share.min() < 0.21 and 0.59 < share.max() < 0.602
  assert share.mean() == pytest.approx(0.4, abs=0.01)
  assert np.abs(aspect).max() < np.log(4 / 3) + 0.01 and abs(aspect.mean()) < 0.02
  assert aspect.std() == pytest.approx(2 * np.log(4 / 3) / math.sqrt(12), rel=0.05)


def test_padded_crop_moves_by_up_to_the_padding_over_black():
  image, rng = noise(6, 9, 3) | 1, np.random.default_rng(0)  # no black pixel inside the image
  padded, positions = np.pad(image, ((2, 2), (2, 2), (0, 0))), set()
  for _ in range(400):
    crop = crops.random_crop(image, rng, 2)
    assert crop.shape == image.shape
    positions |= {
      (y, x) for y in range(5) for x in range(5) if np.array_equal(crop, padded[y : y + 6, x : x + 9])
    }
  assert len(positions) == 25


def test_flip():
  image, rng = noise(3, 5, 2), np.random.default_rng(0)
  assert np.array_equal(crops.random_flip(image, rng, 0.0), image)
  assert np.array_equal(crops.random_flip(image, rng, 1.0), image[:, ::-1])
  flips = sum(crops.random_flip(image, rng, 0.25)[0, 0, 0] != image[0, 0, 0] for _ in range(2000))
  assert flips == pytest.approx(500, abs=100)


# Evaluation.


def official_eval(image, size):
  """Resizes the short side to int(256 / 224 · size), truncates the long side, crops the centre."""
  height, width = image.shape[:2]
  short = int((256 / 224) * size)
  w, h = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
  resized = Image.fromarray(image).resize((w, h), Image.Resampling.BICUBIC)
  top, left = int(round((h - size) / 2.0)), int(round((w - size) / 2.0))
  return np.asarray(resized.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize("size", [32, 64, 192])
@pytest.mark.parametrize(
  "height, width", [(50, 37), (37, 50), (41, 41), (100, 75), (23, 200), (333, 500), (500, 334), (73, 73)]
)
def test_center_crop_is_the_official_one(size, height, width, pillow):
  image = noise(height, width, 3)
  assert np.array_equal(crops.center_crop(image, (size, size), 0.875, "bicubic"), official_eval(image, size))


def test_short_side_equals_the_official_one_at_every_size():
  for size in range(8, 2049, 4):
    assert int(size / 0.875) == int((256 / 224) * size)


def test_long_side_is_cut_not_rounded():
  # 37 × 50 with a short side of 36 gives a long side of 48.65; rounding would give 49 and shift the crop.
  image = noise(37, 50, 1)
  expected = image_ops.resize(image, (36, 48), "bicubic")[2:34, 8:40]
  assert np.array_equal(crops.center_crop(image, (32, 32), 0.875, "bicubic"), expected)


@pytest.mark.parametrize("height, width", [(40, 90), (90, 40), (64, 32), (33, 67)])
def test_center_crop_of_other_sizes(height, width):
  image = noise(height, width, 4)
  crop = crops.center_crop(image, (28, 56), 0.875, "bicubic")
  assert crop.shape == (28, 56, 4)
  factor = max(32 / height, 64 / width)
  h, w = int(height * factor + 1e-6), int(width * factor + 1e-6)
  top, left = round((h - 28) / 2), round((w - 56) / 2)
  assert np.array_equal(crop, image_ops.resize(image, (h, w), "bicubic")[top : top + 28, left : left + 56])


def test_whole_image_is_resized_straight(pillow):
  image = noise(40, 90, 3)
  direct = Image.fromarray(image).resize((24, 16), Image.Resampling.BICUBIC)
  assert np.array_equal(crops.center_crop(image, (16, 24), 1.0, "bicubic"), np.asarray(direct))


# The two views.


def augment(**changes):
  settings = dict(
    image_size=(16, 24),
    crop_scale=(0.08, 1.0),
    crop_ratio=RATIO,
    crop_padding=0,
    interpolation="bicubic",
    flip_probability=0.5,
  )
  return views.Augment(**settings | changes)


@pytest.mark.parametrize("bands", [1, 3, 14])
def test_training_view_is_contiguous_uint8_of_the_size(bands):
  for seed in range(4):
    view = augment()(noise(20, 31, bands), np.random.default_rng(seed))["image"]
    assert view.shape == (16, 24, bands) and view.dtype == np.uint8 and view.flags.c_contiguous


def test_tiny_images_are_padded_and_cropped_but_not_resized():
  image = noise(32, 32, 3)
  view = augment(image_size=(32, 32), crop_padding=4, flip_probability=0.0)(image, np.random.default_rng(0))[
    "image"
  ]
  top, left = np.random.default_rng(0).integers(9, size=2)
  assert np.array_equal(view, np.pad(image, ((4, 4), (4, 4), (0, 0)))[top : top + 32, left : left + 32])
  evaluation = views.EvalView((32, 32), 1.0, "bicubic")(image, np.random.default_rng(0))["image"]
  assert np.array_equal(evaluation, image)


def test_masks_come_with_both_views():
  mask = views.Mask(8, 4, 0.5)
  for view in (augment(), views.EvalView((16, 24), 0.875, "bilinear")):
    example = views.Masked(view, mask)(Decoded(noise(40, 40, 3)), np.random.default_rng(0))
    assert example["mask"].shape == (4, 6) and example["mask"].sum() == 12
    assert example["image"].flags.c_contiguous
