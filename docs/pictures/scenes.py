"""Draws small scenes of the digits that ship with swin_jax, as a set for semantic segmentation.

  python docs/pictures/scenes.py OUT [NUMBER]

Writes OUT/{train,val}/{images,labels}/I.png and OUT/classes.txt. A scene has 64 × 96 pixels: a noisy
background, and digits 0, 1 and 4 of random size, place and colour, which survive a left-right flip.
"""

import pathlib
import sys

import numpy as np
from PIL import Image

from swin_jax.data.read.digits import Digits

CLASSES = ("background", "zero", "one", "four")
DIGITS = (0, 1, 4)


def scene(rng, digits):
  """Returns an image uint8 [64, 96, 3] and its classes uint8 [64, 96]."""
  base, slope = rng.uniform(30, 110, 3), rng.uniform(-0.5, 0.5, 3)
  pixels = base + slope * np.arange(96)[:, None] + rng.normal(0, 12, (64, 96, 3))
  classes = np.zeros((64, 96), np.uint8)
  for left in range(0, 96, 32):
    for top in (0, 32):
      if rng.random() < 0.25:
        continue
      digit = digits[rng.integers(len(digits))]
      side = int(rng.integers(22, 33))
      drawn = (
        np.asarray(Image.fromarray(digit.image[..., 0]).resize((side, side), Image.Resampling.BICUBIC)) / 255
      )
      row, column = top + rng.integers(33 - side), left + rng.integers(33 - side)
      box = (slice(row, row + side), slice(column, column + side))
      colour = rng.uniform(150, 255, 3)
      pixels[box] += drawn[..., None] * (colour - pixels[box])
      classes[box][drawn > 0.35] = 1 + DIGITS.index(digit.label)
  return np.clip(pixels, 0, 255).astype(np.uint8), classes


def main(out: str, number: str = "400") -> None:
  rng = np.random.default_rng(0)
  for split, count in (("train", int(number)), ("val", max(int(number) // 10, 4))):
    digits = [example for example in Digits(split) if example.label in DIGITS]
    for kind in ("images", "labels"):
      pathlib.Path(out, split, kind).mkdir(parents=True, exist_ok=True)
    for i in range(count):
      image, classes = scene(rng, digits)
      Image.fromarray(image).save(pathlib.Path(out, split, "images", f"{i}.png"))
      Image.fromarray(classes).save(pathlib.Path(out, split, "labels", f"{i}.png"))
  pathlib.Path(out, "classes.txt").write_text("\n".join(CLASSES) + "\n")


if __name__ == "__main__":
  main(*sys.argv[1:])
