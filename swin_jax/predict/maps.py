"""Writes a model's predictions for whole images to files named like the images, at their size.

The files are georeferenced GeoTIFFs, PNGs of classes, or TIFFs of values.
"""

from collections.abc import Callable, Sequence
import pathlib

import numpy as np
from PIL import Image

from swin_jax.data.read import class_files, places, targets
from swin_jax.drawing import legend
from swin_jax.predict.whole_images import Whole
from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput


class Maps:
  """A folder of maps."""

  def __init__(self, folder: pathlib.Path, class_names: Sequence[str]):
    """Writes the names of classes to the folder of maps, so that the maps can serve as labels of a data set.

    Args:
      folder: for the maps; it must exist.
      class_names: by class; empty for values.

    Raises:
      BadInput: the folder already holds different names.
    """
    self._folder, self._colours = folder, legend.palette(len(class_names))
    self._class_names = tuple(class_names)
    names, path = class_files.text_of(class_names), folder / "classes.txt"
    if names and path.exists() and path.read_text(encoding="utf-8") != names:
      raise BadInput(f"{path} has class names that differ from the model's; give another --maps")
    if names:
      files.write(path, names)

  def write(
    self, image: Whole, predictions: np.ndarray, path_of: Callable[[str], pathlib.Path]
  ) -> pathlib.Path:
    """Writes the predicted classes (uint8) or values (float32) [height, width] of an image.

    The map has the size of the image's file, and is unknown where the file holds no data.

    Args:
      image, predictions: image and map.
      path_of: ending → path of the file; its folder must exist.

    Returns:
      The file written.
    """
    predictions = targets.where_valid(targets.resize(predictions, image.size), image.valid_in_file)
    of_classes = predictions.dtype == np.uint8
    path = path_of(".png" if of_classes and not image.place else ".tif")
    if path.suffix == ".png":
      file = Image.fromarray(predictions, "P")
      # All 256 colours: with fewer, Pillow writes fewer bits per pixel, and 255 would become a class.
      file.putpalette(np.pad(self._colours, ((0, 256 - len(self._colours)), (0, 0))).tobytes())
      with files.replacing(path) as partial:
        file.save(partial, "PNG")
    else:
      colours = self._colours if of_classes else None
      with files.replacing(path) as partial:
        places.write(
          str(partial),
          predictions,
          image.place,
          targets.unknown(predictions.dtype),
          colours,
          self._class_names,
        )
    return path
