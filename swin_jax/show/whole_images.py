"""Dense prediction on whole images: reads them as in training, predicts every pixel, and draws the result."""

from collections.abc import Iterator, Sequence
import functools
import pathlib
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from swin_jax.data.read import (
  image_ops,
  orientation,
  places,
  plain_files,
  ranges,
  rasters,
  targets,
)
from swin_jax.data.view import dense_views
from swin_jax.drawing import panels as drawing
from swin_jax.drawing.pixels import as_rgb
from swin_jax.saved.pretrained import Model
from swin_jax.show import images
from swin_jax.tasks import KINDS, dense
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import Progress

_LARGEST = 2048  # largest side of a panel, in pixels


class Whole(NamedTuple):
  """A whole image for dense prediction.

  Attributes:
    name: of its file without suffix, numbered if the file holds several images.
    pixels: fitted into `dense.sides`: uint8 [height, width, bands] or, if the model's data is float32,
      float32 with NaN where there is no data.
    valid: bool [height, width], which pixels hold data; None for all.
    size: (height, width) of the image in its file.
    valid_in_file: bool of that size, which pixels of the file hold data; None for all.
    place: position on Earth, see `places.of`; None if no file gives it.
    band_names: empty if the file gives none.
    orientation: declared by the file; the pixels are upright.
  """

  name: str
  pixels: np.ndarray
  valid: np.ndarray | None
  size: tuple[int, int]
  valid_in_file: np.ndarray | None = None
  place: places.Place | None = None
  band_names: tuple[str, ...] = ()
  orientation: int = orientation.UPRIGHT


def read(model: Model, file: pathlib.Path) -> Iterator[Whole]:
  """Reads the images in a file.

  Raises:
    BadInput: the file cannot be read, or has a different number of bands.
  """
  bands, of_bytes = len(model.mean), model.description["data"]["dtype"] == "uint8"
  is_array, is_raster = file.suffix.lower() in images.ARRAYS, rasters.one_to_a_file(file.name)
  try:
    count = rasters.shape(str(file), file.name)[0] if is_array else 1
    # a model whose bands include alpha was trained with prepare --keep_alpha
    may_have_alpha = is_raster or not (of_bytes or is_array)
    keep_alpha = may_have_alpha and rasters.shape(str(file), file.name)[-1] < bands
    if of_bytes and not is_array:
      arrays = [_decode(file, bands, is_raster)]
    else:
      arrays = (rasters.read(str(file), file.name, index=i, keep_alpha=keep_alpha) for i in range(count))
      arrays = (rasters.with_bands(array, file.name, bands) for array in arrays)
    names = rasters.about(str(file), file.name, keep_alpha).names[:bands]
    declared = orientation.UPRIGHT if is_array or is_raster else orientation.of(plain_files.read(str(file)))
    for i, image in enumerate(arrays):
      if of_bytes and image.dtype.kind in "ui":
        ranges.check(image)
        image = image.astype(np.uint8)
      image = image_ops.decode(image, bands) if of_bytes else image.astype(np.float32, copy=False)
      if image.shape[-1] != bands:
        raise ValueError(f"has {image_ops.count_bands(image.shape[-1])}, not {bands}")
      size = dense_views.fit(image.shape[:2], tuple(model.description["dense"]["sides"]))
      name = file.stem if count == 1 else f"{file.stem}-{i:0{len(str(count - 1))}}"
      pixels = image if size == image.shape[:2] else image_ops.resize(image, size, _interpolation(model))
      valid, valid_in_file = map(image_ops.valid_pixels, (pixels, image))
      place = places.of(str(file)) if is_raster else None
      yield Whole(name, pixels, valid, image.shape[:2], valid_in_file, place, names, declared)
  except OSError as error:
    raise BadInput(f"{file} cannot be read: {error.strerror or error}") from error
  except ValueError as error:
    raise BadInput(f"{file} {error}") from error


def _interpolation(model: Model) -> str:
  """Returns the interpolation with which images were resized in evaluation."""
  return model.description["augment"]["interpolation"]


def _decode(file: pathlib.Path, bands: int, is_raster: bool) -> np.ndarray:
  """Decodes the 8-bit image in a file; a raster that Pillow cannot read is read with GDAL."""
  try:
    return image_ops.decode(plain_files.read(str(file)), bands)
  except ValueError as error:
    if not is_raster:
      raise
    raster = rasters.read(str(file), file.name)  # its error also covers files that are not rasters
    if raster.dtype == np.uint8 and raster.shape[-1] == bands:
      return raster
    actual, expected = (image_ops.count_bands(count) for count in (raster.shape[-1], bands))
    raise ValueError(
      f"is a raster of {actual}, {raster.dtype}; the model takes 8-bit images of {expected}"
    ) from error


def answer(model: Model, params: Any, pixels: np.ndarray) -> np.ndarray:
  """Predicts every pixel: float32 [height, width, outputs], logits of classes, or a value in its unit.

  An image larger than the window that evaluation uses (`dense.window`, or `dense.eval_canvas` if unset) is
  predicted with a sliding window. The method is that of `dense.slide`, but sums are kept on the host, which
  has room for large scenes, and progress is printed.

  Args:
    model, params: from `swin_jax.load`; a model with a prediction for every pixel.
    pixels: as from `read`, [height, width, bands].

  Raises:
    BadInput: the model makes no predictions for pixels, or the number of bands differs.
  """
  if not model.kind.pixels:
    tasks = " or ".join(f"task={task}" for task, kind in KINDS.items() if kind.pixels)
    raise BadInput(f"the model does not predict pixels; use one trained for {tasks}")
  normalised, forward = model.normalise(pixels), functools.partial(model.apply, params)
  window = model.description["dense"]["window"] or model.description["dense"]["eval_canvas"]
  size = pixels.shape[:2]
  window = tuple(map(min, window, size))
  corners = dense.corners(size, window)
  total, times, progress = None, np.zeros(size, np.float32), Progress("predicting", len(corners), "windows")
  for top, left in corners:
    part = np.s_[top : top + window[0], left : left + window[1]]
    scores = np.asarray(dense.whole(forward, normalised[None][:, *part]))[0]
    total = np.zeros((*size, scores.shape[-1]), np.float32) if total is None else total
    total[part] += scores
    times[part] += 1
    progress.step()
  total /= times[..., None]
  return total


def predict(model: Model, params: Any, image: Whole) -> np.ndarray:
  """Returns the map of a model's predictions for the pixels of an image.

  Args, raises: as in `answer`.

  Returns:
    Classes, uint8 [height, width], 255 where there is no data; or values in their unit, float32, NaN where
    there is no data.
  """
  return targets.where_valid(model.kind.pixels.to_map(answer(model, params, image.pixels)), image.valid)


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
