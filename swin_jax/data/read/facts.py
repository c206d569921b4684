"""Facts of a prepared set: what its owner should look at before training; counted by `data.prepare.counting`
while the shards are written, read by `prepare` and by every run.

  {path}/facts.json
    splits: name → what `Tally` of `data.prepare.counting` counted in the stored examples (see `SCHEMA`), and
      "shards", the digest of the shards that were counted
    origin: what is known of the source besides its examples, see `Origin`
"""

from collections.abc import Iterable, Mapping, Sequence
import functools
import hashlib
import itertools
import json
import os
import re
import sys
from typing import Any, NamedTuple

from swin_jax.data.read import manifest, shards
from swin_jax.data.read.targets import Target
from swin_jax.terminal import digests, json_files, rules
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import printable

NAME = "facts.json"
FIRST_UNREADABLE = 3  # images that are named
# Hashes of images that are kept: the smallest ones, so that the same image is kept in every split.
SKETCH = 2048

Counts = dict[str, Any]  # facts of one shard or of one split

_HASH, _LABEL, _NAME_OF_IMAGE = re.compile(r"\d{1,20}"), re.compile(r"\d{1,7}"), rules.Text()


class _Labelled:
  """Rule of hash → label → name of an image; the table is large, and every run reads it."""

  def problem(self, value: Any) -> str | None:
    if not isinstance(value, dict) or not all(isinstance(of_label, dict) for of_label in value.values()):
      return "must be an object of objects"
    for key, of_label in value.items():
      if not _HASH.fullmatch(key) or not all(map(_LABEL.fullmatch, of_label)):
        return f"{rules.shown(key)} or one of its labels is not a number"
      if wrong := next(filter(None, map(_NAME_OF_IMAGE.problem, of_label.values())), None):
        return wrong
    return None


_COUNT = rules.Whole(0, 2**63)
_COUNTER = {"*": _COUNT}
_NUMBER = rules.Real(-sys.float_info.max, sys.float_info.max)
_SIDES = rules.Items(rules.Whole(1, 2**31), range(2, 3))
_ENDS = rules.Items(rules.Items(_NUMBER, range(2, 3)), range(3))  # up to two pairs of a number and its pixels
_EXTREMES = {"pixels": _COUNT, "low": _ENDS, "high": _ENDS}
SCHEMA = {
  "images": _COUNT,  # readable records
  # of the source, with what is wrong; missing where the stored examples alone were counted
  "unreadable?": {"images": _COUNT, "first": [rules.Text()]},
  "hashes": [int],  # the SKETCH smallest hashes of stored images
  # of images with a class: hash, of the SKETCH smallest ones → label → the first name; missing in older sets
  "labelled?": _Labelled(),
  "smallest?": _SIDES,  # height and width of the image with the fewest pixels
  "largest?": _SIDES,
  "bands": _COUNTER,  # number of bands → images
  "with_alpha?": _COUNTER,  # number of bands → image files that declare transparency
  "transparent?": _COUNT,  # those of them with pixels that are not opaque
  "types": _COUNTER,  # file format or array type → images
  "classes": _COUNTER,  # label of an image, -1 for none → images
  "pixels": _COUNTER,  # label of a pixel, 255 for none → pixels
  "images_with": _COUNTER,  # label of a pixel → images in which it occurs
  "known": _COUNT,  # pixels whose number is known, of maps of numbers
  "unknown": _COUNT,
  "extremes": [_EXTREMES],  # of the numbers of each band: the two lowest and highest with their pixels
  "value_extremes": [_EXTREMES],  # of maps of numbers
  "of_arrays?": _COUNT,  # pixels of arrays
  "missing?": _COUNT,  # those without data in one band or more
  "undeclared?": _COUNT,  # those that became so although nothing declares it, see `stored.Converted`
  "turned?": _COUNT,  # images, or tiles, whose map EXIF orientation turned
  "assumed?": _COUNT,  # those whose map may have to be turned too, but is taken as upright
  "wide": _COUNT,  # image files of 16 bits
  "widest": _COUNT,  # the largest number in them
  "channel_first": _COUNT,  # arrays that look like [bands, height, width]
}
_FILE = {
  "splits": {"*": SCHEMA | {"shards": str}},
  "origin": {"unread": _COUNTER, "notes": [rules.Text()], "warnings": [rules.Text()]},
}
_OF_LABELS = ("bands", "with_alpha", "classes", "pixels", "images_with")  # counters of whole numbers
_FIRST = ("train", "val", "test")  # prefixes of splits in the order in which they are shown


class Origin(NamedTuple):
  """What is known of the source of a set besides its examples.

  Attributes:
    unread: ending → number of files that were not read.
    notes: how the source was understood, in lines.
    warnings: what is strange about its files, in lines.
  """

  unread: Mapping[str, int] = {}
  notes: Sequence[str] = ()
  warnings: Sequence[str] = ()


class Split(NamedTuple):
  """One split of a prepared set.

  Attributes:
    name: of the split.
    class_names: by label.
    targets: what each pixel carries, see `example.Source`.
    unreadable: number of images or tiles of the source that are not stored because they cannot be read.
    first_unreadable: the first of them, with what is wrong.
    empty: number of tiles that are not stored because they hold no data.
    is_cut: whether the images are tiles of rasters.
    counts: see `SCHEMA`.
    left_out: number of tiles that are not stored for one of these two reasons; it is not known for which.
  """

  name: str
  class_names: tuple[str, ...]
  targets: Target
  unreadable: int
  first_unreadable: Sequence[str]
  empty: int
  is_cut: bool
  counts: Counts
  left_out: int = 0


class Facts(NamedTuple):
  """The facts of a prepared set, see the top of this file."""

  splits: tuple[Split, ...]
  origin: Origin


def path_of(path: str) -> str:
  return os.path.join(path, NAME)


def read_file(path: str) -> dict[str, Any]:
  """Reads the JSON file.

  Raises:
    BadInput: it is missing or damaged.
  """
  manifest.check(path, NAME)
  advice = "delete it and run the same prepare command again"
  loaded = json_files.read(path_of(path), _FILE, advice)
  for name, counts in loaded["splits"].items():
    keys = [f"{counter}.{key}" for counter in _OF_LABELS for key in counts.get(counter, ())]
    if wrong := [key for key in keys if not re.fullmatch(r"\w+\.-?\d{1,7}", key)]:
      raise BadInput(f"{path_of(path)} is damaged: splits.{name}.{wrong[0]} is not a number; {advice}")
  return loaded


def read(path: str) -> Facts | None:
  """Reads the facts of a prepared set; None if it was prepared by a version that did not count them.

  Raises:
    BadInput: they are damaged.
  """
  if not os.path.lexists(path_of(path)) and NAME not in (manifest.read(path) or {}):
    return None
  loaded = read_file(path)
  splits = []
  for name in sorted(loaded["splits"], key=_rank):
    header, counts = shards.read_header(path, name), loaded["splits"][name]
    planned, is_cut = header["made_from"].get("images"), "bands" in header["made_from"]
    left_out = max(planned - counts["images"], 0) if isinstance(planned, int) else 0
    # tiles without data are common in satellite scenes; images always hold data
    is_known = not is_cut or "unreadable" in counts
    named = counts.get("unreadable", {"images": 0, "first": []})
    unreadable = min(named["images"], left_out) if is_cut else left_out
    splits.append(
      Split(
        name,
        tuple(map(printable, header["class_names"])),
        Target(header.get("targets", "")),
        unreadable,
        named["first"],
        left_out - unreadable if is_known else 0,
        is_cut,
        counts,
        0 if is_known else left_out,
      )
    )
  return Facts(tuple(splits), Origin(**loaded["origin"]))


def _rank(name: str) -> tuple[int, str]:
  lower = name.lower()
  return next((i for i, first in enumerate(_FIRST) if lower.startswith(first)), len(_FIRST)), name


def identity(known: Iterable[digests.Digest]) -> str:
  """Returns the digest of the shards with these digests, in any order."""
  return hashlib.sha256("".join(sorted(digest["sha256"] for digest in known)).encode()).hexdigest()


def text(splits: Mapping[str, Counts], origin: Origin) -> str:
  """Returns the content of the JSON file."""
  content = {"splits": splits, "origin": origin._asdict()}
  return json.dumps(content, sort_keys=True, ensure_ascii=False) + "\n"


# Merging.


def merge(parts: Iterable[Counts]) -> Counts:
  """Returns the facts of all shards of a split, whatever their order; without "unreadable" if one of them
  lacks it.
  """
  parts = list(parts)
  merged = functools.reduce(
    lambda one, other: {key: _merge_key(key, one, other) for key in one | other}, parts
  )
  if not all("unreadable" in part for part in parts):
    merged = {key: value for key, value in merged.items() if key != "unreadable"}
  return merged


def _merge_key(key: str, one: Counts, other: Counts) -> Any:
  if key not in one or key not in other:
    return one.get(key, other.get(key))
  a, b = one[key], other[key]
  if key == "hashes":
    return sorted([*a, *b])[:SKETCH]
  if key == "labelled":
    return merge_labelled([a, b])
  if key == "unreadable":
    return {"images": a["images"] + b["images"], "first": [*a["first"], *b["first"]][:FIRST_UNREADABLE]}
  if key in ("smallest", "largest"):
    return (min if key == "smallest" else max)(a, b, key=lambda size: (size[0] * size[1], size))
  if key.endswith("extremes"):
    return merge_extremes(a, b)
  if key == "widest":
    return max(a, b)
  return add(a, b) if isinstance(a, dict) else a + b


def merge_labelled(parts: Iterable[Mapping[str, Mapping[str, str]]]) -> dict[str, dict[str, str]]:
  """Returns the labels and names of the images with the smallest hashes of all parts."""
  merged: dict[str, dict[str, str]] = {}
  for part in parts:
    for key, names in part.items():
      held = merged.setdefault(key, {})
      for label, name in names.items():
        held[label] = min(name, held.get(label, name))
  return {key: merged[key] for key in sorted(merged, key=int)[:SKETCH]}


def add(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
  """Returns the sums of two counters."""
  return {key: one.get(key, 0) + other.get(key, 0) for key in one | other}


def merge_extremes(one: list[dict], other: list[dict]) -> list[dict]:
  """Returns the extremes of two sets of numbers, of each band."""
  empty = {"pixels": 0, "low": [], "high": []}
  return [
    {
      "pixels": a["pixels"] + b["pixels"],
      "low": _two([*a["low"], *b["low"]], False),
      "high": _two([*a["high"], *b["high"]], True),
    }
    for a, b in itertools.zip_longest(one, other, fillvalue=empty)
  ]


def _two(pairs: list[list[float]], descending: bool) -> list[list[float]]:
  """Returns the two lowest, or highest, distinct numbers with their pixels: exact, because a number that is
  among the two lowest of all is among those of each part.
  """
  sums: dict[float, int] = {}
  for value, count in pairs:
    sums[value] = sums.get(value, 0) + count
  return [[value, sums[value]] for value in sorted(sums, reverse=descending)[:2]]
