"""Colours of classes and values, and the legends under a picture."""

from collections.abc import Sequence
import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# From dark blue through magenta and orange to light yellow, increasingly light, so that it works in grey too.
HEAT = np.float32([[12, 10, 60], [100, 20, 115], [195, 50, 85], [245, 145, 35], [255, 250, 170]])
TOO_LOW_TOO_HIGH = np.float32([[20, 60, 160], [245, 245, 245], [170, 20, 30]])
VALUE_REACH, ERROR_REACH = 2.0, 1.0  # range of the colours of values and errors, in standard deviations


ERROR = (255, 0, 255)  # of wrong pixels: no class has it, and few images


def palette(count: int) -> np.ndarray:
  """Returns a colour for each class: uint8 [count, 3].

  Consecutive classes have clearly different colours. The colour of a class does not depend on `count`.
  """
  colours = []
  for i in range(count):
    hue = (i * 0.61803398875) % 1.0  # the golden ratio spreads hues evenly for any count
    colours.append(colorsys.hsv_to_rgb(hue, (0.9, 0.55, 0.75)[i % 3], (0.95, 0.8, 0.6)[i // 3 % 3]))
  return np.round(255 * np.asarray(colours)).astype(np.uint8)


def name_of(label: int, name: str, font: ImageFont.FreeTypeFont) -> str:
  """Returns the name of a class, or "class" and its number if the font lacks a character of the name."""

  def drawn(character: str) -> bytes:
    return bytes(font.getmask(character))

  missing = drawn("\U0010ffff")  # no font has this character
  try:
    readable = all(drawn(character) != missing for character in name if not character.isspace())
  except UnicodeError:  # a bitmap font
    readable = False
  return name if readable and name.strip() else f"class {label}"


def with_legend(
  picture: np.ndarray, class_names: Sequence[str], shown: Sequence[int] | None = None, errors: bool = True
) -> np.ndarray:
  """Returns a picture with a legend of class names and colours, and that of errors, added below.

  Args:
    picture: uint8 [height, width, 3].
    class_names: name of every class.
    shown: classes in the legend; None for all.
    errors: whether the picture shows errors.
  """
  shown = range(len(class_names)) if shown is None else shown
  size, font, gap = _sizes(picture)
  measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))
  colours = palette(len(class_names))
  entries = [(name_of(i, class_names[i], font), tuple(map(int, colours[i]))) for i in shown]
  entries += [("error", ERROR)] * errors
  places, x, y = [], gap, gap
  for name, _ in entries:
    length = size + gap + round(measure.textlength(name, font)) + 2 * gap
    if x > gap and x + length > picture.shape[1]:
      x, y = gap, y + size + gap
    places.append((x, y))
    x += length
  strip = Image.new("RGB", (picture.shape[1], y + size + gap), "white")
  draw = ImageDraw.Draw(strip)
  for (name, colour), (x, y) in zip(entries, places, strict=True):
    draw.rectangle((x, y, x + size, y + size - 1), fill=colour, outline="black")
    draw.text((x + size + gap, y - size // 8), name, "black", font)
  return np.concatenate([picture, np.asarray(strip)])


def with_scales(picture: np.ndarray, mean: float, std: float, errors: bool = True) -> np.ndarray:
  """Returns a picture with colour scales of values and errors added below.

  Args:
    picture: uint8 [height, width, 3].
    mean, std: mean and standard deviation of the values, in their unit.
    errors: whether the picture shows errors.
  """
  size, font, gap = _sizes(picture)
  scales = (
    ("values", HEAT, mean - VALUE_REACH * std, mean + VALUE_REACH * std),
    ("errors", TOO_LOW_TOO_HIGH, -ERROR_REACH * std, ERROR_REACH * std),
  )[: 1 + errors]
  strip = Image.new("RGB", (picture.shape[1], len(scales) * (size + gap) + gap), "white")
  draw = ImageDraw.Draw(strip)
  for i, (name, colours, low, high) in enumerate(scales):
    y, texts = gap + i * (size + gap), (f"{name} {low:.4g} or less", f"{high:.4g} or more")
    lengths = [round(draw.textlength(text, font)) for text in texts]
    left, right = max(lengths[0] + 2 * gap, 6 * size), picture.shape[1] - lengths[1] - 2 * gap
    if right > left:
      place = np.linspace(0, len(colours) - 1, right - left)
      bar = np.stack([np.interp(place, np.arange(len(colours)), colours[:, j]) for j in range(3)], axis=-1)
      strip.paste(Image.fromarray(np.repeat(np.round(bar).astype(np.uint8)[None], size, axis=0)), (left, y))
    draw.text((left - lengths[0] - gap, y - size // 8), texts[0], "black", font)
    draw.text((max(right, left) + gap, y - size // 8), texts[1], "black", font)
  return np.concatenate([picture, np.asarray(strip)])


def _sizes(picture: np.ndarray) -> tuple[int, ImageFont.FreeTypeFont, int]:
  """Returns the height of a line in pixels, its font, and the gap between two lines."""
  size = max(12, min(picture.shape[1] // 40, 20))
  return size, ImageFont.load_default(size), size // 2
