"""Dense prediction on whole images: reads them as in training and predicts every pixel."""

from collections.abc import Callable, Iterator, Sequence
import functools
import pathlib
from typing import Any, NamedTuple

import numpy as np

from swin_jax.data.read import image_ops, model_images, orientation, places, plain_files, rasters, targets
from swin_jax.saved.pretrained import Model
from swin_jax.tasks import KINDS, dense
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import Progress

# normalised images [B, height, width, bands] → scores, as `Model.apply` with its parameters
Forward = Callable[[np.ndarray], Any]


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
  try:
    count = model_images.count(str(file))
    for i in range(count):
      name = file.stem if count == 1 else f"{file.stem}-{i:0{len(str(count - 1))}}"
      yield read_one(model, str(file), i)._replace(name=name)
  except OSError as error:
    raise BadInput(f"{file} cannot be read: {error.strerror or error}") from error
  except ValueError as error:
    raise BadInput(f"{file} {error}") from error


def read_one(model: Model, path: str, index: int = 0) -> Whole:
  """Reads one of the images in a file, whose name stays empty.

  Raises:
    OSError, ValueError: see `model_images.read`.
  """
  bands, dtype = model.presented.bands, model.presented.dtype
  image = model_images.read(path, bands, dtype, index)
  pixels = model.presented.view(image)
  is_raster, is_array = rasters.one_to_a_file(path), path.lower().endswith(model_images.ARRAYS)
  names = rasters.about(path, path, model_images.keeps_alpha(path, bands, dtype)).names[:bands]
  declared = orientation.UPRIGHT if is_array or is_raster else orientation.of(plain_files.read(path))
  valid, valid_in_file = map(image_ops.valid_pixels, (pixels, image))
  place = places.of(path) if is_raster else None
  return Whole("", pixels, valid, image.shape[:2], valid_in_file, place, names, declared)


def answers(
  model: Model, forward: Forward, images: Sequence[np.ndarray], at_once: int = 1
) -> list[np.ndarray]:
  """Predicts every pixel: float32 [height, width, outputs], logits of classes, or a value in its unit.

  An image larger than the window that evaluation uses (`dense.window`, or `dense.eval_canvas` if unset) is
  predicted with a sliding window. The method is that of `dense.slide`, but sums are kept on the host, which
  has room for large scenes, and progress is printed.

  Args:
    model: a model with a prediction for every pixel.
    forward: see `Forward`.
    images: pixels as from `read`, each [height, width, bands].
    at_once: number of windows, of the same size, that `forward` gets at once; the last ones are repeated to
      fill it.

  Raises:
    BadInput: the model makes no predictions for pixels, or the number of bands differs.
  """
  if not model.kind.pixels:
    tasks = " or ".join(f"task={task}" for task, kind in KINDS.items() if kind.pixels)
    raise BadInput(f"the model does not predict pixels; use one trained for {tasks}")
  normalised, places = [model.normalise(pixels) for pixels in images], {}
  for number, pixels in enumerate(images):
    window = model.description["dense"]["window"] or model.description["dense"]["eval_canvas"]
    window = tuple(map(min, window, pixels.shape[:2]))
    for top, left in dense.corners(pixels.shape[:2], window):
      part = np.s_[top : top + window[0], left : left + window[1]]
      places.setdefault(window, []).append((number, part))
  totals, times = [None] * len(images), [np.zeros(pixels.shape[:2], np.float32) for pixels in images]
  progress = Progress("predicting", sum(map(len, places.values())), "windows")
  for of_one_size in places.values():
    for start in range(0, len(of_one_size), at_once):
      chosen = of_one_size[start : start + at_once]
      filled = chosen + chosen[-1:] * (at_once - len(chosen))
      windows = np.stack([normalised[number][part] for number, part in filled])
      for (number, part), scores in zip(chosen, np.asarray(dense.whole(forward, windows)), strict=False):
        if totals[number] is None:
          totals[number] = np.zeros((*times[number].shape, scores.shape[-1]), np.float32)
        totals[number][part] += scores
        times[number][part] += 1
        progress.step()
  return [total / count[..., None] for total, count in zip(totals, times, strict=True)]


def answer(model: Model, params: Any, pixels: np.ndarray) -> np.ndarray:
  """Predicts every pixel of one image on one device; see `answers`.

  Args:
    model, params: from `swin_jax.load`.
    pixels: as from `read`, [height, width, bands].
  """
  return answers(model, functools.partial(model.apply, params), [pixels])[0]


def predict(model: Model, params: Any, image: Whole) -> np.ndarray:
  """Returns the map of a model's predictions for the pixels of an image.

  Args:
    model, params: from `swin_jax.load`; a model with a prediction for every pixel.
    image: from `read`.

  Returns:
    See `to_map`.

  Raises:
    BadInput: as in `answers`.
  """
  return to_map(model, image, answer(model, params, image.pixels))


def to_map(model: Model, image: Whole, scores: np.ndarray) -> np.ndarray:
  """Returns the map of predictions [height, width, outputs], see `answers`.

  Returns:
    Classes, uint8 [height, width], 255 where there is no data; or values in their unit, float32, NaN where
    there is no data.
  """
  return targets.where_valid(model.kind.pixels.to_map(scores), image.valid)
