"""A view whose classes are numbered as a model numbers them, not as the data does."""

import dataclasses
from typing import Any

import numpy as np

from swin_jax.data.read import class_names, labels
from swin_jax.data.read.decoding import Decoded


@dataclasses.dataclass(frozen=True)
class Renumbered:
  """The view of an example with other numbers of classes.

  Attributes:
    view: the view, see `views.py`.
    label_of: for each class of the data, the label that the view gets; `class_names.ABSENT` for none. Then an
      image has no class, and neither has a pixel.
  """

  view: Any
  label_of: tuple[int, ...]

  def __call__(self, example: Decoded, rng: np.random.Generator) -> dict[str, np.ndarray]:
    label = self.label_of[example.label] if example.label >= 0 else class_names.ABSENT
    target = example.target
    if target is not None:
      target = labels.renumbering(self.label_of)[target]
    return self.view(example._replace(label=label, target=target), rng)
