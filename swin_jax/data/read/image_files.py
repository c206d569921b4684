"""Image files in a folder or a zip: their listing, their splits, and the classes that their folders define.

  path/<split>/<class>/**/*.jpg    labelled: the sorted class folders are 0, 1, 2, …
  path/<split>/**/*.jpg            without labels

Names that begin with a dot are ignored. The class folders of all splits are numbered together, so that a
class missing from one split does not shift the labels there.
"""

from array import array
from collections.abc import Iterator, Sequence
import os
import re

import numpy as np

from swin_jax.data.read.example import Example, no_split
from swin_jax.data.read.targets import Target
from swin_jax.data.read.trees import Disk, Tree, folders, read_named
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import printable

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp")
_SPLIT = re.compile(
  r"(train|training|val|valid|validation|eval|evaluation|test|testing)(\d{4})?", re.IGNORECASE
)


def is_split(name: str) -> bool:
  """Returns whether a folder has the name of a split: train, val, test2017, …"""
  return bool(_SPLIT.fullmatch(name))


def find_splits(tree: Tree, extensions: Sequence[str] = EXTENSIONS) -> tuple[str, list[str]]:
  """Returns (folder with a trailing "/" or "", its splits); no splits if images or class folders lie directly
  in it.

  Descends through folders that only wrap another one, as in most zip files.
  """
  folder = ""
  while True:
    entries = tree.entries(folder)
    names = [name for name, is_folder in entries if is_folder]
    splits = [name for name in names if is_split(name)]
    if (
      splits
      or len(names) != 1
      or any(_is_image(name, extensions) for name, is_folder in entries if not is_folder)
    ):
      return folder, splits
    folder += names[0] + "/"


class ImageFiles:
  """The images of one split in a folder or zip, sorted by class and name. See `example.Source`.

  All paths are stored in one bytes object: about 50 bytes per image, and quick to pickle.
  """

  targets = Target.NOTHING

  def __init__(
    self, tree: Tree, folder: str, split: str, splits: Sequence[str], extensions: Sequence[str] = EXTENSIONS
  ):
    """Lists the images.

    Args:
      tree: folder or zip that holds the images.
      folder: folder of the splits: "", or with a trailing "/".
      split: folder of this split, "" if it is `folder` itself.
      splits: all splits that share their classes with this one.
      extensions: file extensions of images.

    Raises:
      BadInput: there is no image, or there are images next to class folders.
    """
    self.tree = tree
    self._folder = folder + (split and split + "/")
    where = os.path.join(tree.name, self._folder)
    own = set(folders(tree, self._folder))
    names = sorted(own.union(*(folders(tree, folder + other) for other in splits))) if own else ()
    self.class_names, self.num_classes = tuple(map(printable, names)), len(names)
    label = {name: i for i, name in enumerate(names)}
    paths, offsets, labels = bytearray(), array("q", [0]), array("i")
    for path in find(tree, self._folder, "", extensions):
      head, slash, _ = path.partition("/")
      if own and not slash:
        raise BadInput(
          f"{where} holds class folders, but also images of its own, such as {path}; move those elsewhere"
        )
      paths += os.fsencode(path)
      offsets.append(len(paths))
      labels.append(label[head] if own else -1)
    if not labels:
      raise BadInput(f"{where} holds no image ({' '.join(extensions)})")
    self._paths, self._offsets, self.labels = bytes(paths), np.asarray(offsets), np.asarray(labels)

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> Example:
    path = self.path(index)
    name = os.fsencode(path).decode("utf-8", "replace")
    return Example(read_named(self.tree, path), int(self.labels[index]), name)

  def path(self, index: int) -> str:
    """Returns the path of an image in its tree."""
    return self._folder + os.fsdecode(self._paths[self._offsets[index] : self._offsets[index + 1]])

  @property
  def files(self) -> list[str]:
    return [self.path(index) for index in range(len(self))]

  @property
  def listing(self) -> bytes:
    """All paths, to tell one set from another."""
    return self._paths


def open_folder(path: str, split: str) -> ImageFiles:
  """Opens the images in path/split.

  Raises:
    BadInput: the folder does not exist or holds no images.
  """
  if not os.path.isdir(path):
    raise BadInput(f"{path} is a file, not a folder; python -m swin_jax.data.prepare reads zip and npz files")
  tree = Disk(path)
  names = folders(tree, "")
  if split not in names:
    splits = [name for name in names if is_split(name)]
    if os.path.isfile(os.path.join(path, f"{split}.json")):
      raise BadInput(f"{path} was written by prepare: read it with --config.data.source=array_record")
    if splits:
      raise BadInput(no_split(path, split, splits))
    raise BadInput(
      f"{path} has no folder '{split}'{' but ' + ', '.join(names[:5]) if names else ''}; for images without"
      " splits:"
      f" python -m swin_jax.data.prepare --source={path} --out=FOLDER --hold_out=0.1"
    )
  return ImageFiles(tree, "", split, [name for name in names if is_split(name) or name == split])


def find(tree: Tree, root: str, folder: str = "", extensions: Sequence[str] = EXTENSIONS) -> Iterator[str]:
  """Yields the paths of the images below root + folder, relative to root."""
  for name, is_folder in tree.entries(root + folder):
    if is_folder:
      yield from find(tree, root, f"{folder}{name}/", extensions)
    elif _is_image(name, tuple(extensions)):
      yield folder + name


def _is_image(name: str, extensions: Sequence[str]) -> bool:
  return name.lower().endswith(tuple(extensions))
