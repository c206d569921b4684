"""Measures and writes the statistics of a prepared set, which `data.read.statistics` reads and describes.

Mean, std, min, max and valid cover every pixel; percentiles cover a fixed random sample of a million pixels
or more.
"""

from collections.abc import Callable, Sequence
from concurrent import futures
import json
import pathlib
from typing import Any

import numpy as np
from PIL import Image

from swin_jax.data.read import array_files, image_ops, shards, targets
from swin_jax.data.read.example import Source
from swin_jax.data.read.statistics import path_of, read
from swin_jax.terminal import files
from swin_jax.terminal.errors import BadInput, cannot_write

SAMPLE = 2**20  # minimum number of sampled pixels, if the set has that many
_MAX_BAD = 0.01  # largest share of unreadable records; prepare could read them all
_PERCENTILES = (1, 50, 99)


def training_split(path: str) -> str:
  """Returns the split to take statistics from: "train", else the first whose name begins with "train", else
  the first.

  Raises:
    BadInput: there are no splits.
  """
  names = shards.splits(path)
  if not names:
    raise BadInput(f"{path} holds no set that prepare wrote; give --source=")
  return next(
    (name for name in ("train", *names) if name in names and name.lower().startswith("train")), names[0]
  )


def measure(source: Source, num_threads: int, tick: Callable[[], None]) -> dict[str, Any]:
  """Computes the statistics of all bands, see `data.read.statistics`.

  Args:
    source: images or tiles as `prepare` stores them.
    num_threads: number of threads that read.
    tick: called after every record.

  Raises:
    BadInput: too many records cannot be read, their bands differ, a band holds no data, or no value is known.
  """
  each = -(-SAMPLE // len(source))
  bands, values, unreadable, dtypes, coloured = _Columns(), _Columns(), 0, set(), False

  def load(index: int):
    try:
      record = source[index]
      image = (
        array_files.unpack(record.image)
        if array_files.is_packed(record.image)
        else image_ops.decode(record.image, 3)
      )
      target = (
        targets.where_valid(targets.decode(record.target), image_ops.valid_pixels(image))[..., None]
        if source.targets.has_numbers
        else None
      )
    except (ValueError, RuntimeError):
      return None
    colour = array_files.is_packed(record.image) or (image[..., :1] != image).any()
    return image.dtype.name, colour, *(x if x is None else _look(x, each, index) for x in (image, target))

  with futures.ThreadPoolExecutor(num_threads) as pool:
    for start in range(0, len(source), 64):  # few in memory at a time, accumulated in the order of the set
      for looked_at in pool.map(load, range(start, min(start + 64, len(source)))):
        tick()
        if looked_at is None:
          unreadable += 1
          continue
        dtype, colour, image, target = looked_at
        coloured |= bool(colour)
        bands.add(*image)
        if target:
          values.add(*target)
        dtypes.add(dtype)
  if unreadable > _MAX_BAD * len(source):
    raise BadInput(f"{unreadable} of {len(source)} records cannot be read: prepare the set again")
  if len(absent := np.flatnonzero(bands.moments[0] == 0)):
    raise BadInput(f"band {absent[0]} has no data in any image; remove it from the rasters")
  if values.sample and not values.moments[0]:
    raise BadInput("no pixel has a known value; look at the maps in the folders named values")
  # files are decoded to three bands, also grey ones
  columns = {name: numbers if coloured else numbers[:1] for name, numbers in bands.compute().items()}
  about = {
    "images": len(source) - unreadable,
    "unreadable": unreadable,
    "dtype": dtypes.pop() if len(dtypes) == 1 else "float32",
  }
  return columns | ({source.targets.value: values.compute()} if values.sample else {}) | about


class _Columns:
  """Accumulates the statistics of columns of numbers."""

  def __init__(self):
    self.moments, self.sample = None, []

  def add(self, moments: Sequence[np.ndarray], sample: np.ndarray) -> None:
    """Adds the output of `_look`.

    Raises:
      BadInput: the number of columns differs from before.
    """
    if self.moments is not None and len(moments[0]) != len(self.moments[0]):
      raise BadInput(
        f"the images have {len(self.moments[0])} and {len(moments[0])} bands; statistics need one number of "
        "bands, so prepare each kind of image separately"
      )
    self.moments = moments if self.moments is None else _merge(self.moments, moments)
    self.sample.append(sample)

  def compute(self) -> dict[str, list[float]]:
    count, mean, squares, low, high = self.moments
    percentiles = np.nanpercentile(np.concatenate(self.sample), _PERCENTILES, axis=0)
    rows = {
      "mean": mean,
      "std": np.sqrt(squares / count),
      "min": low,
      "max": high,
      "valid": count.astype(np.int64),
    }
    rows |= {f"p{p}": row for p, row in zip(_PERCENTILES, percentiles, strict=True)}
    return {name: row.tolist() for name, row in rows.items()}


def _look(image: np.ndarray, each: int, seed: int) -> tuple[Sequence[np.ndarray], np.ndarray]:
  """Returns the moments of an image [height, width, bands] and a sample of at most `each` of its pixels."""
  flat = image.reshape(-1, image.shape[-1])
  chosen = (
    flat if len(flat) <= each else flat[np.random.default_rng(seed).choice(len(flat), each, replace=False)]
  )
  return _moments(flat), chosen.astype(np.float32)


def _moments(flat: np.ndarray) -> Sequence[np.ndarray]:
  """Computes, from [pixels, bands] in float64: number of valid pixels, mean, sum of squared deviations,
  minimum, maximum.
  """
  if flat.dtype == np.uint8:
    return _moments_of_bytes(flat)
  values = flat.astype(np.float64)
  missing = np.isnan(flat) if flat.dtype.kind == "f" else None
  if missing is not None and missing.any():
    valid = ~missing
    count = valid.sum(axis=0).astype(np.float64)
  else:
    valid, count = True, np.full(flat.shape[1], float(len(flat)))  # numpy is slower with a mask
  mean = np.sum(values, axis=0, where=valid) / np.maximum(count, 1)
  squares = np.sum((values - mean) ** 2, axis=0, where=valid)
  return (
    count,
    mean,
    squares,
    np.min(values, axis=0, where=valid, initial=np.inf),
    np.max(values, axis=0, where=valid, initial=-np.inf),
  )


def _moments_of_bytes(flat: np.ndarray) -> Sequence[np.ndarray]:
  """Computes the same of uint8 from histograms, more than 15 times as fast."""
  bands = [Image.fromarray(band[None]) for band in np.ascontiguousarray(flat.T)]
  counts, values = np.array([band.histogram() for band in bands]).T, np.arange(256.0)
  mean = values @ counts / len(flat)
  squares = (counts * (values[:, None] - mean) ** 2).sum(axis=0)
  low, high = (counts > 0).argmax(axis=0), 255 - (counts[::-1] > 0).argmax(axis=0)
  return counts.sum(axis=0).astype(np.float64), mean, squares, low.astype(np.float64), high.astype(np.float64)


def _merge(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
  """Merges two sets of moments (Chan et al., 1979), which avoids the cancellation of plain sums of
  squares.
  """
  count = one[0] + other[0]
  share = other[0] / np.maximum(count, 1)
  apart = other[1] - one[1]
  squares = one[2] + other[2] + apart**2 * one[0] * share
  return count, one[1] + apart * share, squares, np.minimum(one[3], other[3]), np.maximum(one[4], other[4])


def belongs_to(path: str, made_of: dict[str, Any]) -> bool:
  """Returns whether the statistics exist and belong to this set."""
  try:
    existing = read(path)
  except BadInput:
    return False
  return all(existing.get(key) == value for key, value in json.loads(json.dumps(made_of)).items())


def write(path: str, values: dict[str, Any]) -> None:
  """Writes the file atomically.

  Raises:
    BadInput: the file cannot be written; Fault if the disk is full.
  """
  try:
    files.write(pathlib.Path(path_of(path)), json.dumps(values, indent=1, ensure_ascii=False))
  except OSError as error:
    raise cannot_write(path_of(path), error, "then run prepare again") from error
