"""Folders that are not taken for classes of images unless the user asks for it: those that look like images
and their maps, splits, bands or resolutions, and those that a class file contradicts.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
import os

from swin_jax.data.read import class_tables, names, split_proposals, trees
from swin_jax.data.read.names import Kind
from swin_jax.data.read.roles import Picture
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed
from swin_jax.terminal.printable import printable, quoted

ASK = "if folders are classes of images, give prepare --classes=folders"
# What a set with label maps needs too, if it has no class file yet.
NAMES = " and put a classes.txt next to them, one class name per line"
_SOME = 1000  # files that are compared
_EACH = 3  # least number of images for each class that their names seem to hold
_NEARLY_ALL = 0.95  # share of images whose names do


def check_classes(
  where: str, by_class: Mapping[str, Sequence[Picture]], lone_split: str, class_file: tuple[str, str] | None
) -> None:
  """Checks that folders look like classes.

  Args:
    where: the source, for messages.
    by_class: name of a folder → its images.
    lone_split: see `roles.Roles`.
    class_file: path and text of the file of class names, if there is one.

  Raises:
    BadInput: they look like something else.
  """
  folders = list(by_class)
  if lone_split:
    others = _some([name for name in folders if name != lone_split])
    raise BadInput(
      f"{where} has a folder {printable(lone_split)} next to {others}: if these are splits, give prepare"
      f" {split_proposals.flag(folders, folders)}; {ASK}"
    )
  if len(folders) > 1:
    _check_kinds(where, folders, class_file)
    _check_splits(where, folders)
    _check_bands(where, folders, by_class)
  if class_file:
    _check_file(where, folders, *class_file)


def find_splits(by_class: Mapping[str, Sequence[Picture]]) -> list[str]:
  """Returns a line if the class folders may be splits under unknown names: each holds the same folders."""
  inside = {
    frozenset(image.after[image.after.index(name) + 1 :][:1] for image in images if name in image.after)
    for name, images in by_class.items()
  }
  (folders,) = inside if len(inside) == 1 else (frozenset(),)
  if len(by_class) < 2 or len(folders) < 2 or () in folders:
    return []
  outer, inner = list(by_class), sorted(name for (name,) in folders)
  if any(map(split_proposals.split_of, outer)):
    groups = ""
  else:
    path = printable(f"{inner[0]}/{outer[0]}")
    groups = f"; if they are groups, such as patients, move them into a folder for each class, as in {path}"
  return [
    f"the classes are the folders {_some(outer)}, and each holds the same folders, {_some(inner)};"
    f" if {_some(inner)} are the classes and {_some(outer)} are splits, give"
    f" {split_proposals.flag(outer, outer)}{groups}"
  ]


def find_groups(
  tree: trees.Tree, by_class: Mapping[str, Sequence[Picture]], others: Sequence[str]
) -> list[str]:
  """Returns a line if the class folders may be groups of images, such as patients.

  Args:
    tree: the source.
    by_class: name of a folder → its images.
    others: paths of the files that are not pictures; a table of all images is named.
  """
  if not names.are_groups(by_class):
    return []
  first = printable(next(iter(by_class)))
  paths = [image.path for images in by_class.values() for image in images]
  table = class_tables.find(tree, others, paths, ())
  if table and table.count == len(paths):
    listing = (
      f"; {printable(table.path)} lists the images, but classes are given by class folders only: move the"
      " images by it, and --hold_out with --by=csv:COLUMN divides none of its groups"
    )
  else:
    listing = ""
  return [
    f"the classes are the folders {_some(list(by_class))}, which look like numbered groups of images, such as"
    f" patients, not classes; if so, move them into a folder for each class, as in CLASS/{first}, so that"
    f" --hold_out with --by=folder divides no group, or give --classes=none{listing}; if they are the"
    " classes, give --classes=folders"
  ]


def find_names(images: Sequence[Picture]) -> list[str]:
  """Returns a note if the names of images seem to hold classes, as in cat.0.jpg and dog.1.jpg."""
  sample = images[:: max(1, len(images) // _SOME)]
  counts = Counter(names.class_in(image.stem) for image in sample)
  held = [name for name, count in counts.most_common() if name and count > 1]
  are_few = 1 < len(held) <= len(sample) / _EACH
  if not are_few or sum(counts[name] for name in held) < _NEARLY_ALL * len(sample):
    return []
  example = next(image.path for image in sample if names.class_in(image.stem) == held[0])
  path = printable(f"{held[0]}/{example.rpartition('/')[2]}")
  return [
    f"names of images seem to hold classes, such as {listed(list(map(printable, held)))}: to train on them,"
    f" move the images into a folder for each class, as in {path}"
  ]


def check_images(where: str, images: Sequence[Picture], class_file: tuple[str, str] | None) -> None:
  """Checks that no image looks like the map of another one in the same folder.

  Raises:
    BadInput: most images have a companion of another type, such as x.png next to x.jpg.
  """
  by_folder: dict[str, dict[str, list[str]]] = {}
  for image in images[:_SOME]:
    folder, _, name = image.path.rpartition("/")
    by_folder.setdefault(folder, {}).setdefault(names.stem_of(name), []).append(name)
  ends: dict[str, list[tuple[str, str]]] = {}
  for folder, by_stem in by_folder.items():
    for stem, files in by_stem.items():
      for end, base in ((stem[at:], stem[:at]) for at in range(len(stem), 0, -1)):
        if base not in by_stem or end[1:].isdigit() or (end and end[0] not in "_-. "):
          continue
        for file in files:
          for other in by_stem[base]:
            if names.ending_of(file) != names.ending_of(other) and (end or file > other):
              ends.setdefault(end, []).append((f"{folder}/{other}".lstrip("/"), file))
  for end, companions in ends.items():
    if len(companions) > 1 and 2 * len(companions) >= len(images[:_SOME]) - len(companions):
      image, file = companions[0]
      flags = (
        f"--label_suffix={quoted(end)}"
        if end
        else f"--images='*{names.ending_of(image)}' --labels='*{names.ending_of(file)}'"
      )
      raise BadInput(
        f"{where} holds {file} next to {image}, and more such pairs: if one is the map of the other, give"
        f" prepare {flags}{'' if class_file else NAMES}; if all are images, give --classes=folders"
      )


def _check_kinds(where: str, folders: Sequence[str], class_file: tuple[str, str] | None) -> None:
  """Raises BadInput if some folders look like images, and others like their maps."""
  maps = [name for name in folders if names.hints_at(name, Kind.LABEL)]
  others = [name for name in folders if name not in maps]
  if maps and others:
    refuse_maps(where, others, maps[0], class_file)
  images = [name for name in folders if names.hints_at(name, Kind.IMAGE) and names.read(name).kind]
  others = [name for name in folders if name not in images]
  if images and others:
    refuse_maps(where, images[:1], others[0], class_file)


def refuse_maps(where: str, images: Sequence[str], maps: str, class_file: tuple[str, str] | None) -> None:
  """Raises BadInput, because folders of images lie next to one that may hold their maps."""
  flag = f"--images={quoted(images[0])}"
  if len(images) > 1:
    flag = f"--images=FOLDER, with that of the images ({_some(images)}), and"
  names_too = "" if class_file else NAMES
  raise BadInput(
    f"{where} has a folder {printable(images[0])} next to {printable(maps)}, which do not look like classes"
    f" of images: if {printable(maps)} holds maps of pixels, give prepare {flag}"
    f" --labels={quoted(maps)}{names_too}, or call it labels (classes) or values (numbers); {ASK}"
  )


def _check_bands(where: str, folders: Sequence[str], by_class: Mapping[str, Sequence[Picture]]) -> None:
  """Raises BadInput if the folders look like bands or resolutions of the same images."""
  if all(map(names.is_colour, folders)) or not same_stems(*(by_class[name] for name in folders[:2])):
    return
  for what, looks in (("bands", names.is_band), ("resolutions", names.is_resolution)):
    if all(map(looks, folders)):
      raise BadInput(f"the folders {_some(folders)} of {where} look like {what}, not classes; {ASK}")


def _check_splits(where: str, folders: Sequence[str]) -> None:
  """Raises BadInput if folders look like splits or folds: all, or some that differ only in the split."""
  by_rest: dict[tuple[str, ...], list[str]] = {}
  for name in filter(names.hinted_split, folders):
    rest = tuple(word for word in names.words(name) if word not in names.SPLIT_OF)
    by_rest.setdefault(rest, []).append(name)
  for alike in (folders, *sorted(by_rest.values(), key=len, reverse=True)):
    folds = all(map(names.is_fold, alike))
    splits = {*map(split_proposals.split_of, alike)}
    if folds and len(alike) > 1:
      flag = split_proposals.written({"train": alike[0], "val": alike[1]}, folders)
    elif "" not in splits and len(splits) > 1:
      flag = split_proposals.flag(alike, folders)
    else:
      continue
    raise BadInput(
      f"the folders {_some(alike)} of {where} look like parts of a divided set, not classes; give prepare"
      f" {flag}; {ASK}"
    )


def _check_file(where: str, folders: Sequence[str], path: str, text: str) -> None:
  """Raises BadInput if a class file does not name the folders."""
  if folders and all(name in text for name in folders):
    return
  rest = (
    f"and folders such as {_some(folders, 2)} are not in it" if folders else "and there are no class folders"
  )
  raise BadInput(
    f"{os.path.join(where, path)} names classes, but no label maps were found that it explains, {rest}: give"
    f" prepare --images= and --labels=; {ASK}"
  )


def same_stems(one: Sequence[Picture], two: Sequence[Picture]) -> bool:
  """Returns whether the files in two folders have the same names without endings."""
  stems = [{names.shorten(each.stem) for each in pictures} for pictures in (one, two)]
  return len(stems[0]) > 1 and stems[0] == stems[1]


def _some(folders: Sequence[str], count: int = 4) -> str:
  return ", ".join(map(printable, folders[:count])) + (", …" if len(folders) > count else "")
