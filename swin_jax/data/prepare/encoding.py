"""Encodes an example as the record that `prepare` stores: checked, shrunk on request, packed."""

import io
import math

import numpy as np
from PIL import Image

from swin_jax.data.prepare import counting
from swin_jax.data.read import (
  array_files,
  formats,
  image_arrays,
  image_ops,
  limits,
  orientation,
  shards,
  targets,
)
from swin_jax.data.read.example import Example


def store(example: Example, short_side: int, quality: int) -> tuple[bytes, counting.Count]:
  """Returns the record of an example, and what is counted of it.

  An image file keeps its bytes or is shrunk, see `shrink`; an array is stored unchanged.

  Raises:
    Exception: see `shrink`; or the map does not have the size of its image, or the array is too large.
  """
  if isinstance(example.image, np.ndarray):
    if example.image.size > limits.NUMBERS * limits.MAX_PIXELS:
      raise ValueError(f"holds {example.image.size:,} numbers, more than training reads at once; give --tile")
    target, look = example.target, counting.look_at_array(example.image)
    encoded = array_files.pack(example.image)
  else:
    target = _fit(example, short_side)  # first, because it fails quickly
    encoded, look = shrink(example.image, short_side, quality)
  target_file = None if target is None else targets.encode(target)
  stored = Example(encoded, example.label, example.name, target_file)
  return shards.pack(stored), counting.see(stored, look, target, example.undeclared or 0, example.turn)


def _fit(example: Example, short_side: int) -> np.ndarray | None:
  """Returns the map of an example, shrunk like its image; None if it has no map.

  Raises:
    ValueError: the map does not have the size of its image.
  """
  if example.target is None:
    return None
  size = orientation.upright_size(example.image)
  targets.check_size(example.target.shape, size)
  return targets.resize(example.target, _shrunk(size, short_side))


def _shrunk(size: tuple[int, int], short_side: int) -> tuple[int, int]:
  """Returns the two sides of an image after its short side is limited to `short_side` pixels; 0:
  unchanged.
  """
  if not short_side or min(size) <= short_side:
    return size
  factor = short_side / min(size)
  return tuple(max(short_side, round(side * factor)) for side in size)


def shrink(encoded: bytes, short_side: int, quality: int) -> tuple[bytes, counting.Look]:
  """Shrinks an image to a short side of `short_side` pixels, as JPEG, and looks at the result.

  Smaller images, and all images if `short_side` is 0, are only checked and keep their bytes, with the EXIF
  orientation that decoding applies. Shrunk images are upright.

  Raises:
    Exception: the image cannot be decoded, is too large to be read again, or has more than 8 bits per band
      and would be shrunk.
  """
  with formats.open_image(encoded) as image:
    size = _shrunk(image.size, short_side)
    if size == image.size:
      if math.prod(size) > limits.MAX_PIXELS:
        raise ValueError(
          f"has {math.prod(size):,} pixels, more than training reads; give --short_side or --tile"
        )
      look = counting.look_at_file(image, orientation.upright_size(encoded, image))
      image.draft("L", (1, 1))  # reads a JPEG to its end, but decodes it at an eighth of its size
      image.load()
      return encoded, look
    if image.mode not in image_ops.EIGHT_BIT_MODES:
      raise ValueError(
        f"pixels of mode {image.mode} cannot be stored as JPEG; prepare this set without --short_side"
      )
    opacity = image_arrays.opacity(image)
    small = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB").resize(
      size, Image.Resampling.LANCZOS
    )
  out = io.BytesIO()
  upright = Image.fromarray(orientation.turn(np.asarray(small), orientation.of(encoded)))
  upright.save(out, "JPEG", quality=quality)
  size, bands = (upright.height, upright.width), len(upright.getbands())
  return out.getvalue(), counting.Look(size, bands, "JPEG", opacity=opacity)
