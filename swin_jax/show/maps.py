"""What a model says of whole images as files called as these, at their size: GeoTIFFs in their place on
Earth, or PNGs of classes.
"""

from collections.abc import Sequence
import pathlib

import numpy as np
from PIL import Image

from swin_jax.data.read import rasters, targets
from swin_jax.drawing import legend
from swin_jax.show import output
from swin_jax.show.whole_images import Whole
from swin_jax.terminal.errors import BadInput


class Maps:
  """A folder of maps."""

  def __init__(self, folder: pathlib.Path, class_names: Sequence[str]):
    """Writes the names of classes beside their maps, so that these can be the labels of a set.

    Args:
      folder: where to; it is there.
      class_names: by class; none for numbers.

    Raises:
      BadInput: there are other names already.
    """
    self._folder, self._colours = folder, legend.palette(len(class_names))
    names, path = "".join(name + "\n" for name in class_names), folder / "classes.txt"
    if names and path.exists() and path.read_text(encoding="utf-8") != names:
      raise BadInput(f"{path} names other classes than the model's; give another --maps")
    if names:
      path.write_text(names, encoding="utf-8")

  def write(self, image: Whole, found: np.ndarray) -> pathlib.Path:
    """Writes the classes (uint8) or numbers (float32) [height, width] that were found in an image.

    The map is of the file's size, and unknown where the file holds no data.
    """
    found = targets.where_valid(targets.resize(found, image.size), image.valid_in_file)
    of_classes = found.dtype == np.uint8
    path = output.new_file(self._folder, image.name, ".png" if of_classes and not image.place else ".tif")
    if path.suffix == ".png":
      file = Image.fromarray(found, "P")
      # All 256 colours: with fewer, Pillow writes fewer bits a pixel, and 255 would become a class.
      file.putpalette(np.pad(self._colours, ((0, 256 - len(self._colours)), (0, 0))).tobytes())
      file.save(path)
    else:
      rasters.write(
        str(path), found, image.place, targets.unknown(found.dtype), self._colours if of_classes else None
      )
    return path
