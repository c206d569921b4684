"""What a segmentation model takes every pixel of an image for."""

from collections.abc import Iterator, Sequence
import functools
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from swin_jax import legend
from swin_jax.data import dense_views
from swin_jax.data import image_files
from swin_jax.data import image_ops
from swin_jax.data import labelled_files
from swin_jax.data import labels
from swin_jax.data import rasters
from swin_jax.errors import BadInput
from swin_jax.pretrained import Model
from swin_jax.show import drawing
from swin_jax.show import images
from swin_jax.tasks import dense
from swin_jax.tasks import label_pictures


def read(model: Model, file: pathlib.Path) -> Iterator[tuple[str, np.ndarray]]:
  """The whole images in a file as the model was trained to see them, fitted into `dense.sides`.

  Yields:
    (name, image): the name without suffix, numbered where there are several; uint8 [height, width, bands] or, where the model's data is
    that, float32, NaN where there is no data.

  Raises:
    BadInput: it cannot be read, or has another number of bands.
  """
  bands, dtype = len(model.mean), model.description["data"]["dtype"]
  is_array = file.suffix.lower() in images.ARRAYS
  try:
    if dtype == "uint8" and not is_array:
      found = [image_ops.decode(file.read_bytes(), bands)]
    else:
      count = rasters.shape(str(file), file.name)[0]
      found = (rasters.read(str(file), file.name, index=i) for i in range(count))
    for i, image in enumerate(found):
      image = image_ops.decode(image, bands) if dtype == "uint8" else image.astype(np.float32, copy=False)
      if image.shape[-1] != bands:
        raise ValueError(f"has {image_ops.count_bands(image.shape[-1])}, not {bands}")
      size = dense_views.fit(image.shape[:2], tuple(model.description["dense"]["sides"]))
      name = file.stem if not is_array or count == 1 else f"{file.stem}-{i:0{len(str(count - 1))}}"
      yield name, image if size == image.shape[:2] else image_ops.resize(image, size, "bilinear")
  except OSError as error:
    raise BadInput(f"{file} cannot be read: {error.strerror or error}") from error
  except ValueError as error:
    raise BadInput(f"{file} {error}") from error


class LabelMaps:
  """The label maps of a folder, by the name of their image."""

  def __init__(self, folder: str, num_classes: int):
    """Finds them, and what says what their values mean: in the folder or up to two above it, else they are the classes themselves.

    Raises:
      BadInput: there is no such folder, or more classes are named than the model has.
    """
    if not pathlib.Path(folder).is_dir():
      raise BadInput(f"--labels={folder} is no folder")
    self._tree = image_files.Disk(folder)
    self._maps = {pathlib.PurePath(path).stem: path for path in image_files.find(self._tree, "")}
    places = map(str, [folder, *pathlib.Path(folder).resolve().parents[:2]])
    said = (labelled_files.classes_in(image_files.Disk(place), "") for place in places)
    numbered = labels.parse("classes.txt", "\n".join(map(str, range(num_classes))), folder)
    self._classes = next((classes for classes in said if classes), numbered)
    if len(self._classes.names) > num_classes:
      raise BadInput(f"the classes of --labels={folder} are {len(self._classes.names)}, the model has {num_classes}")

  def of(self, name: str, size: tuple[int, int]) -> np.ndarray:
    """The map of an image by its name, uint8 [height, width] of a size.

    Raises:
      BadInput: there is none, or it cannot be read.
    """
    if name not in self._maps:
      raise BadInput(f"{self._tree.name} holds no label map {name}.png")
    try:
      return labels.resize(labelled_files.read_map(self._tree, self._maps[name], self._classes), size)
    except ValueError as error:
      raise BadInput(f"{self._tree.name}: {error}") from error


def segment(model: Model, params: Any, image: np.ndarray) -> np.ndarray:
  """The class of every pixel.

  Args:
    model, params: of `swin_jax.load`; a segmentation model.
    image: as of `read`, [height, width, bands]; of any size where the model is Swin V2.

  Returns:
    int32 [height, width].

  Raises:
    BadInput: no segmentation model, or another number of bands.
  """
  if not model.segments:
    raise BadInput("the model has no classes of pixels; take one of task=segmentation")
  forward = functools.partial(model.apply, params)
  return np.asarray(dense.whole(forward, model.normalise(image)[None]))[0].argmax(-1).astype(np.int32)


def picture(model: Model, params: Any, image: np.ndarray, truth: np.ndarray | None = None, bands: Sequence[int] = ()) -> Image.Image:
  """The image, the classes of its pixels laid over it and, where the truth is known, this and the errors; with a legend.

  Args, raises: as `segment`; truth: uint8 [height, width], 255 where nothing is known; bands: see `pixels.shown`.
  """
  if wrong := [band for band in bands if not 0 <= band < image.shape[-1]]:
    raise BadInput(f"there is no band {wrong[0]}; the images have bands 0 to {image.shape[-1] - 1}")
  found = segment(model, params, image)
  known = np.full(found.shape, labels.NONE) if truth is None else truth.astype(np.int32)
  rgb = label_pictures.as_rgb(image[None], model.mean, model.std, bands)
  count = model.description["segmentation"]["num_classes"]
  views = np.asarray(label_pictures.label_views(rgb, found[None], known[None], count))[0]
  panels = list(zip(("image", "truth", "prediction", "errors"), map(drawing.enlarge, views)))
  panels = [panel for panel in panels if truth is not None or panel[0] in ("image", "prediction")]
  sheet = np.asarray(drawing.sheet(panels, 2))
  shown = sorted({*np.unique(found), *np.unique(known)} - {labels.NONE})
  return Image.fromarray(legend.with_legend(sheet, [model.class_name(label) for label in range(count)], shown))
