"""Answers for the pixels of whole images: a map for each, in a folder of maps, and a table of them."""

from collections import Counter
from collections.abc import Callable, Iterator
import pathlib
from typing import Any

from swin_jax.predict import whole_images
from swin_jax.predict.answer import Answer, Work
from swin_jax.predict.inputs import Images, Place
from swin_jax.predict.ledger import Ledger, row
from swin_jax.predict.maps import Maps
from swin_jax.predict.reading import Loaded, Source, ahead
from swin_jax.predict.whole_images import Whole
from swin_jax.saved.pretrained import Model
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import printable

TABLE, FOLDER = "maps.csv", "maps"
_MOST_PIXELS = 2**24  # of the images that are predicted together
_AHEAD = 2  # images read ahead of the model; one may be a large scene


class PixelMaps(Answer):
  """The label map or the value map of each image, of the size of its file."""

  headers = {TABLE: row("path", "map")}

  def __init__(self, model: Model, images: Images):
    """Chooses the names of the maps.

    Raises:
      BadInput: images are records of a prepared set, which have no files.
    """
    if not images.in_files:
      raise BadInput(
        "maps are named like the files of their images: give files or folders, not a prepared set"
      )
    self._model, self._images, self._maps = model, images, None
    self._stems = _distinct([images.place(i) for i in range(len(images))])

  def open(self, ledger: Ledger, total: int) -> None:
    del total
    self._folder = ledger.folder / FOLDER
    self._folder.mkdir(exist_ok=True)
    self._maps = Maps(self._folder, self._model.class_names)

  def answered(self, first: int, work: Work) -> Iterator[tuple[list[Loaded], list[Any]]]:
    """Yields groups of images, and (number, image, map) of those that could be read."""
    model, images, at_once = work.model, work.images, work.devices.count
    forward = work.devices.compiled(model.apply, work.params)
    source = Source(lambda i: (images.name(i), _read(model, images.place(i))), images.name)
    loaded = ahead(source.load, range(first, len(images)), work.num_threads, _AHEAD)
    for group in _groups(loaded, at_once):
      wholes = [(first + i, each.image) for i, each in enumerate(group) if not each.problem]
      scores = whole_images.answers(model, forward, [each.pixels for _, each in wholes], at_once)
      maps = (whole_images.to_map(model, each, x) for (_, each), x in zip(wholes, scores, strict=True))
      yield group, [(i, each, x) for (i, each), x in zip(wholes, maps, strict=True)]
      first += len(group)

  def write(self, ledger: Ledger, names: list[str], outputs: list[Any]) -> None:
    """Writes the maps of a group of images."""
    for name, (number, image, predictions) in zip(names, outputs, strict=True):
      path = self._maps.write(image, predictions, self._path_of(number))
      ledger.write(
        TABLE, row(printable(name), printable(pathlib.Path(FOLDER, path.relative_to(self._folder))))
      )

  def _path_of(self, number: int) -> Callable[[str], pathlib.Path]:
    stem = self._folder / self._stems[number]
    stem.parent.mkdir(parents=True, exist_ok=True)
    return lambda ending: stem.with_name(stem.name + ending)


def _read(model: Model, place: Place) -> Whole:
  return whole_images.read_one(model, place.path, place.index)


def _groups(loaded: Iterator[Loaded], count: int) -> Iterator[list[Loaded]]:
  """Yields consecutive images in groups of `count`, or fewer if they are large."""
  group, pixels = [], 0
  for each in loaded:
    group.append(each)
    pixels += 0 if each.problem else each.image.pixels[..., 0].size
    if len(group) == count or pixels >= _MOST_PIXELS:
      yield group
      group, pixels = [], 0
  if group:
    yield group


def _distinct(places: list[Place]) -> list[str]:
  """Returns the paths of the maps without ending: those of the images, which keep theirs where two would be
  equal.
  """
  counts = Counter(place.stem(full=False) for place in places)
  stems = [place.stem(full=counts[place.stem(full=False)] > 1) for place in places]
  return stems if len(set(stems)) == len(stems) else [place.stem(full=True) for place in places]
