"""How evaluation shows images to a trained model: reads them, crops and resizes."""

from collections.abc import Callable
import functools
import os
from typing import Any

import numpy as np
from PIL import Image

from swin_jax.data.read import model_images
from swin_jax.saved import description as descriptions
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import say


class Presented:
  """Images as evaluation shows them to a model.

  Attributes:
    bands, dtype: of the model's images.
  """

  def __init__(self, description: dict[str, Any]):
    self._description, data = description, description["data"]
    self.bands, self.dtype = len(data["mean"]), data["dtype"]

  @functools.cached_property
  def view(self) -> Callable[[np.ndarray], np.ndarray]:
    """What evaluation shows of an image: pixels [height, width, bands] → pixels, cropped and resized.

    Says what is assumed for an older model folder. Raises BadInput if the task does not define it.
    """
    view, assumed = descriptions.view_of(self._description)
    if assumed:
      say(f"the model does not state how evaluation shows images to it; assuming {assumed}")
    return view

  def __call__(self, image: str | os.PathLike | np.ndarray | Image.Image) -> np.ndarray:
    """Returns the pixels that the model gets of one image, not normalised: uint8 or float32.

    Args:
      image: path of an image file, a raster or an array; an array [height, width, bands] of the numbers that
        the model was trained on, or, for uint8, of fractions in 0..1; or an image of Pillow.

    Raises:
      BadInput: the image cannot be read, or has a different number of bands, type or range.
    """
    name = os.fspath(image) if isinstance(image, str | os.PathLike) else "the image"
    try:
      return self.view(model_images.take(image, self.bands, self.dtype))
    except OSError as error:
      raise BadInput(f"{name} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
      raise BadInput(f"{name} {error}") from error
