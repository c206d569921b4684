"""A colour for each class, and what says so under a picture."""

from collections.abc import Sequence
import colorsys

import numpy as np
from PIL import Image
from PIL import ImageDraw
from PIL import ImageFont


def palette(count: int) -> np.ndarray:
  """uint8 [count, 3]: a colour for each class; those of neighbouring numbers are far apart, and the same class has always the same."""
  colours = []
  for i in range(count):
    hue = (i * 0.61803398875) % 1.0  # the golden ratio spreads them evenly, however many there are
    colours.append(colorsys.hsv_to_rgb(hue, (0.9, 0.55, 0.75)[i % 3], (0.95, 0.8, 0.6)[i // 3 % 3]))
  return np.round(255 * np.asarray(colours)).astype(np.uint8)


def with_legend(picture: np.ndarray, class_names: Sequence[str], shown: Sequence[int] | None = None) -> np.ndarray:
  """Puts the names of classes and their colours under a picture.

  Args:
    picture: uint8 [height, width, 3].
    class_names: by class.
    shown: the classes that are named; None for all.
  """
  shown = range(len(class_names)) if shown is None else shown
  size = max(12, min(picture.shape[1] // 40, 20))
  font, gap = ImageFont.load_default(size), size // 2
  measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
  places, x, y = [], gap, gap
  for i in shown:
    length = size + gap + round(measure.textlength(class_names[i], font)) + 2 * gap
    if x > gap and x + length > picture.shape[1]:
      x, y = gap, y + size + gap
    places.append((x, y))
    x += length
  strip = Image.new("RGB", (picture.shape[1], y + size + gap), "white")
  draw = ImageDraw.Draw(strip)
  colours = palette(len(class_names))
  for i, (x, y) in zip(shown, places):
    draw.rectangle((x, y, x + size, y + size - 1), fill=tuple(map(int, colours[i])), outline="black")
    draw.text((x + size + gap, y - size // 8), class_names[i], "black", font)
  return np.concatenate([picture, np.asarray(strip)])
