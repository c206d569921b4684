"""Pairs images with their maps by split, folders and name."""

from collections.abc import Callable, Hashable, Iterator, Sequence
import os
from typing import NamedTuple

from swin_jax.data.read import names
from swin_jax.data.read.names import Kind
from swin_jax.data.read.roles import Picture
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import quoted


class Pair(NamedTuple):
  """An image and its map."""

  image: Picture
  map: Picture


class Pairs(NamedTuple):
  """What belongs together.

  Attributes:
    pairs: sorted by the paths of the images without their endings.
    no_map, no_image: images without a map, and maps without an image.
  """

  pairs: list[Pair]
  no_map: list[Picture]
  no_image: list[Picture]


def beside(pictures: Sequence[Picture]) -> tuple[set[int], int]:
  """Returns (numbers of the pictures that are label maps, or pictures of them, by the end of their names,
  such as "x_mask" next to "x"; number of the others).
  """
  stems = [picture.stem if picture.kind in (None, Kind.IMAGE) else "" for picture in pictures]
  marked = {i for i, stem in enumerate(stems) if stem and names.is_map_stem(stem)}
  if not marked:
    return set(), len(pictures)
  marked |= {i for i, stem in enumerate(stems) if stem and names.is_other_stem(stem)}
  unmarked = [i for i, stem in enumerate(stems) if stem and i not in marked]
  end = names.common_end([stems[i] for i in unmarked])
  bases = {
    (pictures[i].split, pictures[i].rest, stem)
    for i in unmarked
    for stem in (stems[i], names.shorten(stems[i]), stems[i].removesuffix(end))
  }
  maps = {i for i in marked if (pictures[i].split, pictures[i].rest, names.shorten(stems[i])) in bases}
  return maps, len(pictures) - len(maps)


def pair(images: Sequence[Picture], maps: Sequence[Picture], where: str, choose: bool = True) -> Pairs:
  """Returns the images with their maps.

  Names are compared as they are, then without the words at their ends that say what they are ("_mask") or in
  which all end; folders are compared as they are, then without those that all images or all maps share. The
  first comparison that finds a map for all images counts, else the one that finds most.

  Args:
    images, maps: in any order; of some splits, maps may not exist.
    where: the source, for messages.
    choose: whether an image with several maps, and several images with one map, are errors.

  Raises:
    BadInput: an image has several maps, or several images have one.
  """
  best: tuple[int, dict, dict] | None = None
  for image_key, map_key in _comparisons(images, maps):
    by_key: dict[Hashable, list[Picture]] = {}
    for each in maps:
      by_key.setdefault(map_key(each), []).append(each)
    keys = [image_key(image) for image in images]
    count = sum(key in by_key for key in keys)
    if best is None or count > best[0]:
      best = count, by_key, dict(zip([image.path for image in images], keys, strict=True))
    if count == len(images):
      break
  _, by_key, keys = best
  first: dict[Hashable, Picture] = {}
  pairs, no_map, used = [], [], set()
  for image in sorted(images, key=lambda image: names.stem_of(image.path)):
    key = keys[image.path]
    if (other := first.setdefault(key, image)) is not image and choose:
      folder, one, two = _shared(other.path, image.path)
      raise BadInput(f"{os.path.join(where, folder)} holds {one} and {two}, which is ambiguous; remove one")
    if not (candidates := by_key.get(key, ())):
      no_map.append(image)
      continue
    chosen = _choose(candidates, image, where) if choose else candidates[0]
    used.update(each.path for each in candidates)
    pairs.append(Pair(image, chosen))
  return Pairs(pairs, no_map, [each for each in maps if each.path not in used])


def _comparisons(
  images: Sequence[Picture], maps: Sequence[Picture]
) -> Iterator[tuple[Callable[[Picture], Hashable], Callable[[Picture], Hashable]]]:
  """Yields (key of an image, key of a map) from the strictest to the loosest comparison."""
  of_images, of_maps = (names.common_end([each.stem for each in pictures]) for pictures in (images, maps))
  stems = (
    (lambda picture: picture.stem,) * 2,
    (lambda picture: picture.stem, _shortened),
    (_shortened, _shortened),
    (lambda picture: picture.stem, lambda picture: picture.stem.removesuffix(of_maps)),
    (
      lambda picture: picture.stem.removesuffix(of_images),
      lambda picture: picture.stem.removesuffix(of_maps),
    ),
    (lambda picture: names.shorten(picture.stem, True),) * 2,
  )
  # a folder around all images may be that of a class, unless another one says that they are images
  shared = _common(images) if all(each.kind is Kind.IMAGE for each in images) else 0, _common(maps)
  folders = [(lambda picture: picture.rest,) * 2]
  if any(shared):
    folders.append(tuple(lambda picture, skip=skip: picture.rest[skip:] for skip in shared))
  splits = [lambda picture: picture.split]
  if all(each.split for each in images) and not any(each.split for each in maps):
    splits.append(lambda picture: "")
  for split in splits:
    for of_image, of_map in folders:
      for image_stem, map_stem in stems:
        yield (
          lambda picture, d=split, f=of_image, s=image_stem: (d(picture), f(picture), s(picture)),
          lambda picture, d=split, f=of_map, s=map_stem: (d(picture), f(picture), s(picture)),
        )


def _shortened(picture: Picture) -> str:
  return names.shorten(picture.stem)


def _common(pictures: Sequence[Picture]) -> int:
  """Returns the number of folders that all pictures share, before those that differ."""
  rests = [picture.rest for picture in pictures]
  return len(os.path.commonprefix([min(rests), max(rests)]))


def _choose(candidates: Sequence[Picture], image: Picture, where: str) -> Picture:
  """Returns the map of an image.

  Raises:
    BadInput: there are several.
  """
  candidates = [each for each in candidates if not names.is_other_stem(each.stem)] or candidates
  if len(candidates) == 1:
    return candidates[0]
  one, two = (each.path for each in candidates[:2])
  folder, ends = _shared(one, two)[0], [path.rpartition("/")[2] for path in (one, two)]
  if names.stem_of(one) == names.stem_of(two):
    raise BadInput(
      f"{os.path.join(where, folder)} holds {ends[0]} and {ends[1]}, which is ambiguous; remove one"
    )
  shown = f"{os.path.join(where, image.path)} has several maps, {one} and {two}"
  pairs = zip(one.split("/")[:-1], two.split("/")[:-1], strict=False)
  if other := next((mine for mine, others in pairs if mine != others), None):
    raise BadInput(f"{shown}: choose one by --labels={quoted(other)}")
  stem = os.path.commonprefix([*ends, image.path.rpartition("/")[2]])
  at = max(map(stem.rfind, "_-. "))
  cut = at if at > 0 else len(stem)
  raise BadInput(f"{shown}: choose one by --label_suffix={quoted(names.stem_of(ends[0])[cut:])}")


def _shared(one: str, two: str) -> tuple[str, str, str]:
  """Returns (folder that two paths share, the rest of both)."""
  folder = os.path.commonprefix([one, two]).rpartition("/")[0]
  skip = len(folder) + bool(folder)
  return folder, one[skip:], two[skip:]
