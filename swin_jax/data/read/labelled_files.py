"""Images with a map each, in a folder or a zip: of the classes of its pixels, or of a number for each.

  path/SPLIT/images/**/x.jpg  with  path/SPLIT/labels/**/x.png        or
  path/images/SPLIT/**/x.jpg  with  path/labels/SPLIT/**/x.png        as ADE20K has it

"labels" may also be called "annotations" or "masks". Beside them lies a file that names the classes, see
`labels.py`. "values" in its place holds rasters or grey images of one band. Where the images are rasters see
`tiles.py`.
"""

from collections.abc import Sequence
import itertools
import os
from typing import NamedTuple

import numpy as np

from swin_jax.data.read import image_files, labels, rasters, targets
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
  """Where the images of a split and their maps are.

  Attributes:
    images, maps: folders, with a "/" at the end.
    classes: what the maps mean; None where they hold numbers.
    nodata: the number of pixels of which nothing is known, beside what the maps themselves declare.
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
    """Of pixels."""
    return self.classes.names if self.classes else ()

  @property
  def extensions(self) -> tuple[str, ...]:
    """That files of maps may have."""
    return image_files.EXTENSIONS if self.classes else _OF_VALUES

  def read_map(self, tree: image_files.Tree, path: str) -> np.ndarray:
    """The map in a file of a tree.

    Raises:
      ValueError: it cannot be read, or holds what is no label; the message names it.
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

  def __init__(self, tree: image_files.Tree, split: Split):
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
    image, target = self._pairs[index]
    return Example(self._tree.read(image), -1, image, self._split.read_map(self._tree, target))

  @property
  def listing(self) -> bytes:
    """All paths and what their values mean, to tell one set from another."""
    meaning = self._split.classes.of_value.tobytes() if self._split.classes else b""
    return "\n".join(image for image, _ in self._pairs).encode("utf-8", "surrogateescape") + meaning


def pairs(tree: image_files.Tree, split: Split, extensions: Sequence[str]) -> list[tuple[str, str]]:
  """The paths of a split's images and of their maps, sorted.

  Raises:
    BadInput: no image of these extensions, or images without a map.
  """
  files = _by_stem(tree, split.images, extensions)
  found = _by_stem(tree, split.maps, split.extensions)
  where = os.path.join(tree.name, split.images)
  if not files:
    raise BadInput(f"{where} holds no image ({' '.join(extensions)})")
  if missing := [files[stem] for stem in sorted(files) if stem not in found]:
    more = f", and {len(missing) - 1} others have none either" if len(missing) > 1 else ""
    maps = os.path.join(tree.name, split.maps)
    raise BadInput(f"{where}{missing[0]} has no map of the same name in {maps}{more}; add or remove them")
  return [(split.images + files[stem], split.maps + found[stem]) for stem in sorted(files)]


def _by_stem(tree: image_files.Tree, folder: str, extensions: Sequence[str]) -> dict[str, str]:
  """Path without its suffix → path, of the files in a folder."""
  found: dict[str, str] = {}
  for path in image_files.find(tree, folder, "", extensions):
    if (other := found.setdefault(path.rpartition(".")[0], path)) != path:
      raise BadInput(
        f"{os.path.join(tree.name, folder)} holds {other} and {path}, and which is meant is not clear;"
        " remove one"
      )
  return found


def find(tree: image_files.Tree, nodata: float | None = None) -> dict[str, Split]:
  """The splits of a tree, by name; none where it holds no maps. `nodata`: see `Split`.

  Raises:
    BadInput: there are label maps, but no file that names their classes, or an unusable one; or nodata is
      given, and no map of numbers; or there are both kinds.
  """
  folder = ""
  while True:
    names = image_files.folders(tree, folder)
    found = _by_split(tree, folder, names) or _by_kind(tree, folder, names)
    # Most zip files have a folder around all, which looks like a split where there are none in it.
    wrapped = len(names) == 1 and not image_files.is_split(names[0]) and not _class_files(tree, folder)
    if found and not wrapped:
      break
    if len(names) != 1:
      return {}
    folder += names[0] + "/"
  of_values = [kind == VALUES for _, _, kind in found.values()]
  if nodata is not None and not all(of_values):
    raise BadInput(f"--values_nodata is for maps of numbers; {tree.name} holds labels")
  # Beside the folders of maps, or among the maps.
  classes = next(
    filter(None, (classes_in(tree, place) for place in (folder, *(maps for _, maps, _ in found.values())))),
    None,
  )
  if classes is None and not all(of_values):
    raise BadInput(
      f"{os.path.join(tree.name, folder)} holds label maps, but does not say what they mean: put a"
      " classes.txt beside them, a class name"
      f" a line; where they are maps of numbers, call their folders {VALUES}; where they are no maps,"
      " prepare the folder of the images alone"
    )
  return {
    split: Split(*folders, None if kind == VALUES else classes, nodata)
    for split, (*folders, kind) in found.items()
  }


def open_folder(path: str, split: str, wanted: Target) -> LabelledFiles:
  """Opens the images of a split with maps of a kind.

  Raises:
    BadInput: there are none.
  """
  if not os.path.isdir(path):
    raise BadInput(f"{path} is a file, not a folder; python -m swin_jax.data.prepare reads zip files")
  tree = image_files.Disk(path)
  found = find(tree)
  if not found:
    if os.path.isfile(os.path.join(path, f"{split}.json")):
      raise BadInput(f"{path} was written by prepare: read it with --config.data.source=array_record")
    raise BadInput(
      f"{path} holds no maps: there must be {split}/{IMAGES} and {split}/{wanted}, or {IMAGES}/{split} and"
      f" {wanted}/{split}"
    )
  if split not in found:
    raise BadInput(no_split(path, split, found))
  if found[split].targets is not wanted:
    raise BadInput(
      f"{path} holds {found[split].targets} of pixels, and the task needs {wanted}: there must be"
      f" {split}/{wanted}"
    )
  return LabelledFiles(tree, found[split])


def _by_split(tree: image_files.Tree, folder: str, names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
  """Split → (folder of images, folder of maps, what that is called)."""
  found, without = {}, []
  for split in names:
    inside = image_files.folders(tree, f"{folder}{split}/")
    # A folder around all, with the splits below, is no split itself.
    below = image_files.folders(tree, f"{folder}{split}/{IMAGES}/") if IMAGES in inside else []
    if (
      IMAGES in inside
      and (maps := _maps(tree, f"{folder}{split}/", inside))
      and not any(map(image_files.is_split, below))
    ):
      found[split] = f"{folder}{split}/{IMAGES}/", f"{folder}{split}/{maps}/", maps
    elif IMAGES in inside and _must_have_maps(split):
      without.append(split)
  if found and without:
    kind = next(iter(found.values()))[-1]
    raise BadInput(
      f"{os.path.join(tree.name, folder)}{without[0]} has {IMAGES} and no {kind}; add {without[0]}/{kind},"
      " or remove it"
    )
  return found


def _by_kind(tree: image_files.Tree, folder: str, names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
  """As `_by_split`."""
  maps = _maps(tree, folder, names)
  if IMAGES not in names or not maps:
    return {}
  of_images, of_maps = (
    set(filter(image_files.is_split, image_files.folders(tree, f"{folder}{kind}/")))
    for kind in (IMAGES, maps)
  )
  names = sorted(of_images & of_maps)
  if names and (without := sorted(filter(_must_have_maps, of_images - of_maps))):
    raise BadInput(
      f"{os.path.join(tree.name, folder)} has {IMAGES}/{without[0]} and no {maps}/{without[0]}; add it, or"
      " remove the images"
    )
  splits = {split: (f"{folder}{IMAGES}/{split}/", f"{folder}{maps}/{split}/", maps) for split in names}
  return splits or {"train": (f"{folder}{IMAGES}/", f"{folder}{maps}/", maps)}


def _must_have_maps(split: str) -> bool:
  """Whether a split without maps is a mistake; the maps of tests are often kept back."""
  return image_files.is_split(split) and not split.lower().startswith("test")


def _maps(tree: image_files.Tree, folder: str, names: Sequence[str]) -> str | None:
  """The folder of maps; one of text, as other programs keep boxes in, is none."""
  kinds = dict.fromkeys(LABELS, image_files.EXTENSIONS) | {VALUES: _OF_VALUES}
  found = [
    name
    for name in kinds
    if name in names and next(image_files.find(tree, f"{folder}{name}/", "", kinds[name]), None)
  ]
  if VALUES in found and len(found) > 1:
    raise BadInput(
      f"{os.path.join(tree.name, folder)} holds both {found[0]} and {VALUES}; prepare each from a folder of"
      " its own"
    )
  return next(iter(found), None)


def _class_files(tree: image_files.Tree, folder: str) -> list[str]:
  return [name for name, is_folder in tree.entries(folder) if not is_folder and name in labels.FILES]


def classes_in(tree: image_files.Tree, folder: str) -> labels.Classes | None:
  """What a file of a folder says of the classes; None where there is no such file.

  Raises:
    BadInput: it is unusable.
  """
  if not (there := _class_files(tree, folder)):
    return None
  text = tree.read(folder + there[0]).decode("utf-8-sig", "replace")
  return labels.parse(there[0], text, os.path.join(tree.name, folder, there[0]))
