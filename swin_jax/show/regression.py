"""What number a model of pixels gives to every pixel of an image."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from swin_jax.data.read import targets
from swin_jax.drawing import legend, value_pictures
from swin_jax.saved.pretrained import Model
from swin_jax.show import whole_images


def regress(model: Model, params: Any, image: np.ndarray) -> np.ndarray:
  """The number of every pixel in its unit, float32 [height, width], NaN where there is no data; args, raises:
  as `whole_images.answer`.
  """
  return targets.where_data(image, whole_images.answer(model, params, image)[..., 0])


def picture(
  model: Model,
  image: np.ndarray,
  found: np.ndarray,
  truth: np.ndarray | None = None,
  bands: Sequence[int] = (),
) -> Image.Image:
  """The image, the numbers of its pixels as colours and, where the truth is known, this and the errors; with
  scales.

  Args, raises: as `segmentation.picture`; found: of `regress`; truth: float32 [height, width], NaN where
  nothing is known.
  """
  image, found, truth = whole_images.for_a_picture(image, found, truth)
  known = np.full(found.shape, np.nan, np.float32) if truth is None else truth
  mean, std = (model.description["pixel_regression"][name] for name in ("value_mean", "value_std"))
  rgb = whole_images.pixels_of(model, image, bands)
  views = np.asarray(value_pictures.value_views(rgb, (found[None] - mean) / std, (known[None] - mean) / std))[
    0
  ]
  both = ~np.isnan(known) & ~np.isnan(found)
  errors = (
    None if truth is None else f"{np.mean(np.abs(known - found)[both]) if both.any() else 0:.4g} in the mean"
  )
  return Image.fromarray(legend.with_scales(whole_images.sheet(views, errors), mean, std, errors is not None))
