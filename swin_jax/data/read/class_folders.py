"""Finds the classes of images: the names of the folders that hold them."""

from collections.abc import Mapping, Sequence
import os

from swin_jax.data.read import class_tables, names, parts, suspicions, trees, twin_folders
from swin_jax.data.read.names import Kind
from swin_jax.data.read.roles import Picture
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import printable


def find(
  tree: trees.Tree,
  by_split: Mapping[str, Sequence[Picture]],
  base: str,
  lone_split: str,
  class_file: tuple[str, str] | None,
  are_classes: bool | None,
  others: Sequence[str],
  hold_groups: bool,
) -> parts.Finding:
  """Returns the splits of images and their classes, which are numbered together in all splits.

  Args:
    tree: the source.
    by_split: split → its images.
    base, lone_split: see `roles.Roles`.
    class_file: path and text of a file of class names.
    are_classes: see `roles.Asked.folders_are_classes`.
    others: paths of the files that are not pictures; one may give the classes of a split without folders.
    hold_groups: see `roles.Asked.folders_are_groups`.

  Raises:
    BadInput: a split has class folders and images next to them, or the folders do not look like classes.
  """
  if are_classes is False:
    paths = {split: [image.path for image in images] for split, images in by_split.items()}
    return parts.Finding({split: parts.Part(base, each, [-1] * len(each)) for split, each in paths.items()})
  of_image = _folders(tree.name, by_split)
  by_class: dict[str, list[Picture]] = {}
  for images in by_split.values():
    for image in images:
      if name := of_image[image.path]:
        by_class.setdefault(name, []).append(image)
  folders = sorted(by_class)
  used, warnings = (), ()
  if are_classes is None:
    by_class = {name: by_class[name] for name in folders}
    suspicions.check_classes(tree.name, by_class, lone_split, class_file)
    used = (class_file[0],) if class_file else ()
    warnings = twin_folders.check(tree, by_class, class_file)
    if not hold_groups:
      warnings += suspicions.find_splits(by_class) if list(by_split) == [""] else []
      warnings += suspicions.find_groups(tree, by_class, others)
    for images in by_split.values():
      suspicions.check_images(tree.name, images, class_file)
  tables = _tables(tree, by_split, of_image, folders, others)
  number = {name: i for i, name in enumerate(folders)}
  splits = {}
  for split, images in by_split.items():
    labels = [number.get(of_image[image.path], -1) for image in images]
    names_of_split = tuple(map(printable, folders)) if max(labels) >= 0 else ()
    splits[split] = parts.Part(_root(images, base), [i.path for i in images], labels, names_of_split)
  notes = [
    f"classes of {table.count:,} images: those in {printable(table.path)}"
    for table in tables
    if table.classes
  ]
  warnings = [*warnings, *(_unread(table, folders[0]) for table in tables if not table.classes)]
  if are_classes is None and not folders:
    notes += next(filter(None, map(suspicions.find_names, by_split.values())), [])
  used += tuple(table.path for table in tables if table.classes)
  return parts.Finding(splits, notes=tuple(notes), warnings=tuple(warnings), used=used)


def _tables(
  tree: trees.Tree,
  by_split: Mapping[str, Sequence[Picture]],
  of_image: dict[str, str | None],
  folders: Sequence[str],
  others: Sequence[str],
) -> list[class_tables.Table]:
  """Returns the tables that name the images of splits without class folders; adds the classes that they give
  to `of_image`.
  """
  tables = []
  for images in by_split.values():
    if folders and not any(of_image[image.path] for image in images):
      paths = [image.path for image in images]
      if table := class_tables.find(tree, others, paths, folders):
        of_image.update(zip(paths, table.classes, strict=False))
        tables.append(table)
  return tables


def _unread(table: class_tables.Table, name: str) -> str:
  return (
    f"{printable(table.path)} names {table.count:,} of the images without a class, but is not read: it must"
    f" name each image of their split, with a class folder in its second column, such as {printable(name)}"
  )


def _folders(where: str, by_split: Mapping[str, Sequence[Picture]]) -> dict[str, str | None]:
  """Returns path of an image → name of its class folder, or None.

  Raises:
    BadInput: a split has class folders and images next to them.
  """
  before = [{image.before for image in images} for images in by_split.values()]
  # one folder around a split says nothing; several are classes, as in cat/train and dog/train
  is_wrapped = all(len(folders) == 1 for folders in before)
  every = [folders for each in before for folders in each]
  shared = len(os.path.commonprefix([min(every), max(every)]))
  of_image = {}
  for split, images in by_split.items():
    skip = _image_folder(images) if split else 0
    bare = None
    for image in images:
      path = (() if is_wrapped else image.before[shared:]) + image.after[skip:]
      of_image[image.path] = path[0] if path else None
      bare = bare or (None if path else image)
    if bare and any(of_image[image.path] for image in images):
      folder, _, name = bare.path.rpartition("/")
      raise BadInput(
        f"{os.path.join(where, folder)} holds class folders, but also images of its own, such as {name}; move"
        " those elsewhere"
      )
  return of_image


def _image_folder(images: Sequence[Picture]) -> int:
  """Returns 1 if all images of a split lie in one folder that is called like images, else 0."""
  first = {image.after[0] if image.after else "" for image in images}
  return int(len(first) == 1 and names.read(*first).kind is Kind.IMAGE)


def _root(images: Sequence[Picture], base: str) -> str:
  """Returns the folder around a split: below it lie only the folders of its classes."""
  roots = set()
  for image in images:
    head = image.path
    for _ in range(len(image.after) + 1):
      head = head.rpartition("/")[0]
    roots.add(head + "/" if head else "")
    if len(roots) > 1:
      return base
  return roots.pop()
