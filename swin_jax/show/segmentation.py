"""What a segmentation model takes every pixel of an image for."""

from collections.abc import Sequence
import functools
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from swin_jax.data import dense_views
from swin_jax.data import image_ops
from swin_jax.data import labels
from swin_jax.data import rasters
from swin_jax.errors import BadInput
from swin_jax.pretrained import Model
from swin_jax.show import drawing
from swin_jax.tasks import dense


def read(model: Model, file: pathlib.Path) -> np.ndarray:
  """A whole image as the model was trained to see it, fitted into `dense.sides`: uint8 or, where its data is that, float32.

  Raises:
    BadInput: it cannot be read, or has another number of bands.
  """
  bands = len(model.mean)
  try:
    if model.description["data"]["dtype"] == "uint8":
      image = image_ops.decode(file.read_bytes(), bands)
    else:
      image = rasters.read(str(file), file.name).astype(np.float32, copy=False)
      if image.shape[-1] != bands:
        raise ValueError(f"has {image_ops.count_bands(image.shape[-1])}, not {bands}")
  except OSError as error:
    raise BadInput(f"{file} cannot be read: {error.strerror or error}") from error
  except ValueError as error:
    raise BadInput(f"{file} {error}") from error
  size = dense_views.fit(image.shape[:2], tuple(model.description["dense"]["sides"]))
  return image if size == image.shape[:2] else image_ops.resize(image, size, "bilinear")


class LabelMaps:
  """The label maps of a folder, by the name of their image."""

  def __init__(self, folder: str, num_classes: int):
    """Finds what says what their values mean: in the folder or up to two above it, else they are the classes themselves.

    Raises:
      BadInput: there is no such folder, or it names another number of classes.
    """
    self._folder = pathlib.Path(folder)
    if not self._folder.is_dir():
      raise BadInput(f"--labels={folder} is no folder")
    places = [self._folder, *self._folder.resolve().parents[:2]]
    said = next((place / name for place in places for name in labels.FILES if (place / name).is_file()), None)
    if said:
      self._classes = labels.parse(said.name, said.read_text("utf-8"), str(said))
      if len(self._classes.names) != num_classes:
        raise BadInput(f"{said} names {len(self._classes.names)} classes, the model has {num_classes}")
    else:
      self._classes = labels.parse("classes.txt", "\n".join(map(str, range(num_classes))), folder)

  def of(self, image: pathlib.Path, size: tuple[int, int]) -> np.ndarray:
    """The map of an image, uint8 [height, width] of a size.

    Raises:
      BadInput: there is none, or it cannot be read.
    """
    file = next((path for path in sorted(self._folder.rglob(f"{image.stem}.*")) if path.suffix.lower() in (".png", ".bmp", ".tif")), None)
    if file is None:
      raise BadInput(f"{self._folder} holds no label map {image.stem}.png")
    try:
      return labels.resize(labels.read(file.read_bytes(), self._classes), size)
    except ValueError as error:
      raise BadInput(f"{file} {error}") from error


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

  Args, raises: as `segment`; truth: uint8 [height, width], 255 where nothing is known; bands: see `mixing.shown`.
  """
  if wrong := [band for band in bands if not 0 <= band < image.shape[-1]]:
    raise BadInput(f"there is no band {wrong[0]}; the images have bands 0 to {image.shape[-1] - 1}")
  found = segment(model, params, image)
  known = np.full(found.shape, labels.NONE) if truth is None else truth.astype(np.int32)
  rgb = dense.as_rgb(image[None], model.mean, model.std, bands)
  count = model.description["segmentation"]["num_classes"]
  views = np.asarray(dense.label_views(rgb, found[None], known[None], count, labels.NONE))[0]
  panels = list(zip(("image", "truth", "prediction", "errors"), map(drawing.enlarge, views)))
  panels = [panel for panel in panels if truth is not None or panel[0] in ("image", "prediction")]
  sheet = np.asarray(drawing.sheet(panels, 2))
  shown = sorted({*np.unique(found), *np.unique(known)} - {labels.NONE})
  return Image.fromarray(drawing.with_legend(sheet, [model.class_name(label) for label in range(count)], shown))
