"""Training views of every task follow the config: they are mirrored as often as it says, and crops show more
than one class.
"""

import numpy as np
import pytest

from swin_jax.data.read.decoding import Decoded
from swin_jax.data.read.labels import NONE
from swin_jax.data.view import dense_views, renumbered
from swin_jax.tasks import KINDS
from tests.support import tiny

pytestmark = pytest.mark.every_python

SIZE = (24, 32)
# Fields of a batch that are aligned with the image.
MAPS = ("image", "label_map", "value_map")


def example(name):
  """Returns an image whose pixels all differ, and the target that the task needs."""
  pixels = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
  target = pixels % 7 if KINDS[name].needs.per_pixel else None
  if target is not None:
    target = target.astype(np.uint8 if KINDS[name].needs.has_classes else np.float32)
  return Decoded(np.stack([pixels // 256, pixels % 256], -1).astype(np.uint8), target, 3)


def training_view(name, probability):
  config = tiny.config(
    task=name,
    data__image_size=SIZE,
    data__mean=(0.5, 0.4),
    data__std=(0.2, 0.3),
    augment__flip_probability=probability,
    augment__crop_scale=(1.0, 1.0),
    augment__crop_ratio=(SIZE[1] / SIZE[0],) * 2,
    dense__sides=(),
    dense__scale_range=(1.0, 1.0),
    dense__photometric=False,
    dense__eval_canvas=SIZE,
  )
  return KINDS[name].views(config)[0]


@pytest.mark.parametrize("name", KINDS)
def test_the_training_view_mirrors_as_often_as_the_config_says(name):
  original = training_view(name, 0.0)(example(name), np.random.default_rng(0))
  np.testing.assert_array_equal(original["image"], example(name).image)

  def mirrored(probability, tries):
    count = 0
    for seed in range(tries):
      view = training_view(name, probability)(example(name), np.random.default_rng(seed))
      both = [(view[field], original[field]) for field in MAPS if field in view]
      flipped = [np.array_equal(ours, theirs[:, ::-1]) for ours, theirs in both]
      assert len(set(flipped)) == 1  # the image and all maps are mirrored together
      assert flipped[0] or all(np.array_equal(ours, theirs) for ours, theirs in both)
      count += flipped[0]
    return count / tries

  assert (mirrored(0.0, 10), mirrored(1.0, 10)) == (0, 1)
  assert mirrored(0.5, 100) == pytest.approx(0.5, abs=0.2)  # within four standard deviations


def test_the_share_of_a_class_is_of_the_labelled_pixels():
  """In the left half, class 0 has 8 of 10 labelled pixels but only 8 of all 20 pixels in every column; in the
  right half, it has half of all pixels.
  """
  left = np.array([0] * 8 + [1] * 2 + [NONE] * 10, np.uint8)[:, None].repeat(100, 1)
  right = np.array([0, 1] * 10, np.uint8)[:, None].repeat(100, 1)
  source = Decoded(np.zeros((20, 200, 1), np.uint8), np.concatenate([left, right], 1))
  view = dense_views.Augment((20, 10), (), (1.0, 1.0), 0.0, "bilinear", (0.0,), "label_map")
  crops = [view(source, np.random.default_rng(seed))["label_map"] for seed in range(60)]
  assert np.mean([(crop == NONE).any(0).mean() > 0.9 for crop in crops]) < 0.05


def test_renumbered_classes():
  """Classes of the data that the model does not know become unknown, in maps and of whole images."""
  view = renumbered.Renumbered(lambda example, rng: example, (2, -1, 0))
  maps = [view(Decoded(None, np.uint8([[0, 1, 2, NONE]])), None).target]
  np.testing.assert_array_equal(maps[0], [[2, NONE, 0, NONE]])
  assert [view(Decoded(None, label=label), None).label for label in (0, 1, 2, -1)] == [2, -1, 0, -1]
