"""Draws what the stages of a model distinguish: principal components of its features, as colours."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from swin_jax.drawing import panels as drawing
from swin_jax.saved.pretrained import Model
from swin_jax.terminal.progress import Progress


def components(model: Model, params: Any, images: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Computes the first three principal components of each stage's tokens, over all images together.

  The images pass through the model twice, once for the components and once for their values, so that the
  features of only one image are held at a time.

  Args:
    model, params: from `swin_jax.load`; a masked-image model gets unmasked images.
    images: float32 [height, width, bands] of one size, 0..1, as from `images.read`.

  Returns:
    For each stage float32 [images, H, W, 3]; the range from the 2nd to the 98th percentile of each component
    is stretched to 0..1.
  """
  stages = range(len(model.module.encoder.levels))
  progress = Progress("features of images", 2 * len(images))

  def tokens():
    for image in images:
      yield [
        np.asarray(x[0], np.float64) for x in model.features(params, model.normalise(image)[None], stages)
      ]
      progress.step()

  count, total, product = [0] * len(stages), [0.0] * len(stages), [0.0] * len(stages)
  for maps in tokens():
    for i, x in enumerate(maps):
      x = x.reshape(-1, x.shape[-1])
      count[i], total[i], product[i] = count[i] + len(x), total[i] + x.sum(0), product[i] + x.T @ x
  means = [t / n for t, n in zip(total, count, strict=True)]
  axes = [_axes(p / n - np.outer(mean, mean)) for p, n, mean in zip(product, count, means, strict=True)]
  values = [
    np.stack(x)
    for x in zip(
      *([(x - m) @ a for x, m, a in zip(maps, means, axes, strict=True)] for maps in tokens()), strict=True
    )
  ]
  return [_stretch(x).astype(np.float32) for x in values]


def _axes(covariance: np.ndarray) -> np.ndarray:
  """Returns the three directions of largest variance, [C, 3].

  Their signs, which are arbitrary, are chosen so that runs agree.
  """
  directions = np.linalg.eigh(covariance)[1][:, :-4:-1]
  largest = np.take_along_axis(directions, np.abs(directions).argmax(0)[None], axis=0)
  return directions * np.sign(largest)


def _stretch(values: np.ndarray) -> np.ndarray:
  low, high = np.percentile(values, (2, 98), axis=(0, 1, 2))
  return np.clip((values - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)


def pictures(
  model: Model, params: Any, images: Sequence[np.ndarray], *, bands: Sequence[int] = ()
) -> list[Image.Image]:
  """Draws each image and the components of every stage as red, green, blue.

  A colour has the same meaning in all pictures.

  Args: as in `components`; bands: as in `drawing.to_rgb`.

  Raises:
    BadInput: there is no such band.
  """
  originals = [drawing.to_rgb(image, image, bands) for image in images]
  stages = components(model, params, images)
  levels = model.module.encoder.levels
  sheets = []
  for i, original in enumerate(originals):
    size, zoom = original.shape[:2], original.shape[0] // images[i].shape[0]
    panels = [
      (
        f"stage {stage}",
        np.round(drawing.spread(values[i], levels[stage].stride[0] * zoom, size) * 255.0).astype(np.uint8),
      )
      for stage, values in enumerate(stages)
    ]
    sheets.append(drawing.sheet([("image", original), *panels], 1 + len(panels)))
  return sheets
