"""Whole images through a model with an answer for every pixel: read as it was trained to see them, answered, written as maps."""

from collections.abc import Iterator, Sequence
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
from PIL import Image

from swin_jax import legend
from swin_jax.data import dense_views
from swin_jax.data import image_files
from swin_jax.data import image_ops
from swin_jax.data import labelled_files
from swin_jax.data import labels
from swin_jax.data import rasters
from swin_jax.data import targets
from swin_jax.errors import BadInput
from swin_jax.pretrained import Model
from swin_jax.progress import Progress
from swin_jax.show import drawing
from swin_jax.show import images
from swin_jax.show import output
from swin_jax.tasks import dense
from swin_jax.tasks import label_pictures


class Whole(NamedTuple):
  """An image to be answered for.

  Attributes:
    name: of its file without suffix, numbered where there are several in it.
    pixels: fitted into `dense.sides`: uint8 [height, width, bands] or, where the model's data is that, float32, NaN where there is no data.
    size: (height, width) of the image in its file.
    place: where on Earth it lies, see `rasters.place`; None where no file says so.
  """

  name: str
  pixels: np.ndarray
  size: tuple[int, int]
  place: rasters.Place | None


def read(model: Model, file: pathlib.Path) -> Iterator[Whole]:
  """The images in a file.

  Raises:
    BadInput: it cannot be read, or has another number of bands.
  """
  bands, of_bytes = len(model.mean), model.description["data"]["dtype"] == "uint8"
  is_array, is_raster = file.suffix.lower() in images.ARRAYS, rasters.one_to_a_file(file.name)
  try:
    count = rasters.shape(str(file), file.name)[0] if is_array else 1
    if of_bytes and not is_array:
      found = [_decode(file, bands, is_raster)]
    else:
      found = (rasters.read(str(file), file.name, index=i) for i in range(count))
    for i, image in enumerate(found):
      image = image_ops.decode(image, bands) if of_bytes else image.astype(np.float32, copy=False)
      if image.shape[-1] != bands:
        raise ValueError(f"has {image_ops.count_bands(image.shape[-1])}, not {bands}")
      size = dense_views.fit(image.shape[:2], tuple(model.description["dense"]["sides"]))
      name = file.stem if count == 1 else f"{file.stem}-{i:0{len(str(count - 1))}}"
      pixels = image if size == image.shape[:2] else image_ops.resize(image, size, "bilinear")
      yield Whole(name, pixels, image.shape[:2], rasters.place(str(file)) if is_raster else None)
  except OSError as error:
    raise BadInput(f"{file} cannot be read: {error.strerror or error}") from error
  except ValueError as error:
    raise BadInput(f"{file} {error}") from error


def _decode(file: pathlib.Path, bands: int, is_raster: bool) -> np.ndarray:
  try:
    return image_ops.decode(file.read_bytes(), bands)
  except ValueError as error:
    if not is_raster:
      raise
    there = rasters.shape(str(file), file.name)[-1]  # says what is wrong where it is no raster either
    raise ValueError(f"is a raster of {image_ops.count_bands(there)}, the model is of 8-bit images of {image_ops.count_bands(bands)}: {error}") from error


class Truth:
  """The maps of a folder, by the name of their image: classes, or numbers."""

  def __init__(self, flag: str, folder: str, num_classes: int):
    """Finds them and, of classes, what says what their values mean: in the folder or up to two above it; else they are the classes.

    Args:
      flag: that the folder was given by, for messages.
      folder: where they are.
      num_classes: of the model; 0 for numbers.

    Raises:
      BadInput: there is no such folder, or more classes are named than the model has.
    """
    if not pathlib.Path(folder).is_dir():
      raise BadInput(f"{flag}={folder} is no folder")
    self._tree, classes = image_files.Disk(folder), None
    if num_classes:
      places = map(str, [folder, *pathlib.Path(folder).resolve().parents[:2]])
      said = (labelled_files.classes_in(image_files.Disk(place), "") for place in places)
      numbered = labels.parse("classes.txt", "\n".join(map(str, range(num_classes))), folder)
      classes = next((found for found in said if found), numbered)
      if len(classes.names) > num_classes:
        raise BadInput(f"the classes of {flag}={folder} are {len(classes.names)}, the model has {num_classes}")
    self._split = labelled_files.Split("", "", classes)
    self._maps = {pathlib.PurePath(path).stem: path for path in image_files.find(self._tree, "", "", self._split.extensions)}

  def of(self, image: Whole) -> np.ndarray:
    """The map of an image, fitted as it is.

    Raises:
      BadInput: there is none, or it cannot be read.
    """
    if image.name not in self._maps:
      raise BadInput(f"{self._tree.name} holds no map called {image.name}")
    try:
      found = self._split.read_map(self._tree, self._maps[image.name])
    except ValueError as error:
      raise BadInput(f"{self._tree.name}: {error}") from error
    return targets.resize(found, image.pixels.shape[:2])


def answer(model: Model, params: Any, pixels: np.ndarray) -> np.ndarray:
  """What a model says of every pixel, float32 [height, width, outputs]: logits of classes, or a number in its unit.

  An image larger than what evaluation saw at once (`dense.window`, else `dense.eval_canvas`) is seen by a window of that size, as there.

  Args:
    model, params: of `swin_jax.load`, with an answer for every pixel.
    pixels: as of `read`, [height, width, bands].

  Raises:
    BadInput: no such model, or another number of bands.
  """
  if not model.targets:
    raise BadInput("the model has no answers for pixels; take one of task=segmentation or task=pixel_regression")
  seen, forward = model.normalise(pixels), functools.partial(model.apply, params)
  window = model.description["dense"]["window"] or model.description["dense"]["eval_canvas"]
  size = pixels.shape[:2]
  window = tuple(map(min, window, size))
  corners = dense.corners(size, window)
  total, times, progress = 0.0, np.zeros(size, np.float32), Progress("windows", len(corners))
  for top, left in corners:
    part = np.s_[top : top + window[0], left : left + window[1]]
    scores = np.asarray(dense.whole(forward, seen[None][:, *part]))[0]
    total = np.zeros((*size, scores.shape[-1]), np.float32) if times.max() == 0 else total
    total[part] += scores
    times[part] += 1
    progress.step()
  return total / times[..., None]


def pixels_of(model: Model, image: np.ndarray, bands: Sequence[int]) -> jax.Array:
  """An image [height, width, bands] as the pixels of a batch of one that answers are laid over, see `label_pictures.as_rgb`.

  Raises:
    BadInput: there is no such band.
  """
  drawing.check_bands(bands, image.shape[-1])
  return label_pictures.as_rgb(image[None], model.mean, model.std, bands)


def sheet(views: np.ndarray, truth: bool) -> np.ndarray:
  """Image, truth, prediction and errors, uint8 [4, height, width, 3], side by side; image and prediction alone where there is no truth."""
  panels = list(zip(("image", "truth", "prediction", "errors"), map(drawing.enlarge, views)))
  return np.asarray(drawing.sheet(panels if truth else panels[::2], 2))


class Maps:
  """Writes what a model says of images as files called as these, at their size: GeoTIFFs in their place, or PNGs of classes."""

  def __init__(self, folder: pathlib.Path, class_names: list[str]):
    """Of classes their names go beside them, so that the folder can be the labels of a set.

    Args:
      folder: where to; it is there.
      class_names: by class; none for numbers.
    """
    self._folder, self._colours = folder, legend.palette(len(class_names))
    if class_names:
      (folder / "classes.txt").write_text("".join(name + "\n" for name in class_names), encoding="utf-8")

  def write(self, image: Whole, found: np.ndarray) -> pathlib.Path:
    """Writes the classes (uint8) or numbers (float32) [height, width] of an image; where it holds no data nothing is known."""
    found = targets.resize(found, image.size)
    if image.pixels.dtype == np.float32:
      missing = targets.resize(np.isnan(image.pixels).all(axis=-1).astype(np.uint8), image.size)
      found = np.where(missing, found.dtype.type(targets.unknown(found.dtype)), found)
    of_classes = found.dtype == np.uint8
    path = output.new_file(self._folder, image.name, ".png" if of_classes and not image.place else ".tif")
    if path.suffix == ".png":
      file = Image.fromarray(found, "P")
      file.putpalette(self._colours.tobytes())
      file.save(path)
    else:
      rasters.write(str(path), found, image.place, targets.unknown(found.dtype), self._colours if of_classes else None)
    return path
