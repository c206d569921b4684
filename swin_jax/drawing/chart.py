"""A chart of lines: axes with ticks, a grid and a title, as pixels."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from swin_jax.drawing import ticks

SIZE = 560, 320  # (width, height) in pixels
_FINER = 3  # lines are drawn this many times larger and reduced, so that they are smooth
_LEFT, _TOP, _RIGHT, _BOTTOM = 66, 34, 26, 40  # margins of the area of the lines
_FONT, _TITLE_FONT = 13, 15  # sizes in pixels
_TEXT, _AXIS, _GRID = (60, 60, 60), (120, 120, 120), (228, 228, 228)
_LOG_FROM = 30.0  # ratio of the largest to the smallest value from which the axis may show ratios
# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS = (
  (0, 114, 178),
  (213, 94, 0),
  (0, 158, 115),
  (204, 121, 167),
  (230, 159, 0),
  (86, 180, 233),
  (90, 90, 90),
)


class Line(NamedTuple):
  """A line of a chart.

  Attributes:
    x, y: of its points, finite.
    colour: uint8 red, green, blue.
    is_faint: whether it is thin and pale, behind the others.
    has_dots: whether every point has a dot.
  """

  x: Sequence[float]
  y: Sequence[float]
  colour: tuple[int, int, int]
  is_faint: bool = False
  has_dots: bool = False


def draw(
  title: str, x_title: str, x_range: tuple[float, float], lines: Sequence[Line], may_be_log: bool = False
) -> np.ndarray:
  """Returns a chart of at least one line with at least one point: uint8 [height, width, 3].

  Args:
    title: of the chart: what its values are.
    x_title, x_range: of the horizontal axis.
    lines: to draw, the faint ones first.
    may_be_log: whether the vertical axis shows ratios if the values differ by orders of magnitude.
  """
  horizontal, ys = ticks.linear(x_range, 6, pad=0.0), [value for line in lines for value in line.y]
  is_log = may_be_log and min(ys) > 0 and max(ys) / min(ys) >= _LOG_FROM
  vertical = ticks.logarithmic(ys) if is_log else ticks.linear(ys)
  width, height = SIZE[0] - _LEFT - _RIGHT, SIZE[1] - _TOP - _BOTTOM

  def place(x, y):
    return _LEFT + horizontal.place(x) * width, _TOP + (1 - vertical.place(y)) * height

  image = Image.new("RGB", tuple(_FINER * side for side in SIZE), "white")
  _draw_lines(ImageDraw.Draw(image), horizontal, vertical, lines, place)
  image = image.resize(SIZE, Image.Resampling.LANCZOS)
  pen, font = ImageDraw.Draw(image), ImageFont.load_default(_FONT)
  for tick, label in zip(horizontal.ticks, horizontal.labels, strict=True):
    pen.text((place(tick, vertical.low)[0], SIZE[1] - _BOTTOM + 5), label, _TEXT, font, anchor="mt")
  for tick, label in zip(vertical.ticks, vertical.labels, strict=True):
    pen.text((_LEFT - 7, place(horizontal.low, tick)[1]), label, _TEXT, font, anchor="rm")
  unit = f" · {horizontal.unit}" if horizontal.unit else ""
  pen.text((_LEFT + width / 2, SIZE[1] - 4), x_title + unit, _TEXT, font, anchor="mb")
  unit = f"  (in {vertical.unit})" if vertical.unit else ""
  pen.text((_LEFT, _TOP - 10), title + unit, "black", ImageFont.load_default(_TITLE_FONT), anchor="ls")
  return np.asarray(image)


def grid(charts: Sequence[np.ndarray], columns: int) -> np.ndarray:
  """Returns charts side by side, row by row, on white."""
  blank = np.full_like(charts[0], 255)
  rows = -(-len(charts) // columns)
  charts = [*charts, *[blank] * (rows * columns - len(charts))]
  return np.concatenate(
    [np.concatenate(charts[i * columns : (i + 1) * columns], axis=1) for i in range(rows)]
  )


def with_names(picture: np.ndarray, entries: Sequence[tuple[str, tuple[int, int, int], bool]]) -> np.ndarray:
  """Returns a picture with the meaning of its lines added above: (name, colour, whether it is faint) each."""
  font, gap, sample = ImageFont.load_default(_FONT + 1), 10, 26
  pen, places, x, y = ImageDraw.Draw(Image.new("RGB", (1, 1))), [], gap, gap
  for name, *_ in entries:
    length = sample + 6 + round(pen.textlength(name, font)) + 2 * gap
    if x > gap and x + length > picture.shape[1]:
      x, y = gap, y + 22
    places.append((x, y))
    x += length
  strip = Image.new("RGB", (picture.shape[1], y + 22), "white")
  pen = ImageDraw.Draw(strip)
  for (name, colour, is_faint), (x, y) in zip(entries, places, strict=True):
    if is_faint:
      pen.line((x, y + 8, x + sample, y + 8), _pale(colour), 2)
    else:
      pen.line((x, y + 8, x + sample, y + 8), colour, 3)
      pen.ellipse((x + sample // 2 - 4, y + 4, x + sample // 2 + 4, y + 12), colour)
    pen.text((x + sample + 6, y + 8), name, "black", font, anchor="lm")
  return np.concatenate([np.asarray(strip), picture])


def _draw_lines(
  pen: ImageDraw.ImageDraw,
  horizontal: ticks.Scale,
  vertical: ticks.Scale,
  lines: Sequence[Line],
  place: Callable[[float, float], tuple[float, float]],
) -> None:
  """Draws grid, axes and lines, `_FINER` times larger than `place` says."""

  def at(x, y):
    return tuple(_FINER * each for each in place(x, y))

  for tick in horizontal.ticks:
    pen.line((*at(tick, vertical.low), *at(tick, vertical.high)), _GRID, _FINER)
  for tick in vertical.ticks:
    pen.line((*at(horizontal.low, tick), *at(horizontal.high, tick)), _GRID, _FINER)
  for line in lines:
    points = [at(x, y) for x, y in zip(line.x, line.y, strict=True)]
    colour = _pale(line.colour) if line.is_faint else line.colour
    pen.line(points, colour, round(_FINER * (1.4 if line.is_faint else 2)), joint="curve")
    if line.has_dots or len(points) == 1:
      reach = 3.2 * _FINER
      for x, y in points:
        pen.ellipse((x - reach, y - reach, x + reach, y + reach), colour)
  bottom = at(horizontal.low, vertical.low), at(horizontal.high, vertical.low)
  pen.line((at(horizontal.low, vertical.high), *bottom), _AXIS, _FINER)


def _pale(colour: tuple[int, int, int]) -> tuple[int, int, int]:
  return tuple(round(255 - 0.5 * (255 - each)) for each in colour)
