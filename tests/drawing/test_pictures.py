"""Pictures do not mislead: nothing is drawn beyond the image, errors have a colour of their own, names that
the font cannot draw are numbers, and titles and the step are on the picture.
"""

import jax.numpy as jnp
import numpy as np
from PIL import ImageFont
import pytest

from swin_jax.data.read.decoding import Decoded
from swin_jax.data.view import dense_views
from swin_jax.drawing import label_pictures, legend, panels, pixels, value_pictures

FONT = ImageFont.load_default(16)


@pytest.mark.parametrize("kind", ["labels", "values"])
def test_nothing_is_drawn_beyond_the_image(kind):
  """An image of 3 × 5 pixels in the upper left of a canvas, where everything is predicted as something."""
  canvas, extent = (8, 6), jnp.int32([[3, 5], [8, 6]])
  image = jnp.full((2, *canvas, 3), 0.5)
  inside = pixels.inside(extent, image)
  assert np.asarray(inside).sum(axis=(1, 2)).tolist() == [15, 48] and inside[0, 2, 4] and not inside[0, 3, 0]
  if kind == "labels":
    predicted, truth = jnp.ones((2, *canvas), jnp.int32), jnp.full((2, *canvas), 255)
    drawn = label_pictures.label_panels(image, predicted, truth, 2, inside)
  else:
    predicted, truth = jnp.ones((2, *canvas)), jnp.full((2, *canvas), jnp.nan)
    drawn = value_pictures.value_panels(image, predicted, truth, inside)
  drawn = np.asarray(drawn).transpose(0, 2, 3, 1, 4)  # pixels first
  assert (drawn[~np.asarray(inside)] == 255).all()
  assert (drawn[np.asarray(inside)][:, 2] != 255).any(-1).all()
  assert pixels.inside(None, image).all()


def test_evaluation_views_know_the_extent_of_the_image():
  view = dense_views.EvalView((32, 48), (40, 20), "bilinear", (0, 0, 0), "label_map")
  fields = view(Decoded(np.full((50, 100, 3), 9, np.uint8), np.ones((50, 100), np.uint8)), None)
  height, width = fields["extent"]
  assert (height, width) == (20, 40)
  assert (fields["image"][:height, :width] == 9).all() and not fields["image"][height:].any()
  assert (fields["label_map"] == 1).sum() == height * width


def test_errors_have_a_colour_of_their_own():
  """No class has it, and no pixel of an image, however light, takes it in the panel of errors."""
  colours = legend.palette(254).tolist()
  assert list(legend.ERROR) not in colours
  light = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (1, 16, 16, 3)), jnp.float32).at[0, :8].set(1.0)
  truth = jnp.zeros((1, 16, 16), jnp.int32)
  errors = np.asarray(label_pictures.label_panels(light, truth.at[0, 3, 4].set(1), truth, 2))[0, 3]
  assert np.argwhere((errors == legend.ERROR).all(-1)).tolist() == [[3, 4]]
  others = np.delete(errors.reshape(-1, 3), 3 * 16 + 4, axis=0)
  assert (others == others[:, :1]).all() and others.max() <= 102  # dark grey
  picture = np.zeros((10, 300, 3), np.uint8)

  def has_error(drawn):
    return (drawn == legend.ERROR).all(-1).any()

  assert has_error(legend.with_legend(picture, ["a", "b"]))
  assert not has_error(legend.with_legend(picture, ["a", "b"], errors=False))


@pytest.mark.parametrize(
  "name, expected",
  [
    ("cat", "cat"),
    ("traffic light (2)", "traffic light (2)"),
    ("Straße", "class 7"),
    ("猫", "class 7"),
    ("cat 猫", "class 7"),
    ("🦓", "class 7"),
  ],
)
def test_a_name_that_the_font_cannot_draw_is_a_number(name, expected):
  assert legend.name_of(7, name, FONT) == expected


def test_the_legend_draws_numbers_for_such_names():
  picture = np.zeros((10, 400, 3), np.uint8)
  drawn = [legend.with_legend(picture, names) for names in (["sky", "猫"], ["sky", "class 1"], ["sky", "x"])]
  np.testing.assert_array_equal(drawn[0], drawn[1])
  assert not np.array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("width", [40, 400, 2000])
def test_titles_and_the_step_are_above_the_columns(width):
  picture = np.full((10, width, 3), 77, np.uint8)
  drawn = panels.with_titles(picture, "step 1,200", ("image", "truth", "prediction", "errors"))
  top = len(drawn) - 10
  np.testing.assert_array_equal(drawn[top:], picture)
  heading, titles = drawn[: top // 2], drawn[top // 2 : top]
  assert (heading < 128).any()
  for column in range(4):  # each title is inside its column
    part = titles[:, column * (width // 4) : (column + 1) * (width // 4)]
    assert (part < 200).any()
  without = panels.with_titles(picture, "step 3", ())
  assert len(without) - 10 <= top and (without[:-10] < 128).any()
