"""The ground truth of whole images: maps in a folder."""

from collections.abc import Sequence
import os
import pathlib

import numpy as np

from swin_jax.data.read import (
  class_files,
  class_names,
  labelled_files,
  labels,
  map_sets,
  maps,
  model_images,
  names,
  pairing,
  places,
  rasters,
  roles,
  targets,
  trees,
)
from swin_jax.predict.whole_images import Whole
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed
from swin_jax.terminal.progress import say


class Truth:
  """The ground-truth maps in a folder, of classes or of values, by the name of their image."""

  def __init__(
    self,
    flag: str,
    folder: str,
    num_classes: int,
    names: Sequence[str] = (),
    images: Sequence[pathlib.Path] = (),
  ):
    """Finds the maps and, for classes, the file that explains their values.

    That file is in the folder or up to two levels above it; without it, the values are the classes. Classes
    go by name if the model has names; pixels of a class that it does not know have none.

    Args:
      flag: name of the flag that gave the folder, for messages.
      folder: of the maps.
      num_classes: of the model; 0 for values.
      names: of its classes, by label; () if it has none.
      images: files whose maps may be asked for. Where a map has another name than its image, they are paired
        as in `prepare`, by the names of all files next to these.

    Raises:
      BadInput: there is no such folder, the classes are not those of the model, or two maps have the same
        name.
    """
    if not pathlib.Path(folder).is_dir():
      raise BadInput(f"{flag}={folder} is not a folder")
    self._tree, classes, self._label_of = trees.Disk(folder), None, None
    if num_classes:
      folders = map(str, [folder, *pathlib.Path(folder).resolve().parents[:2]])
      in_files = (class_files.read(trees.Disk(place), "") for place in folders)
      numbered = labels.numbered(tuple(map(str, range(num_classes))))
      stated = next((stated for stated in in_files if stated), None)
      classes = stated or numbered
      if stated and len(names):
        self._label_of = _labels_of_model(stated.names, names, flag, folder)
      elif len(classes.names) > num_classes:
        raise BadInput(f"{flag}={folder} has {len(classes.names)} classes, but the model has {num_classes}")
    paths = labelled_files.readable(trees.list_all(self._tree).files, of_values=not num_classes)
    reader = map_sets.understand(self._tree, paths, classes, maps.UNSAID, f"{flag}={folder}")
    self._split = labelled_files.Split((), (), reader)
    self._maps: dict[str, str] = {}
    for path in paths:
      if (other := self._maps.setdefault(pathlib.PurePath(path).stem, path)) != path:
        raise BadInput(
          f"{flag}={folder} holds {other} and {path}, which is ambiguous; give a folder that holds one of "
          "them"
        )
    self._paired = _pair([image for image in images if image.stem not in self._maps], paths)

  def of(self, image: Whole) -> np.ndarray:
    """Returns the map of an image, resized like the image, and unknown where the image holds no data.

    Raises:
      BadInput: there is no map for the image, or it cannot be read.
    """
    path = self._maps.get(image.name) or self._paired.get(image.name)
    if not path:
      raise BadInput(
        f"{self._tree.name} holds no map called {image.name}, nor one whose name differs only by its end, as"
        " prepare pairs them; rename the map"
      )
    try:
      values = self._split.read_map(self._tree, path)
      values = targets.turned_like(values, image.orientation, image.size).map
      values = values if self._label_of is None else self._label_of[values]
      targets.check_size(values.shape, image.size)
      if image.place and rasters.one_to_a_file(path):
        places.check(places.of(os.path.join(self._tree.name, path)), image.place)
    except ValueError as error:
      raise BadInput(f"{image.name}: {self._tree.name}: {error}") from error
    return targets.where_valid(targets.resize(values, image.pixels.shape[:2]), image.valid)


def _pair(images: Sequence[pathlib.Path], maps: Sequence[str]) -> dict[str, str]:
  """Returns name of an image → path of its map, as `prepare` pairs all images in the folders of some; empty
  if these are ambiguous.
  """
  beside = [file for folder in {image.parent for image in images} for file in folder.iterdir()]
  known = [file for file in beside if file.suffix.lower() in model_images.EXTENSIONS]
  if not known or not maps:
    return {}
  pictures = [roles.Picture(str(file), "", names.Kind.IMAGE, (), (), ()) for file in known]
  of_maps = [roles.Picture(path, "", names.Kind.LABEL, (), (), ()) for path in maps]
  try:
    pairs = pairing.pair(pictures, of_maps, "").pairs
  except BadInput:
    return {}
  return {pair.image.stem: pair.map.path for pair in pairs}


def _labels_of_model(classes: Sequence[str], names: Sequence[str], flag: str, folder: str) -> np.ndarray:
  """Returns the model's label of each class of the maps, uint8 [256]; says which classes it does not know.

  Raises:
    BadInput: it knows none of them.
  """
  label_of = class_names.match(classes, names)
  unknown = [name for name, label in zip(classes, label_of, strict=True) if label < 0]
  if len(unknown) == len(label_of):
    raise BadInput(
      f"{flag}={folder} has classes {listed(unknown)}, but the model has"
      f" {listed(names)}: give maps of its classes"
    )
  if unknown:
    say(f"not known to the model: {listed(unknown)}; their pixels count as unlabelled")
  return labels.renumbering(label_of)
