"""The ranges of images of eight bits: whole numbers from 0 to 255, or fractions from 0 to 1."""

import numpy as np

_OVERSHOOT = 0.5  # by which interpolation may leave 0..1; images of 0..255 or of deviations leave it further
_UNIT_LIKE = 20  # images normalised by their deviation stay below it, and those of 0..255 do not


def check(images: np.ndarray) -> None:
  """Checks the type and the range of images, see the top; arrays of any shape.

  Raises:
    ValueError: the images are empty, or neither; the message says what they look like.
  """
  if not images.size:
    raise ValueError(f"is empty: {list(images.shape)}")
  whole = np.issubdtype(images.dtype, np.integer)
  if not (whole or np.issubdtype(images.dtype, np.floating)):
    raise ValueError(f"is of type {images.dtype}: give whole numbers from 0 to 255, or fractions from 0 to 1")
  low, high = images.min().item(), images.max().item()
  if whole:
    if low < 0 or high > 255:
      depth = ", or divide 16-bit images by 65535" if low >= 0 and high <= 65535 else ""
      raise ValueError(
        f"has {images.dtype} pixels from {low:,} to {high:,}: whole numbers must be from 0 to 255; convert"
        f" them to that range{depth}"
      )
  elif not np.isfinite([low, high]).all():
    raise ValueError("holds numbers that are not finite")
  elif low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
    advice = "divide them by 255" if low >= 0 and _UNIT_LIKE < high <= 255 else "convert them to that range"
    if low < -_OVERSHOOT and max(-low, high) < _UNIT_LIKE:
      advice = "they look normalised already; give the original pixels"
    raise ValueError(
      f"has {images.dtype} pixels from {low:.4g} to {high:.4g}: fractions must be from 0 to 1; {advice}"
    )
