"""Understands a folder or an archive of images: its splits, and the classes of its images or the maps of
their pixels. All readers of folders use it.

  SPLIT/CLASS/**/x.jpg                                     images with classes, the sorted folders
  SPLIT/**/x.jpg                                           images without labels, or with those of a table
                                                           next to them (class_tables.py)
  SPLIT/images/**/x.jpg  with  SPLIT/labels/**/x.png       images with maps
  images/SPLIT/**/x.jpg  with  labels/SPLIT/**/x.png       as in ADE20K and mmsegmentation (img_dir, ann_dir)
  SPLIT/x.jpg  with  SPLIT_masks/x.png  or  SPLIT/x_mask.png
  leftImg8bit/SPLIT/CITY/x_leftImg8bit.png  with  gtFine/SPLIT/CITY/x_gtFine_labelIds.png
  JPEGImages/x.jpg  with  SegmentationClass/x.png, and lists of names in ImageSets/Segmentation/SPLIT.txt

Other words for splits, images and maps are in `names.py`; splits may be absent. A file next to the maps names
the classes, see `class_files.py`. Maps in a folder called "values" hold numbers.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from swin_jax.data.read import (
  class_folders,
  formats,
  image_files,
  left_out,
  map_folders,
  names,
  pairing,
  parts,
  rasters,
  roles,
  scenes,
  split_lists,
  tables,
  trees,
)
from swin_jax.data.read.names import Kind
from swin_jax.data.read.roles import Asked, Picture
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import printable, quoted

_PICTURES = tuple(dict.fromkeys((*image_files.EXTENSIONS, *rasters.EXTENSIONS)))
_ORDER = "train val test"


class RasterFiles(NamedTuple):
  """How rasters are told from images.

  Attributes:
    asked: whether the user asked for rasters, so that all files that may be rasters are.
    cuts_images: whether images are cut like rasters if there are no rasters.
    is_raster: path → whether the file holds a raster, and is not an image.
    shape: path → (height, width, bands); raises OSError or ValueError if the file cannot be read.
  """

  asked: bool
  cuts_images: bool
  is_raster: Callable[[str], bool]
  shape: Callable[[str], tuple[int, int, int]]


def understand(
  tree: trees.Tree, asked: Asked = roles.NOTHING, files: RasterFiles | None = None
) -> parts.Layout:
  """Finds out what a tree holds; lists it once.

  Args:
    tree: folder or archive.
    asked: what the user says about it.
    files: how rasters are told from images; None if all files are images.

  Raises:
    BadInput: it holds no image, or it is unclear what it holds.
  """
  listing = trees.list_all(tree)
  is_picture = [path.lower().endswith(_PICTURES) or _is_bare_image(tree, path) for path in listing.files]
  paths, others = (
    [path for path, kept in zip(listing.files, is_picture, strict=True) if kept is kind]
    for kind in (True, False)
  )
  if not paths:
    raise BadInput(left_out.no_image(tree, listing))
  tree_roles = roles.find(paths, asked)
  mapped = None
  if not asked.folders_are_classes:
    mapped = map_folders.separate(tree_roles.pictures, asked, tree.name)
  images = mapped.images if mapped else tree_roles.pictures
  if asked.images:
    images = [each for each in images if each.kind is not Kind.OTHER]
  candidates = images
  of_rasters, images = _of_one_kind(images, files)
  if not images:
    raise BadInput(left_out.no_image(tree, listing))
  looks_decide = not (asked.folders_are_classes or asked.images)
  if of_rasters and looks_decide:
    maps = mapped.maps if mapped else [each for each in candidates if each.kind is Kind.LABEL]
    scenes.check(tree, [each for each in images if each.kind is not Kind.LABEL], maps, files.shape)
  if looks_decide and not mapped:
    map_folders.check_folders(tree.name, listing, left_out.folders_around(paths))
    map_folders.check_unpaired(tree.name, candidates, others)
  pairs = pairing.pair(images, mapped.maps, tree.name) if mapped else None
  by_split, lists, notes = _split(tree, images, others, pairs)
  if mapped:
    finding = map_folders.find(
      tree, by_split, pairs, mapped.of_values, others, bool(lists), tree_roles.stated
    )
  else:
    finding = class_folders.find(
      tree,
      by_split,
      tree_roles.base,
      tree_roles.lone_split,
      _class_file(tree, others) if asked.folders_are_classes is None else None,
      asked.folders_are_classes,
      others,
      asked.folders_are_groups,
    )
  titles = _titles(finding.parts, {} if lists else tree_roles.stated, asked)
  if not lists:
    notes = (*_of_splits(titles, tree_roles.stated), *_of_repeated(tree_roles))
  used = {path for part in finding.parts.values() for path in (*part.images, *part.maps)}
  previews = _previews(paths, used) if of_rasters else set()
  passed_over = tree_roles.repeated.keys() | previews
  used.update(passed_over)
  left = [path for path in paths if path not in used]
  used.update(finding.used, lists, (asked.class_file,))
  unread = [path for path in listing.files if path not in used]
  pictures = [*tree_roles.pictures, *(mapped.others if mapped else ())]  # of one path, the last role counts
  excluded = roles.excluded(unread, pictures, asked)
  return parts.Layout(
    {title: finding.parts[split] for split, title in titles.items()},
    finding.classes,
    finding.of_values,
    of_rasters,
    (*notes, *finding.notes, *_of_previews(previews), *left_out.notes(left, listing, used, tree_roles.base)),
    (*finding.warnings, *_of_joined(titles, tree_roles), *left_out.hidden(tree, listing, _PICTURES)),
    _by_ending([path for path in unread if path not in excluded]),
    _by_ending(excluded),
    len(passed_over),
  )


def _by_ending(paths: Collection[str]) -> dict[str, int]:
  return dict(sorted(Counter(names.ending_of(path) or "no ending" for path in paths).items()))


def _of_one_kind(images: list[Picture], files: RasterFiles | None) -> tuple[bool, list[Picture]]:
  """Returns (whether the images are rasters, those that are what most are)."""
  ends = lambda endings: [each for each in images if each.path.lower().endswith(endings)]
  may_be_rasters = ends(rasters.EXTENSIONS)
  bare = {each.path for each in images if not names.ending_of(each.path)}  # images by their content
  may_be_images = [
    each for each in images if each.path in bare or each.path.lower().endswith(image_files.EXTENSIONS)
  ]
  if files is None or not may_be_rasters:
    return files is not None and files.cuts_images, may_be_images
  only_images = [each for each in may_be_images if not each.path.lower().endswith(rasters.EXTENSIONS)]
  if files.asked:
    return True, may_be_rasters
  if not only_images:
    is_raster = files.is_raster(may_be_rasters[0].path)
    return is_raster, may_be_rasters if is_raster else may_be_images
  in_files = [each for each in may_be_rasters if rasters.one_to_a_file(each.path)]
  if len(in_files) >= len(only_images) and files.is_raster(in_files[0].path):  # the others are previews
    return True, may_be_rasters
  stems = {names.stem_of(each.path) for each in only_images}
  arrays = [each for each in may_be_rasters if not rasters.one_to_a_file(each.path)]
  # an array with the name of an image describes it
  own = [each for each in arrays if not any(head in stems for head in _heads(names.stem_of(each.path)))]
  return (True, may_be_rasters) if len(own) > len(may_be_images) else (False, may_be_images)


def _previews(paths: Sequence[str], used: Collection[str]) -> set[str]:
  """Returns the JPEG files that are not used, if each lies next to a raster of its name."""
  jpegs = {path for path in paths if names.ending_of(path) in (".jpg", ".jpeg")}.difference(used)
  stems = set(map(names.stem_of, used))
  return jpegs if all(names.stem_of(path) in stems for path in jpegs) else set()


def _of_previews(previews: Collection[str]) -> list[str]:
  """Returns the note on previews; none if there are none."""
  note = f"JPEG files with the names of rasters next to them are not used: {len(previews):,}"
  return [note] if previews else []


def _is_bare_image(tree: trees.Tree, path: str) -> bool:
  """Returns whether a file without an ending is an image by its content."""
  if names.ending_of(path):
    return False
  try:
    return formats.is_image(tree.read(path))
  except (OSError, ValueError):
    return False


def _heads(stem: str) -> list[str]:
  return [stem] + [stem[:at] for at, letter in enumerate(stem) if letter in "_-."]


def _split(
  tree: trees.Tree, images: Sequence[Picture], others: Sequence[str], pairs: pairing.Pairs | None
) -> tuple[dict[str, list[Picture]], tuple[str, ...], tuple[str, ...]]:
  """Returns (split → images, paths of the files that list the splits, notes)."""
  by_split: dict[str, list[Picture]] = {}
  for image in images:
    by_split.setdefault(image.split, []).append(image)
  if list(by_split) != [""]:
    if by_split.keys() and "" in by_split and pairs and "train" not in by_split:
      by_split["train"] = by_split.pop("")  # images and maps next to a folder of test images
    by_split.pop("", None)
    return by_split, (), ()
  mapped = {image.path for image, _ in pairs.pairs} if pairs else ()
  lists = split_lists.find(
    tree, others, [each.path for each in images], {i for i, each in enumerate(images) if each.path in mapped}
  )
  if not lists:
    return by_split, (), ()
  by_split = {split: [images[i] for i in numbers] for split, numbers in lists.splits.items()}
  if "train" not in by_split:
    in_lists = {image.path for each in by_split.values() for image in each}
    if rest := [image for image in images if image.path not in in_lists]:
      by_split["train"] = rest
  notes = [f"splits: those listed in {', '.join(map(printable, lists.files))}"]
  if lists.twice:
    notes.append(f"{lists.twice:,} images are in more than one of these lists")
  return by_split, tuple(lists.files), tuple(notes)


def _of_repeated(tree_roles: roles.Roles) -> list[str]:
  """Returns a note on splits that are left out because they repeat others."""
  counts = Counter(tree_roles.repeated.values())
  repeat = "repeats" if len(counts) == 1 else "repeat"
  shown = f"splits left out: {left_out.some(counts)}, which {repeat} images of another split"
  return [f"{shown}; --splits= overrides"] if counts else []


def _of_joined(titles: Mapping[str, str], tree_roles: roles.Roles) -> Iterator[str]:
  """Yields a line for folders that are taken for one split although they have different words for it."""
  for folders in tree_roles.joined:
    split = names.read(folders[0]).split
    flag = ",".join(
      f"{titles[split] if len(alike) == 1 else folder}:{folder}"
      for split, alike in tree_roles.stated.items()
      for folder in alike
    )
    if split in titles:
      yield (
        f"the folders {' and '.join(map(printable, folders))} are taken for one split, {titles[split]}; if"
        f" they are different splits, give --splits={quoted(flag)}"
      )


def _class_file(tree: trees.Tree, others: Sequence[str]) -> tuple[str, str] | None:
  """Returns (path, text) of the file that names classes; None if there is none, or it cannot be read."""
  for path in map_folders.of_classes(others):
    try:
      return path, tables.text_of(tree.read(path), "replace")
    except (OSError, ValueError):
      return None
  return None


def _titles(splits: Collection[str], stated: Mapping[str, Sequence[str]], asked: Asked) -> dict[str, str]:
  """Returns split → its name, in the order train, val, test: a plain name of a folder stays, and "test"
  without "val" becomes "val".
  """
  titles = {}
  for split in sorted(splits, key=lambda split: (split[:3] not in _ORDER, _ORDER.find(split[:3]), split)):
    folders = stated.get(split, ())
    if asked.splits or not folders:
      titles[split] = split
    elif len(folders) == 1 and names.states_split(folders[0]):
      titles[split] = folders[0]
    else:
      titles[split] = "val" if split == "test" and "train" in splits and "val" not in splits else split
  return titles


def _of_splits(titles: Mapping[str, str], stated: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
  """Returns the note on the names of splits; none if they are those of their folders."""
  pairs = [(stated.get(split, [split]), title) for split, title in titles.items()]
  if all(folders == [title] for folders, title in pairs):
    return ()
  shown = ", ".join(f"{' and '.join(map(printable, folders))} → {title}" for folders, title in pairs)
  return (f"splits: {shown}; --splits= overrides",)
