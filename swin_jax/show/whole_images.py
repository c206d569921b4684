"""Pictures of dense predictions for whole images."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from swin_jax.data.read import image_ops, targets
from swin_jax.data.view import dense_views
from swin_jax.drawing import panels as drawing
from swin_jax.drawing.pixels import as_rgb
from swin_jax.predict.whole_images import Whole
from swin_jax.saved.pretrained import Model

_LARGEST = 2048  # largest side of a panel, in pixels


def _interpolation(model: Model) -> str:
  """Returns the interpolation with which images were resized in evaluation."""
  return model.description["augment"]["interpolation"]


def picture(
  model: Model,
  image: Whole,
  predictions: np.ndarray,
  truth: np.ndarray | None = None,
  bands: Sequence[int] = (),
) -> Image.Image:
  """Draws the image, the predictions for its pixels and, if the truth is given, the truth and the errors.

  Args:
    model: that made the predictions.
    image: from `read`.
    predictions: from `predict`.
    truth: a map like `predictions`, unknown where there is no truth.
    bands: see `pixels.shown`.

  Raises:
    BadInput: there is no such band.
  """
  drawing.check_bands(bands, image.pixels.shape[-1])
  pixels, valid, predictions, truth = for_a_picture(image, _interpolation(model), predictions, truth)
  valid = valid if valid is None else valid[None]
  rgb = as_rgb(model.normalise(pixels)[None], valid, model.mean, model.std, bands)
  drawn = model.kind.pixels.draw(model.description, model.class_names, rgb, predictions, truth)
  return Image.fromarray(drawn.legend(sheet(drawn.panels, drawn.errors, _caption(image, bands))))


def for_a_picture(
  image: Whole, interpolation: str, *maps: np.ndarray | None
) -> tuple[np.ndarray | None, ...]:
  """Returns (pixels, valid, *maps) of an image, reduced if a picture of it would be too large to look at.

  A map that is None stays None.
  """
  if max(image.pixels.shape[:2]) <= _LARGEST:
    return image.pixels, image.valid, *maps
  size = dense_views.fit(image.pixels.shape[:2], (_LARGEST, _LARGEST))
  pixels = image_ops.resize(image.pixels, size, interpolation)
  valid = image_ops.valid_pixels(pixels)
  smaller = (
    array if array is None else targets.where_valid(targets.resize(array, size), valid) for array in maps
  )
  return pixels, valid, *smaller


def _caption(image: Whole, bands: Sequence[int]) -> str:
  """Returns the caption of an image: the names of the bands that are shown, if they are known."""
  shown = tuple(bands) or ((0, 1, 2) if image.pixels.shape[-1] >= 3 else (0,))
  return f"image: {', '.join(image.band_names[band] for band in shown)}" if image.band_names else "image"


def sheet(panels: np.ndarray, errors: str | None, image: str = "image") -> np.ndarray:
  """Arranges the panels of a picture, uint8 [4, height, width, 3], in one.

  Args:
    panels: image, truth, prediction and errors.
    errors: text that states the size of the errors; None if there is no truth, then only image and
      prediction are drawn.
    image: caption of the image.
  """
  captions = image, "truth", "prediction", f"errors: {errors}"
  captioned = list(zip(captions, map(drawing.enlarge, panels), strict=True))
  return np.asarray(drawing.sheet(captioned[::2] if errors is None else captioned, 2))
