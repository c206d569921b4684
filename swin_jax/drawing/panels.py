"""Panels side by side, with captions, and heat maps over an image.

Pixels are uint8 [height, width, 3] unless stated otherwise.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from swin_jax.drawing import legend
from swin_jax.terminal.errors import BadInput

SIDE = 192  # minimum pixels of the shorter side of a panel
GREY = 128  # pixel value of masked patches


def to_rgb(image: np.ndarray, original: np.ndarray, bands: Sequence[int] = ()) -> np.ndarray:
  """Returns an image as pixels, enlarged to a panel if it is small.

  Grey and RGB images in 0..1 are shown unchanged. Any other data is stretched band by band, so that the 2nd
  to 98th percentile of the original become 0..1. NaN is black.

  Args:
    image: float32 [height, width, bands].
    original: same shape; determines the stretch, so that all panels share it.
    bands: one band, or three as red, green, blue, counted from 0; () for the first three, or the first if
      there are fewer.

  Raises:
    BadInput: there is no such band.
  """
  count = image.shape[-1]
  bands = tuple(bands) or ((0, 1, 2) if count >= 3 else (0,))
  check_bands(bands, count)
  shown = original[:, :, bands]
  low, high = np.nanpercentile(np.where(np.isnan(shown).all(axis=(0, 1)), 0.0, shown), (2, 98), axis=(0, 1))
  if count not in (1, 3) or low.min() < 0 or high.max() > 1:
    image = (image[:, :, bands] - low) / np.maximum(high - low, 1e-12)
  else:
    image = image[:, :, bands]
  pixels = np.round(np.clip(np.nan_to_num(image), 0.0, 1.0) * 255.0).astype(np.uint8)
  return enlarge(pixels if len(bands) == 3 else np.repeat(pixels, 3, axis=-1))


def check_bands(bands: Sequence[int], count: int) -> None:
  """Checks that every band is from 0 to `count` - 1.

  Raises:
    BadInput: one is not.
  """
  if wrong := [band for band in bands if not 0 <= band < count]:
    raise BadInput(f"the images have no band {wrong[0]}; they have bands 0 to {count - 1}")


def enlarge(panel: np.ndarray) -> np.ndarray:
  """Enlarges a panel [height, width, ...] by repeating pixels; its shorter side gets at least SIDE pixels."""
  zoom = -(-SIDE // min(panel.shape[:2]))
  return panel.repeat(zoom, axis=0).repeat(zoom, axis=1)


def spread(values: np.ndarray, side: int, size: tuple[int, int], smooth: bool = False) -> np.ndarray:
  """Expands a map of tokens to the pixels of a panel.

  Args:
    values: [H, W].
    side: pixels of the panel that a token covers, along each axis.
    size: (height, width) of the panel; tokens at its border may extend past it.
    smooth: whether to interpolate between the centres of the tokens.

  Returns:
    [height, width].
  """
  if smooth:
    values = np.asarray(
      Image.fromarray(values).resize(
        (values.shape[1] * side, values.shape[0] * side), Image.Resampling.BILINEAR
      )
    )
  else:
    values = values.repeat(side, axis=0).repeat(side, axis=1)
  return values[: size[0], : size[1]]


def heat(panel: np.ndarray, values: np.ndarray, reach: np.ndarray | None = None) -> np.ndarray:
  """Overlays a heat map on a grey version of a panel; dark is 0, light is the maximum.

  Args:
    panel: the background.
    values: [height, width] of the panel, not negative.
    reach: bool [height, width], true where there are values; the panel is pale elsewhere.
  """
  grey = np.repeat(np.asarray(Image.fromarray(panel).convert("L"), np.float32)[:, :, None], 3, axis=2)
  position = values / max(values.max(), 1e-12) * (len(legend.HEAT) - 1)
  colours = [np.interp(position, np.arange(len(legend.HEAT)), legend.HEAT[:, i]) for i in range(3)]
  mixed = 0.3 * grey + 0.7 * np.stack(colours, axis=-1)
  if reach is not None:
    mixed = np.where(reach[:, :, None], mixed, 0.4 * grey + 0.6 * 255.0)
  return np.round(mixed).astype(np.uint8)


def frame(panel: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
  """Draws a frame, visible on dark and light, around a box (top, left, bottom, right) in pixels."""
  image = Image.fromarray(panel)
  draw, (top, left, bottom, right) = ImageDraw.Draw(image), box
  # A token at the border may extend past the image; its frame is drawn inside the image.
  left, top, right, bottom = (
    max(left - 2, 0),
    max(top - 2, 0),
    min(right + 1, image.width - 1),
    min(bottom + 1, image.height - 1),
  )
  draw.rectangle((left, top, right, bottom), outline=(0, 0, 0), width=1)
  draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=(255, 255, 255), width=1)
  return np.asarray(image)


def with_titles(picture: np.ndarray, heading: str, titles: Sequence[str]) -> np.ndarray:
  """Returns a picture of equal columns with a heading and the titles of the columns added above."""
  width = picture.shape[1]
  column = width // max(len(titles), 1)
  size = max(12, min(column // 8, 20))
  line = round(1.5 * size)
  strip = Image.new("RGB", (width, line * (1 + bool(titles))), "white")
  draw = ImageDraw.Draw(strip)
  draw.text((size // 2, line // 2), heading, "black", _fitting(heading, size, width - size), anchor="lm")
  for i, title in enumerate(titles):
    middle = (i * column + column // 2, line + line // 2)
    draw.text(middle, title, "black", _fitting(title, size, column), anchor="mm")
  return np.concatenate([np.asarray(strip), picture])


def _fitting(text: str, size: int, width: int) -> ImageFont.FreeTypeFont:
  """Returns the font of a size, or a smaller one in which a text is not wider than `width`."""
  font = ImageFont.load_default(size)
  length = font.getlength(text)
  return font if length <= width else ImageFont.load_default(max(1, size * width / length))


def sheet(panels: Sequence[tuple[str, np.ndarray]], columns: int) -> Image.Image:
  """Arranges panels of one size on white, each below its caption.

  Uses the smallest number of rows with at most `columns` panels, and balances their lengths.
  """
  columns = -(-len(panels) // -(-len(panels) // columns))
  height, width = panels[0][1].shape[:2]
  size, gap = max(13, width // 16), max(8, width // 24)
  line = round(1.5 * size)
  rows = -(-len(panels) // columns)
  image = Image.new("RGB", (columns * (width + gap) + gap, rows * (line + height + gap) + gap), "white")
  draw = ImageDraw.Draw(image)
  for i, (caption, panel) in enumerate(panels):
    x, y = gap + i % columns * (width + gap), gap + i // columns * (line + height + gap)
    font = _fitting(caption, size, width)
    draw.text((x + width // 2, y + line // 2), caption, fill="black", font=font, anchor="mm")
    image.paste(Image.fromarray(panel), (x, y + line))
  return image
