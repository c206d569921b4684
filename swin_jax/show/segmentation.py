"""What a segmentation model takes every pixel of an image for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from swin_jax.data.read import labels, targets
from swin_jax.drawing import label_pictures, legend
from swin_jax.saved.pretrained import Model
from swin_jax.show import whole_images


def segment(model: Model, params: Any, image: np.ndarray) -> np.ndarray:
  """The class of every pixel, uint8 [height, width], 255 where there is no data; args, raises: as
  `whole_images.answer`.
  """
  return targets.where_data(image, whole_images.answer(model, params, image).argmax(-1).astype(np.uint8))


def picture(
  model: Model,
  image: np.ndarray,
  found: np.ndarray,
  truth: np.ndarray | None = None,
  bands: Sequence[int] = (),
) -> Image.Image:
  """The image, the classes of its pixels laid over it and, where the truth is known, this and the errors;
  with a legend.

  Args:
    model: that found them.
    image: [height, width, bands].
    found: of `segment`.
    truth: uint8 [height, width], 255 where nothing is known.
    bands: see `pixels.shown`.

  Raises:
    BadInput: there is no such band.
  """
  image, found, truth = whole_images.for_a_picture(image, found, truth)
  known = np.full(found.shape, labels.NONE) if truth is None else truth.astype(np.int32)
  rgb = whole_images.pixels_of(model, image, bands)
  views = np.asarray(
    label_pictures.label_views(rgb, found[None].astype(np.int32), known[None], len(model.class_names))
  )[0]
  shown = sorted({*np.unique(found), *np.unique(known)} - {labels.NONE})
  there = known != labels.NONE
  errors = (
    None if truth is None else f"{np.mean((known != found)[there]) if there.any() else 0:.1%} of pixels"
  )
  sheet = whole_images.sheet(views, errors)
  return Image.fromarray(legend.with_legend(sheet, model.class_names, shown))
