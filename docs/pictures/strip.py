"""Puts three pictures that `swin_jax show` drew below each other, as in the README.

python docs/pictures/strip.py RECONSTRUCT SEGMENT ATTENTION OUT
"""

import sys

from PIL import Image

WIDTH, ROW = 808, 224  # pixels of a row of four panels with their titles


def main(reconstruct: str, segment: str, attention: str, out: str) -> None:
  rows = [Image.open(path).convert("RGB") for path in (reconstruct, attention)]
  rows = [row.crop((0, 0, WIDTH, ROW)) for row in rows]
  rows.insert(1, in_one_row(Image.open(segment).convert("RGB")))
  strip = Image.new("RGB", (WIDTH, sum(row.height for row in rows)), "white")
  top = 0
  for row in rows:
    strip.paste(row, (0, top))
    top += row.height
  strip.save(out, optimize=True)


def in_one_row(picture: Image.Image) -> Image.Image:
  """Returns two rows of two panels, which have a legend below them, as one row of four, without it."""
  width, height = picture.width, picture.height * 11 // 24
  row = Image.new("RGB", (2 * width, height), "white")
  for i in range(2):
    row.paste(picture.crop((0, i * height, width, (i + 1) * height)), (i * width, 0))
  return row.resize((WIDTH, round(height * WIDTH / row.width)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
  main(*sys.argv[1:])
