"""Images with one map each, in a folder or a zip. A map holds a class or a number for each pixel.

  path/SPLIT/images/**/x.jpg  with  path/SPLIT/labels/**/x.png        or
  path/images/SPLIT/**/x.jpg  with  path/labels/SPLIT/**/x.png        as in ADE20K

"labels" may also be called "annotations" or "masks". A file next to them names the classes, see `labels.py`.
A folder "values" in its place holds rasters or grey images of one band. For images that are rasters see
`tiles.py`.
"""

from collections.abc import Sequence
import itertools
import os
from typing import NamedTuple

import numpy as np

from swin_jax.data.read import image_files, labels, rasters, targets, trees
from swin_jax.data.read.example import Example, no_split
from swin_jax.data.read.targets import Target
from swin_jax.terminal.errors import BadInput

IMAGES = "images"
LABELS = (Target.LABELS.value, "annotations", "masks")
VALUES = Target.VALUES.value
_OF_VALUES = tuple(
  dict.fromkeys((*itertools.filterfalse(rasters.opens_whole, rasters.EXTENSIONS), *image_files.EXTENSIONS))
)


class Split(NamedTuple):
  """Locations of the images of a split and of their maps.

  Attributes:
    images, maps: folders, with a trailing "/".
    classes: meaning of label maps; None if the maps hold numbers.
    nodata: number that marks unknown pixels, in addition to the value that the maps declare.
  """

  images: str
  maps: str
  classes: labels.Classes | None
  nodata: float | None = None

  @property
  def targets(self) -> Target:
    """See `example.Source`."""
    return Target.LABELS if self.classes else Target.VALUES

  @property
  def class_names(self) -> tuple[str, ...]:
    """Names of the classes of pixels; empty if the maps hold numbers."""
    return self.classes.names if self.classes else ()

  @property
  def extensions(self) -> tuple[str, ...]:
    """File extensions that maps may have."""
    return image_files.EXTENSIONS if self.classes else _OF_VALUES

  def read_map(self, tree: trees.Tree, path: str) -> np.ndarray:
    """Reads a map from a file of a tree.

    Raises:
      ValueError: the file cannot be read or holds a value that is not a label; the message names the file.
    """
    try:
      return (
        labels.read(tree.read(path), self.classes)
        if self.classes
        else targets.read_values(tree.read(path), path, None, self.nodata)
      )
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
    meaning = self._split.classes.of_value.tobytes() if self._split.classes else b""
    return "\n".join(image for image, _ in self._pairs).encode("utf-8", "surrogateescape") + meaning


def pairs(tree: trees.Tree, split: Split, extensions: Sequence[str]) -> list[tuple[str, str]]:
  """Returns the paths of a split's images and of their maps, sorted.

  Raises:
    BadInput: there is no image with these extensions, or images have no map.
  """
  files = _by_stem(tree, split.images, extensions)
  maps_by_stem = _by_stem(tree, split.maps, split.extensions)
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


def find(tree: trees.Tree, nodata: float | None = None) -> dict[str, Split]:
  """Returns the splits of a tree by name; empty if it holds no maps. `nodata`: see `Split`.

  Raises:
    BadInput: there are label maps but no usable file of class names; or nodata is given but there are maps of
      labels; or both kinds of map are present.
  """
  folder = ""
  while True:
    names = trees.folders(tree, folder)
    splits = _by_split(tree, folder, names) or _by_kind(tree, folder, names)
    # Most zip files have one top folder, which looks like a split if it contains none.
    wrapped = len(names) == 1 and not image_files.is_split(names[0]) and not _class_files(tree, folder)
    if splits and not wrapped:
      break
    if len(names) != 1:
      return {}
    folder += names[0] + "/"
  of_values = [name == VALUES for _, _, name in splits.values()]
  if nodata is not None and not all(of_values):
    raise BadInput(f"--values_nodata applies to maps of numbers; {tree.name} holds labels")
  # The class file lies next to the folders of maps or inside them.
  classes = next(
    filter(None, (classes_in(tree, place) for place in (folder, *(maps for _, maps, _ in splits.values())))),
    None,
  )
  if classes is None and not all(of_values):
    raise BadInput(
      f"{os.path.join(tree.name, folder)} holds label maps, but does not say what they mean: put a "
      f"classes.txt next to them, one class name per line; for maps of numbers, name their folders {VALUES}; "
      "if they are not maps, prepare only the folder of the images"
    )
  return {
    split: Split(*folders, None if name == VALUES else classes, nodata)
    for split, (*folders, name) in splits.items()
  }


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
  kinds = dict.fromkeys(LABELS, image_files.EXTENSIONS) | {VALUES: _OF_VALUES}
  present = [
    name
    for name in kinds
    if name in names and next(image_files.find(tree, f"{folder}{name}/", "", kinds[name]), None)
  ]
  if VALUES in present and len(present) > 1:
    raise BadInput(
      f"{os.path.join(tree.name, folder)} holds both {present[0]} and {VALUES}; prepare each from a separate "
      "folder"
    )
  return next(iter(present), None)


def _class_files(tree: trees.Tree, folder: str) -> list[str]:
  return [name for name, is_folder in tree.entries(folder) if not is_folder and name in labels.FILES]


def classes_in(tree: trees.Tree, folder: str) -> labels.Classes | None:
  """Reads the classes from the class file of a folder; None if there is no class file.

  Raises:
    BadInput: the file is unusable.
  """
  if not (names := _class_files(tree, folder)):
    return None
  path = os.path.join(tree.name, folder, names[0])
  try:
    text = tree.read(folder + names[0]).decode("utf-8-sig", "replace")
  except (OSError, ValueError) as error:
    raise BadInput(f"{path} cannot be read: {error}") from error
  return labels.parse(names[0], text, path)
