"""Finds the maps of images: label maps and maps of numbers."""

from collections.abc import Collection, Mapping, Sequence
import os
from typing import NamedTuple

from swin_jax.data.read import class_files, labelled_files, labels, names, pairing, parts, suspicions, trees
from swin_jax.data.read.names import Kind
from swin_jax.data.read.roles import Asked, Picture
from swin_jax.data.read.targets import Target
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed
from swin_jax.terminal.printable import quoted


class Mapped(NamedTuple):
  """Images and maps.

  Attributes:
    images: what may be images.
    maps: what may be maps.
    others: pictures that are neither.
    of_values: whether the maps hold numbers.
  """

  images: list[Picture]
  maps: list[Picture]
  others: list[Picture]
  of_values: bool


def separate(pictures: Sequence[Picture], asked: Asked, where: str) -> Mapped | None:
  """Separates images from maps; returns None if there are no maps.

  Raises:
    BadInput: there are both maps of classes and of numbers, or it is unclear whether pictures are maps.
  """
  if not asked.images:
    pictures = _mark(pictures, asked, where)
  by_kind: dict[Kind | None, list[Picture]] = {}
  for each in pictures:
    by_kind.setdefault(each.kind, []).append(each)
  images, maps = by_kind.get(Kind.IMAGE, []) + by_kind.get(None, []), by_kind.get(Kind.LABEL, [])
  values = by_kind.get(Kind.VALUE, [])
  if not (images and (maps or values)):
    if asked.names_maps:
      raise BadInput(f"{where} holds no image in addition to the label maps; give --images= too")
    return None
  if maps and values:
    raise BadInput(
      f"{where} holds both {Target.LABELS} and {Target.VALUES}, such as {maps[0].path} and {values[0].path};"
      " prepare each from a separate folder"
    )
  if not asked.names_maps and not pairing.pair(images, maps or values, where, choose=False).pairs:
    return None  # a class may be called like maps
  others = by_kind.get(Kind.OTHER, [])
  return Mapped(images, _readable(maps or values, bool(values)), others, bool(values))


def _mark(pictures: Sequence[Picture], asked: Asked, where: str) -> Sequence[Picture]:
  """Returns the pictures with those of kind LABEL that lie next to their images, such as x_mask next to x."""
  if asked.label_suffix:
    return _without_others(pictures)
  if asked.labels:
    return pictures
  marked, count = pairing.beside(pictures)
  if not marked:
    return pictures
  if 2 * len(marked) < count and not any(each.kind in names.MAP_KINDS for each in pictures):
    raise BadInput(
      f"{where} holds {pictures[min(marked)].path}, which looks like the map of another image, but most"
      " images have none: give prepare --label_suffix= if these are maps, or --classes=folders if all are"
      " images"
    )
  return [
    each._replace(kind=Kind.OTHER if names.is_other_stem(each.stem) else Kind.LABEL) if i in marked else each
    for i, each in enumerate(pictures)
  ]


def _without_others(pictures: Sequence[Picture]) -> list[Picture]:
  """Returns the pictures; further maps of an image are not images: x_2nd next to x and its map x_1st."""
  maps, others = set(), set()
  for each in pictures:
    (maps if each.kind is Kind.LABEL else others).add((each.split, each.rest, each.stem))
  images = maps & others
  is_map = lambda each: any(
    (each.split, each.rest, each.stem[:at]) in images
    for at, letter in enumerate(each.stem)
    if letter in names.SEPARATORS
  )
  return [
    each._replace(kind=Kind.OTHER) if each.kind is not Kind.LABEL and is_map(each) else each
    for each in pictures
  ]


def _readable(maps: Sequence[Picture], of_values: bool) -> list[Picture]:
  """Returns the maps whose files can be read, see `labelled_files.readable`."""
  paths = set(labelled_files.readable([each.path for each in maps], of_values))
  kept = [each for each in maps if each.path in paths]
  return kept if of_values else kept or list(maps)


def check_unpaired(where: str, pictures: Sequence[Picture], others: Sequence[str]) -> None:
  """Checks that no picture in a folder of maps would be taken for an image of a class, or of none.

  Raises:
    BadInput: there are such pictures, and they belong to no image by their names.
  """
  maps = [each for each in pictures if each.kind is Kind.LABEL]
  images = [each for each in pictures if each.kind is not Kind.LABEL]
  # a class may be called "mask": its folder says so, and the check of classes decides
  stray = [each for each in maps if not any(names.hints_at(name, Kind.LABEL) for name in each.after[:1])]
  if stray and images:
    names_too = "" if of_classes(others) else suspicions.NAMES
    raise BadInput(
      f"{where} holds {stray[0].path}, which looks like a map, but not the map of an image such as"
      f" {images[0].path}: say which are images and which are maps by prepare --images= and --labels="
      f"{names_too}; if folders are classes of images, give prepare --classes=folders"
    )


def check_folders(where: str, listing: trees.Listing, holding: Collection[str]) -> None:
  """Checks that no folder of maps without maps lies next to a folder of images.

  Args:
    where: the source, for messages.
    listing: of the source.
    holding: folders that hold pictures at any depth, with a trailing "/".

  Raises:
    BadInput: there is one, as in sets of boxes or polygons.
  """
  for folder in listing.folders:
    parent, _, name = folder.rstrip("/").rpartition("/")
    if folder in holding or names.read(name).kind is not Kind.LABEL:
      continue
    beside = [
      other
      for other in holding
      if other.rstrip("/").rpartition("/")[0] == parent
      and names.read(other.rstrip("/").rpartition("/")[2]).kind is Kind.IMAGE
    ]
    if beside:
      endings = {names.ending_of(path) for path in listing.files if path.startswith(folder)}
      held = f", only {' '.join(sorted(endings))}" if endings else ""
      raise BadInput(
        f"{os.path.join(where, folder.rstrip('/'))} holds no label map{held}: boxes, polygons and text are"
        " not read; draw them into maps, such as PNG files with one class per pixel, or prepare only"
        f" {os.path.join(where, sorted(beside)[0].rstrip('/'))}, without labels"
      )


def find(
  tree: trees.Tree,
  by_split: Mapping[str, Sequence[Picture]],
  pairs: pairing.Pairs,
  of_values: bool,
  others: Sequence[str],
  is_listed: bool,
  stated: Mapping[str, Sequence[str]],
) -> parts.Finding:
  """Returns the splits of images that have maps.

  Args:
    tree: the source.
    by_split: split → its images.
    pairs: images and their maps.
    of_values: whether the maps hold numbers.
    others: paths of the files that are not pictures, one of which names the classes.
    is_listed: whether files list the splits.
    stated: see `roles.Roles`.

  Raises:
    BadInput: an image has no map, or no file names the classes.
  """
  map_of = {image.path: target.path for image, target in pairs.pairs}
  splits, notes = {}, []
  with_maps = [split for split, images in by_split.items() if any(image.path in map_of for image in images)]
  if not with_maps:
    raise BadInput(
      f"{tree.name} holds no map with the name of an image, such as {pairs.no_image[0].path} for"
      f" {next(iter(by_split.values()))[0].path}; say how by --images= and --labels="
    )
  _check_left(tree.name, pairs)
  target = next(iter(map_of.values()))
  for split, images in by_split.items():
    lacking = [image for image in images if image.path not in map_of]
    if split not in with_maps and split.startswith("test"):  # test sets often withhold their maps
      notes.append(f"split {split} has no maps and is left out, with {len(images):,} images")
      continue
    if split not in with_maps and not is_listed:
      kind = Target.VALUES if of_values else Target.LABELS
      flag = _flag_of({name: by_split[name] for name in with_maps}, map_of, stated)
      raise BadInput(
        f"{tree.name} has no {kind} for the images of split {split}, such as {images[0].path}; add them, as"
        f" in {target}, or remove the images{flag and f', or prepare only the splits with maps by {flag}'}"
      )
    if lacking:
      have = "have" if len(lacking) > 1 else "has"
      raise BadInput(
        f"{tree.name}: {listed([image.path for image in lacking], 3)} {have} no map of the same name in"
        f" {target.rpartition('/')[0]}; add the maps, or remove the images"
      )
    paths = sorted((image.path for image in images), key=names.stem_of)
    splits[split] = parts.Part("", paths, [-1] * len(paths), maps=[map_of[path] for path in paths])
  shown = next(iter(splits.values()))
  if not _is_plain(shown.images[0], shown.maps[0]):
    count = sum(len(part.images) for part in splits.values())
    notes.append(
      f"the map of {shown.images[0]} is {shown.maps[0]}, and so on for {count:,} images; --images= and"
      " --labels= override"
    )
  classes, used = (None, ()) if of_values else _classes(tree, others, map_of)
  notes += classes.notes if classes else ()
  return parts.Finding(splits, classes, of_values, tuple(notes), used=used)


def _flag_of(
  by_split: Mapping[str, Sequence[Picture]], map_of: Mapping[str, str], stated: Mapping[str, Sequence[str]]
) -> str:
  """Returns the flag that leaves out all other splits; "" where no folder holds both images and maps."""
  folders = []
  for split, images in by_split.items():
    path = next(image.path for image in images if image.path in map_of)
    around = [set(each.split("/")[:-1]) for each in (path, map_of[path])]
    folders += [name for name in stated.get(split, ()) if all(name in names for names in around)][:1]
  pairs = ",".join(map(":".join, zip(by_split, folders, strict=False)))
  return f"--splits={quoted(pairs)}" if len(folders) == len(by_split) else ""


def _check_left(where: str, pairs: pairing.Pairs) -> None:
  """Checks that no folder of maps is passed over next to the one that is used.

  Raises:
    BadInput: a folder holds nothing but maps that belong to no image by their names, in a split with images.
  """
  used = {each.map.path.rpartition("/")[0] for each in pairs.pairs}
  splits = {each.map.split for each in pairs.pairs}
  for each in pairs.no_image:
    folder = each.path.rpartition("/")[0]
    if each.key is None and folder not in used and each.split in splits:
      image, target = pairs.pairs[0]
      flags = [f"--labels={quoted(at.rpartition('/')[2])}" for at in (folder, target.path.rpartition("/")[0])]
      raise BadInput(
        f"{where} holds {each.path}, which looks like a map, and {target.path} is taken for that of"
        f" {image.path}: choose by {' or '.join(flags)}"
      )


def _is_plain(image: str, target: str) -> bool:
  """Returns whether an image and its map have the same name, and lie in folders of the plain names."""
  plain = {*labelled_files.LABELS, labelled_files.VALUES}
  same = names.stem_of(image.rpartition("/")[2]) == names.stem_of(target.rpartition("/")[2])
  return same and labelled_files.IMAGES in image.split("/") and not plain.isdisjoint(target.split("/"))


def of_classes(others: Sequence[str]) -> list[str]:
  """Returns the paths of the files that name classes, those of the outer folders first."""
  known = class_files.FILES
  files = [path for path in others if path.rpartition("/")[2] in known]
  return sorted(files, key=lambda path: (path.count("/"), known.index(path.rpartition("/")[2]), path))


def _classes(
  tree: trees.Tree, others: Sequence[str], images: Collection[str]
) -> tuple[labels.Classes | None, tuple[str, ...]]:
  """Returns the classes of label maps and the paths of the files that define them; None for no such file.

  Files that name the folders of the images count only where there are no others.

  Raises:
    BadInput: a file is unusable.
  """
  first = None, ()
  paths = of_classes(others)
  for folder in dict.fromkeys(path.rpartition("/")[0] for path in paths):
    classes = class_files.read(tree, folder and folder + "/")
    beside = tuple(path for path in paths if path.rpartition("/")[0] == folder)
    if classes and not class_files.name_folders(classes, images):
      return classes, beside
    first = first if first[0] else (classes, beside)
  return first
