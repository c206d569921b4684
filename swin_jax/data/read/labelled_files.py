"""Images with one map each, in a folder or an archive. A map holds a class or a number for each pixel.

`layouts.py` says where they are; for images that are rasters see `raster_sources.py`.
"""

from collections.abc import Sequence
import os
from typing import NamedTuple

import numpy as np

from swin_jax.data.read import (
  class_files,
  image_files,
  labels,
  map_sets,
  maps,
  names,
  parts,
  rasters,
  samples,
  targets,
  trees,
)
from swin_jax.data.read.example import Example
from swin_jax.data.read.targets import Target
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed
from swin_jax.terminal.printable import clean

IMAGES = "images"
LABELS = (Target.LABELS.value, "annotations", "masks")
VALUES = Target.VALUES.value
_TABLES = (".csv", ".tsv", ".json", ".txt", ".yaml", ".yml", ".xml")  # endings of what may name classes
_LOOKED_AT = 4  # maps, to find out whether they are coloured
MAP_ENDINGS = (*dict.fromkeys((".npy", ".jp2", *image_files.EXTENSIONS)),)  # of files that may be maps


def readable(paths: Sequence[str], of_values: bool) -> list[str]:
  """Returns the paths of what may be maps; arrays of labels count only where there are no image files."""
  paths = [path for path in paths if path.lower().endswith(MAP_ENDINGS)]
  in_images = [path for path in paths if path.lower().endswith(image_files.EXTENSIONS)]
  return paths if of_values else in_images or paths


class Split(NamedTuple):
  """The images of a split and their maps.

  Attributes:
    images, maps: paths, in the same order.
    reader: how the maps are read.
  """

  images: Sequence[str]
  maps: Sequence[str]
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
  """The images of one split with their maps. See `example.Source`."""

  labels = ()

  def __init__(self, tree: trees.Tree, split: Split):
    self._tree, self._split, self.targets = tree, split, split.targets
    self.class_names, self.num_classes = split.class_names, len(split.class_names)

  def __len__(self) -> int:
    return len(self._split.images)

  def __getitem__(self, index: int) -> Example:
    path = self._split.images[index]
    image = trees.read_named(self._tree, path)
    target = self._split.read_map(self._tree, self._split.maps[index])
    target, turn = targets.upright(target, image, self._split.reader.as_stored)
    return Example(image, -1, path, target, turn=turn)

  @property
  def files(self) -> list[str]:
    return list(self._split.images)

  @property
  def listing(self) -> bytes:
    """All paths and what their values mean, to tell one set from another."""
    names = "\n".join(self._split.images).encode("utf-8", "surrogateescape")
    return names + self._split.reader.meaning


def _without_classes(tree: trees.Tree, layout: parts.Layout) -> str:
  """Returns the message for label maps whose classes no file names."""
  paths = [path for part in layout.splits.values() for path in part.maps]
  folder = paths[0].rpartition("/")[0]
  looks = [stored for stored in (samples.read(tree, path) for path in paths[:_LOOKED_AT]) if stored]
  coloured = [stored for stored in looks if not stored.is_grey]
  line = "with one class per line"
  if 2 * len(coloured) > len(looks):
    line = "with one class and its colour per line, like 'sky 128,128,128', as the maps are coloured"
  around = ["", *(f"{folder[:at]}/" for at, letter in enumerate(f"{folder}/") if letter == "/" and at)]
  tables = sorted(
    clean(f"{at}{name}")
    for at in around
    for name, is_folder in tree.entries(at)
    if not is_folder and names.ending_of(name) in _TABLES and not name.lower().startswith("readme")
  )
  only = f"; prepare does not read {listed(tables, 3)} for that" if tables else ""
  return (
    f"{os.path.join(tree.name, folder)} holds label maps, such as {clean(paths[0])}, and no file names their"
    f" classes: write {os.path.join(tree.name, 'classes.txt')}, {line}{only}; for maps of numbers, name their"
    f" folders {VALUES}; if they are not maps, prepare only the folder of the images"
  )


def find(
  tree: trees.Tree, layout: parts.Layout, meaning: maps.Meaning = maps.UNSAID, void_by: str = ""
) -> dict[str, Split]:
  """Returns the splits of a tree whose images have maps. Looks at some maps, and prints what is understood.

  Args:
    tree: folder or archive.
    layout: what it holds.
    meaning: what flags say about maps.
    void_by: see `maps.Reader`.

  Raises:
    BadInput: there are label maps, but nothing names their classes; or a flag does not fit the maps.
  """
  if not layout.has_maps:
    return {}
  if meaning.nodata is not None and not layout.of_values:
    raise BadInput(f"--values_nodata applies to maps of numbers; {tree.name} holds labels")
  classes = layout.classes
  if classes is None and meaning.names:
    classes = labels.numbered(meaning.names)._replace(names_in="the file of --colours")
  if classes is None and not layout.of_values:
    raise BadInput(_without_classes(tree, layout))
  images = [path for part in layout.splits.values() for path in part.images]
  if classes and not (meaning.label_values or meaning.colours) and class_files.name_folders(classes, images):
    raise BadInput(
      f"{tree.name} holds label maps, but its class file names the folders of the images, such as"
      f" {classes.names[0]}, not what maps hold: put a classes.txt next to the maps, with a name for each"
      " value; if maps do hold these classes, give --label_values=0,1,…"
    )
  paths = [path for part in layout.splits.values() for path in part.maps]
  classes = None if layout.of_values else classes
  reader = map_sets.understand(tree, paths, classes, meaning, tree.name, void_by)
  return {name: Split(part.images, part.maps, reader) for name, part in layout.splits.items() if part.maps}
