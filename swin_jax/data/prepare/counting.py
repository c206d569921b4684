"""Counts the facts of a prepared set, which `data.read.facts` reads, from its examples as they are stored."""

from collections import Counter
import functools
from typing import Any, NamedTuple
import zlib

import numpy as np
from PIL import Image

from swin_jax.data.read import array_files, facts, formats, image_arrays, orientation, shards, targets
from swin_jax.data.read.example import Example
from swin_jax.data.read.targets import Turn
from swin_jax.terminal.printable import printable

_LONGEST = 200  # characters of a name, and of what says why an image cannot be read
_OPAQUE = 255
_FEW, _MANY = 16, 32  # an array with fewer rows than _FEW and more bands than _MANY looks channel-first


class Look(NamedTuple):
  """What is counted of one image or array.

  Attributes:
    size: height and width.
    bands: number of bands.
    type: file format, or type of the array.
    widest: largest number in an image file of 16 bits; None for other files.
    extremes: of each band of an array; see `facts`.
    missing: number of pixels of an array without data in one band or more.
    opacity: see `image_arrays.opacity`; None for arrays.
  """

  size: tuple[int, int]
  bands: int
  type: str
  widest: int | None = None
  extremes: tuple = ()
  missing: int = 0
  opacity: int | None = None


def look_at_file(image: Image.Image, size: tuple[int, int]) -> Look:
  """Looks at an opened image file; decodes it only if it has 16 bits or an alpha channel.

  Args:
    image: as Pillow opens it.
    size: (height, width) of the image when it is upright.
  """
  is_wide = image.mode.startswith("I")
  bands = 3 if image.mode == "P" else len(image.getbands())
  return Look(
    size,
    bands,
    f"16-bit {image.format}" if is_wide else image.format,
    int(image.getextrema()[1]) if is_wide else None,
    opacity=image_arrays.opacity(image),
  )


def look_at_array(array: np.ndarray) -> Look:
  """Looks at an array [height, width, bands]."""
  bands = np.moveaxis(array, -1, 0)
  extremes = tuple(map(_extremes, bands))
  is_complete = all(each["pixels"] == bands[0].size for each in extremes)
  missing = 0 if is_complete else np.count_nonzero(functools.reduce(np.logical_or, map(np.isnan, bands)))
  return Look(array.shape[:2], len(bands), array.dtype.name, None, extremes, int(missing))


def _extremes(band: np.ndarray) -> dict[str, Any]:
  """Returns the two lowest and the two highest distinct numbers and how many pixels have each; NaN does not
  count.
  """
  x = np.ascontiguousarray(band).ravel()
  missing = int(np.count_nonzero(np.isnan(x))) if x.dtype.kind == "f" else 0
  if missing == x.size:
    return {"pixels": 0, "low": [], "high": []}
  low, high = np.fmin.reduce(x), np.fmax.reduce(x)
  ends = {"low": [low], "high": [high]}
  if low != high:
    ends["low"].append(np.fmin.reduce(np.where(x == low, high, x)))
    ends["high"].append(np.fmax.reduce(np.where(x == high, low, x)))
  counts = {value: int(np.count_nonzero(x == value)) for value in {*ends["low"], *ends["high"]}}
  return {"pixels": x.size - missing} | {
    name: [[value.item(), counts[value]] for value in values] for name, values in ends.items()
  }


class Count(NamedTuple):
  """What is counted of one stored example.

  Attributes:
    look: of its image.
    hash: of its image as it is stored, 64 bits.
    label: class of the whole image, -1 for none.
    name: of the example.
    labels: pixels by label, [256]; None without a label map.
    values: extremes of its map of numbers, and the pixels of the map; None without one.
    undeclared, turn: see `example.Example`.
  """

  look: Look
  hash: int
  label: int
  name: str = ""
  labels: list[int] | None = None
  values: tuple[dict, int] | None = None
  undeclared: int = 0
  turn: Turn | None = None


def see(
  example: Example, look: Look, target: np.ndarray | None, undeclared: int = 0, turn: Turn | None = None
) -> Count:
  """Looks at an example.

  Args:
    example: with the encoded image.
    look: at the image.
    target: decoded map of the example.
    undeclared, turn: see `example.Example`; 0 and None where the source is not known.
  """
  name = printable(example.name)[:_LONGEST]
  count = Count(look, _hash(example.image), example.label, name, undeclared=undeclared, turn=turn)
  if target is None:
    return count
  if target.dtype == np.uint8:
    # faster than bincount, which converts to 64 bits
    return count._replace(labels=Image.fromarray(target).histogram())
  return count._replace(values=(_extremes(target), target.size))


def see_record(record: bytes) -> Count:
  """Looks at a stored record.

  Raises:
    Exception: it is damaged; Pillow raises whatever a format's parser raises.
  """
  example = shards.unpack(record)
  target = None if example.target is None else targets.decode(example.target)
  if array_files.is_packed(example.image):
    return see(example, look_at_array(array_files.unpack(example.image)), target)
  with formats.open_image(example.image) as image:
    size = orientation.upright_size(example.image, image)
    return see(example, look_at_file(image, size), target)


def _hash(content: bytes) -> int:
  """Returns 64 bits that tell images apart: the checksums of both halves, 10 times as fast as SHA-256."""
  content = memoryview(content)
  half = len(content) // 2
  return zlib.crc32(content[:half]) << 32 | zlib.crc32(content[half:])


class Tally:
  """Adds up what was seen of the examples of one shard."""

  def __init__(self):
    self._sizes, self._hashes, self._labelled = set(), [], {}
    self._counters = {
      key: Counter() for key in ("bands", "types", "classes", "pixels", "images_with", "with_alpha")
    }
    keys = "images known unknown wide channel_first of_arrays missing undeclared turned assumed transparent"
    self._sums = Counter(dict.fromkeys(keys.split(), 0))
    self._widest, self._extremes, self._values = 0, [], []
    self._unreadable: list[str] = []

  def leave_out(self, what: str) -> None:
    """Counts an image of the source that cannot be read; `what` says which and why."""
    self._unreadable.append(printable(what)[:_LONGEST])

  def add(self, count: Count) -> None:
    look, counters, sums = count.look, self._counters, self._sums
    (height, width), bands = look.size, look.bands
    sums["images"] += 1
    sums["turned"] += count.turn is Turn.TURNED
    sums["assumed"] += count.turn is Turn.ASSUMED
    self._sizes.add((height * width, height, width))
    self._hashes.append(count.hash)
    is_blank = look.extremes and all(len(band["low"]) < 2 for band in look.extremes)  # as in margins of scans
    if count.label >= 0 and not is_blank:
      names = self._labelled.setdefault(str(count.hash), {})
      names[str(count.label)] = min(count.name, names.get(str(count.label), count.name))
    counters["bands"][str(bands)] += 1
    counters["types"][look.type] += 1
    if look.opacity is not None:
      counters["with_alpha"][str(bands)] += 1
      sums["transparent"] += look.opacity < _OPAQUE
    if look.widest is not None:
      sums["wide"] += 1
      self._widest = max(self._widest, look.widest)
    if look.extremes:
      self._extremes = facts.merge_extremes(self._extremes, look.extremes)
      sums["of_arrays"] += height * width
      sums["missing"] += look.missing
      sums["undeclared"] += count.undeclared
      sums["channel_first"] += height <= _FEW < width and bands >= _MANY
    if count.labels is None and count.values is None:
      counters["classes"][str(count.label)] += 1
    for label, pixels in enumerate(count.labels or ()):
      if pixels:
        counters["pixels"][str(label)] += pixels
        counters["images_with"][str(label)] += 1
    if count.values:
      extremes, pixels = count.values
      self._values = facts.merge_extremes(self._values, [extremes])
      sums["known"] += extremes["pixels"]
      sums["unknown"] += pixels - extremes["pixels"]

  def facts(self) -> facts.Counts:
    """Returns the facts, see `data.read.facts`."""
    sizes = (
      {"smallest": list(min(self._sizes)[1:]), "largest": list(max(self._sizes)[1:])} if self._sizes else {}
    )
    left_out = {"images": len(self._unreadable), "first": self._unreadable[: facts.FIRST_UNREADABLE]}
    return (
      {key: dict(counter) for key, counter in self._counters.items()}
      | dict(self._sums)
      | sizes
      | {
        "unreadable": left_out,
        "hashes": sorted(self._hashes)[: facts.SKETCH],
        "labelled": facts.merge_labelled([self._labelled]),
        "widest": self._widest,
        "extremes": self._extremes,
        "value_extremes": self._values,
      }
    )
