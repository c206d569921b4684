"""Images with one map each, in a folder or a zip. A map holds a class or a number for each pixel.

  path/SPLIT/images/**/x.jpg  with  path/SPLIT/labels/**/x.png        or
  path/images/SPLIT/**/x.jpg  with  path/labels/SPLIT/**/x.png        as in ADE20K

"labels" may also be called "annotations" or "masks". A file next to them names the classes, see `labels.py`.
A folder "values" in its place holds rasters or grey images of one band. For images that are rasters see
`tiles.py`.
"""

from collections.abc import Sequence
import os
from typing import NamedTuple

import numpy as np

from swin_jax.data.read import class_files, image_files, labels, map_sets, maps, rasters, targets, trees
from swin_jax.data.read.example import Example, no_split
from swin_jax.data.read.targets import Target
from swin_jax.terminal.errors import BadInput

IMAGES = "images"
LABELS = (Target.LABELS.value, "annotations", "masks")
VALUES = Target.VALUES.value
MAPS = (*dict.fromkeys((".npy", ".jp2", ".gif", *image_files.EXTENSIONS)),)


class Split(NamedTuple):
  """Locations of the images of a split and of their maps.

  Attributes:
    images, maps: folders, with a trailing "/".
    reader: how the maps are read.
  """

  images: str
  maps: str
  reader: maps.Reader

  @property
  def targets(self) -> Target:
    """See `example.Source`."""
    return Target.LABELS if self.reader.classes else Target.VALUES

  @property
  def class_names(self) -> tuple[str, ...]:
    """Names of the classes of pixels; empty if the maps hold numbers."""
    return self.reader.classes.names if self.reader.classes else ()

  def read_map(self, tree: trees.Tree, path: str, window: rasters.Window | None = None) -> np.ndarray:
    """Reads a map, or a window of it, from a file of a tree.

    Raises:
      ValueError: the file cannot be read or holds a value that is not a label; the message names the file.
    """
    on_disk = isinstance(tree, trees.Disk) and not rasters.opens_whole(path)
    try:
      return self.reader.read(os.path.join(tree.name, path) if on_disk else tree.read(path), path, window)
    except ValueError as error:
      raise ValueError(f"{path} {error}") from error


class LabelledFiles:
  """The images of one split with their maps, sorted by name. See `example.Source`."""

  labels = ()

  def __init__(self, tree: trees.Tree, split: Split):
    """Lists the images and finds the map of each.

    Raises:
      BadInput: see `pairs`.
    """
    self._tree, self._split, self.targets = tree, split, split.targets
    self.class_names, self.num_classes = split.class_names, len(split.class_names)
    self._pairs = pairs(tree, split, image_files.EXTENSIONS)

  def __len__(self) -> int:
    return len(self._pairs)

  def __getitem__(self, index: int) -> Example:
    path, map_path = self._pairs[index]
    image = trees.read_named(self._tree, path)
    return Example(image, -1, path, targets.upright(self._split.read_map(self._tree, map_path), image))

  @property
  def listing(self) -> bytes:
    """All paths and what their values mean, to tell one set from another."""
    names = "\n".join(image for image, _ in self._pairs).encode("utf-8", "surrogateescape")
    return names + self._split.reader.meaning


def pairs(tree: trees.Tree, split: Split, extensions: Sequence[str]) -> list[tuple[str, str]]:
  """Returns the paths of a split's images and of their maps, sorted.

  Raises:
    BadInput: there is no image with these extensions, or images have no map.
  """
  files = _by_stem(tree, split.images, extensions)
  maps_by_stem = _by_stem(tree, split.maps, MAPS)
  where = os.path.join(tree.name, split.images)
  if not files:
    raise BadInput(f"{where} holds no image ({' '.join(extensions)})")
  if missing := [files[stem] for stem in sorted(files) if stem not in maps_by_stem]:
    more = f", and {len(missing) - 1} others have none" if len(missing) > 1 else ""
    maps = os.path.join(tree.name, split.maps)
    raise BadInput(f"{where}{missing[0]} has no map of the same name in {maps}{more}; add or remove them")
  return [(split.images + files[stem], split.maps + maps_by_stem[stem]) for stem in sorted(files)]


def _by_stem(tree: trees.Tree, folder: str, extensions: Sequence[str]) -> dict[str, str]:
  """Returns path without its suffix → path, for the files in a folder.

  Raises:
    BadInput: two files differ only in their suffix.
  """
  paths: dict[str, str] = {}
  for path in image_files.find(tree, folder, "", extensions):
    if (other := paths.setdefault(path.rpartition(".")[0], path)) != path:
      raise BadInput(
        f"{os.path.join(tree.name, folder)} holds {other} and {path}, which is ambiguous; remove one"
      )
  return paths


def locate(tree: trees.Tree) -> tuple[str, dict[str, tuple[str, str, str]]]:
  """Returns (folder of the set, split → (folder of images, folder of maps, name of the latter)).

  There are no splits if the tree holds no maps.

  Raises:
    BadInput: both kinds of map are present, or a split lacks its maps.
  """
  folder = ""
  while True:
    names = trees.folders(tree, folder)
    splits = _by_split(tree, folder, names) or _by_kind(tree, folder, names)
    # Most zip files have one top folder, which looks like a split if it contains none.
    wrapped = (
      len(names) == 1 and not image_files.is_split(names[0]) and not class_files.names_in(tree, folder)
    )
    if splits and not wrapped:
      return folder, splits
    if len(names) != 1:
      return folder, {}
    folder += names[0] + "/"


def find(tree: trees.Tree, meaning: maps.Meaning = maps.UNSAID) -> dict[str, Split]:
  """Returns the splits of a tree by name; empty if it holds no maps. Prints what is understood of the maps.

  Args:
    tree: folder or zip.
    meaning: what flags say about maps.

  Raises:
    BadInput: see `locate`; or there are label maps but no usable file of class names; or a flag does not fit
      the maps.
  """
  folder, splits = locate(tree)
  if not splits:
    return {}
  of_values = [name == VALUES for _, _, name in splits.values()]
  if meaning.nodata is not None and not all(of_values):
    raise BadInput(f"--values_nodata applies to maps of numbers; {tree.name} holds labels")
  # The class file lies next to the folders of maps or inside them.
  classes = next(
    filter(
      None, (class_files.read(tree, place) for place in (folder, *(maps for _, maps, _ in splits.values())))
    ),
    None,
  )
  if classes is None and meaning.names:
    classes = labels.numbered(meaning.names)
  if classes is None and not all(of_values):
    raise BadInput(
      f"{os.path.join(tree.name, folder)} holds label maps, but does not say what they mean: put a "
      f"classes.txt next to them, one class name per line; for maps of numbers, name their folders {VALUES}; "
      "if they are not maps, prepare only the folder of the images"
    )
  where, readers = os.path.join(tree.name, folder), {}
  for hold_values in sorted(set(of_values)):
    folders = [each for _, each, name in splits.values() if (name == VALUES) is hold_values]
    paths = [each + path for each in folders for path in image_files.find(tree, each, "", MAPS)]
    readers[hold_values] = map_sets.understand(tree, paths, None if hold_values else classes, meaning, where)
  return {split: Split(*folders, readers[name == VALUES]) for split, (*folders, name) in splits.items()}


def open_folder(path: str, split: str, expected: Target) -> LabelledFiles:
  """Opens the images of a split that have maps of the given kind.

  Raises:
    BadInput: there are none.
  """
  if not os.path.isdir(path):
    raise BadInput(f"{path} is a file, not a folder; python -m swin_jax.data.prepare reads zip files")
  tree = trees.Disk(path)
  splits = find(tree)
  if not splits:
    if os.path.isfile(os.path.join(path, f"{split}.json")):
      raise BadInput(f"{path} was written by prepare: read it with --config.data.source=array_record")
    raise BadInput(
      f"{path} holds no maps: there must be {split}/{IMAGES} and {split}/{expected}, or {IMAGES}/{split} and"
      f" {expected}/{split}"
    )
  if split not in splits:
    raise BadInput(no_split(path, split, splits))
  if splits[split].targets is not expected:
    raise BadInput(
      f"{path} holds {splits[split].targets} of pixels, and the task needs {expected}: there must be"
      f" {split}/{expected}"
    )
  return LabelledFiles(tree, splits[split])


def _by_split(tree: trees.Tree, folder: str, names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
  """Returns split → (folder of images, folder of maps, name of the latter), for SPLIT/images, SPLIT/labels.

  Raises:
    BadInput: some splits have maps, but another split that needs them has none.
  """
  with_maps, without = {}, []
  for split in names:
    inside = trees.folders(tree, f"{folder}{split}/")
    # A top folder with the splits below it is not a split itself.
    below = trees.folders(tree, f"{folder}{split}/{IMAGES}/") if IMAGES in inside else []
    if (
      IMAGES in inside
      and (maps := _maps(tree, f"{folder}{split}/", inside))
      and not any(map(image_files.is_split, below))
    ):
      with_maps[split] = f"{folder}{split}/{IMAGES}/", f"{folder}{split}/{maps}/", maps
    elif IMAGES in inside and _must_have_maps(split):
      without.append(split)
  if with_maps and without:
    kind = next(iter(with_maps.values()))[-1]
    raise BadInput(
      f"{os.path.join(tree.name, folder)}{without[0]} has {IMAGES} but no {kind}; add {without[0]}/{kind},"
      " or remove it"
    )
  return with_maps


def _by_kind(tree: trees.Tree, folder: str, names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
  """Does the same as `_by_split`, for images/SPLIT and labels/SPLIT."""
  maps = _maps(tree, folder, names)
  if IMAGES not in names or not maps:
    return {}
  of_images, of_maps = (
    set(filter(image_files.is_split, trees.folders(tree, f"{folder}{kind}/"))) for kind in (IMAGES, maps)
  )
  names = sorted(of_images & of_maps)
  if names and (without := sorted(filter(_must_have_maps, of_images - of_maps))):
    raise BadInput(
      f"{os.path.join(tree.name, folder)} has {IMAGES}/{without[0]} but no {maps}/{without[0]}; add it, or"
      " remove the images"
    )
  splits = {split: (f"{folder}{IMAGES}/{split}/", f"{folder}{maps}/{split}/", maps) for split in names}
  return splits or {"train": (f"{folder}{IMAGES}/", f"{folder}{maps}/", maps)}


def _must_have_maps(split: str) -> bool:
  """Returns whether a split without maps is a mistake; test sets often withhold their maps."""
  return image_files.is_split(split) and not split.lower().startswith("test")


def _maps(tree: trees.Tree, folder: str, names: Sequence[str]) -> str | None:
  """Returns the name of the folder of maps; None if there is none.

  Folders of text files do not count, because other programs keep bounding boxes in them.

  Raises:
    BadInput: there are folders of both label maps and numbers.
  """
  present = [
    name
    for name in (*LABELS, VALUES)
    if name in names and next(image_files.find(tree, f"{folder}{name}/", "", MAPS), None)
  ]
  if VALUES in present and len(present) > 1:
    raise BadInput(
      f"{os.path.join(tree.name, folder)} holds both {present[0]} and {VALUES}; prepare each from a separate "
      "folder"
    )
  return next(iter(present), None)
