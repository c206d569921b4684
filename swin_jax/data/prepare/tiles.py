"""Rasters cut into tiles, as examples for `prepare`.

  a folder or zip of SPLIT/CLASS/x.tif, SPLIT/x.tif or x.tif (or .jp2, .npy, .npz), one file, or a pattern
  with {split}; with a class or a number for each pixel as `labelled_files.py` says

Tiles do not overlap, so that what is held back is not seen in training, and leave nothing out: a raster is
divided into as many equal parts as have `Cut.tile` pixels or more (less than twice that) on each side; one
that is smaller stays whole along that side.
"""

from collections.abc import Callable, Sequence
from concurrent import futures
import functools
import io
import os
from typing import NamedTuple
import zipfile

import numpy as np
from PIL import Image

from swin_jax.data.read import image_files, image_ops, labelled_files, rasters, sources, targets
from swin_jax.data.read import labels as label_maps
from swin_jax.data.read.example import Example, wanted_splits
from swin_jax.data.read.targets import Target
from swin_jax.terminal.errors import BadInput

_KEPT_OPEN = 4  # files that had to be read whole are kept for their other tiles
_THREADS = 16  # that look at headers


class Cut(NamedTuple):
  """How rasters are read and cut.

  Attributes:
    tile: pixels, of each side; 0: rasters stay whole.
    nodata: the value of pixels without data, beside what the rasters themselves declare.
    array: of .npz files, which of their arrays; "" where each holds but one of three or four dimensions.
    values_nodata: see `labelled_files.Split`.
  """

  tile: int = 0
  nodata: float | None = None
  array: str = ""
  values_nodata: float | None = None

  @property
  def asks_for_rasters(self) -> bool:
    return self._replace(values_nodata=None) != Cut()


UNCUT = Cut()


class NoData(ValueError):
  """A tile none of whose pixels holds data."""


class Tiles:
  """The tiles of one split. See `example.Source`; images are arrays.

  Attributes:
    targets: see `example.Source`; maps are cut as their rasters.
    bands: that every raster must have: as many as the first that can be read.
    listing: files and their tiles, to tell one set from another.
  """

  def __init__(
    self,
    tree: image_files.Tree,
    paths: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    cut: Cut,
    kind: Target = Target.NOTHING,
    read_map: Callable[[int, rasters.Window | None, tuple[int, int]], np.ndarray] | None = None,
  ):
    """Looks at the size of every raster; one that cannot be read counts as one tile, which fails when it is
    read.

    Args:
      tree: where they are.
      paths: in it.
      labels: of each, -1 for none.
      class_names: of rasters, or of pixels.
      cut: see `Cut`.
      kind: `targets`.
      read_map: (number of a raster, window or None, (height, width) of the raster) → the map there, [height,
        width].

    Raises:
      BadInput: none can be read; the message says why the first cannot.
    """
    self._tree, self._files, self._cut = tree, list(paths), cut
    self.class_names, self.num_classes = tuple(class_names), len(class_names)
    self.targets = kind
    self._whole = functools.lru_cache(_KEPT_OPEN)(self._read_whole)
    self._read_map = read_map
    if len(self._files) > 1000 and cut.tile:
      print(f"looking at the sizes of {len(self._files):,} rasters", flush=True)
    with futures.ThreadPoolExecutor(_THREADS) as pool:
      sizes = list(pool.map(self._size, self._files))
    self._sizes = np.array(sizes, np.int64).reshape(-1, 3)  # rasters, height, width
    self.bands = self._find_bands()
    self._grid = (
      np.maximum(self._sizes[:, 1:] // cut.tile, 1) if cut.tile else np.ones_like(self._sizes[:, 1:])
    )
    counts = self._sizes[:, 0] * self._grid.prod(axis=1)
    self._ends = np.cumsum(counts)
    self.labels = np.repeat(np.asarray(labels, np.int64), counts)
    self.listing = b"\0".join(map(os.fsencode, self._files)) + self._sizes.tobytes()

  def __len__(self) -> int:
    return int(self._ends[-1])

  def __getitem__(self, index: int) -> Example:
    """One tile.

    Raises:
      NoData: it holds none.
      ValueError: it cannot be read, or has another number of bands than the other rasters.
    """
    file = int(np.searchsorted(self._ends, index, side="right"))
    path, (_, height, width), (rows, columns) = (
      self._files[file],
      map(int, self._sizes[file]),
      map(int, self._grid[file]),
    )
    if self._read_map and self._sizes[file][0] > 1:
      raise ValueError(f"{path}: holds {self._sizes[file][0]} rasters, but has one map")
    raster, part = divmod(index - (int(self._ends[file - 1]) if file else 0), rows * columns)
    (top, bottom), (left, right) = _part(height, rows, part // columns), _part(width, columns, part % columns)
    window = rasters.Window(top, left, bottom - top, right - left) if rows * columns > 1 else None
    name = (
      path + (f"[{raster}]" if self._sizes[file][0] > 1 else "") + (f" at {top},{left}" if window else "")
    )
    try:
      image = rasters.read(
        self._open(path), path, index=raster, window=window, nodata=self._cut.nodata, array=self._cut.array
      )
    except (OSError, ValueError) as error:
      raise ValueError(f"{name}: {error}") from error
    if image.shape[-1] != self.bands:
      raise ValueError(f"{name}: has {image_ops.count_bands(image.shape[-1])}, the first raster {self.bands}")
    if image.dtype.kind == "f" and np.isnan(image).all():
      raise NoData(f"{name}: holds no data")
    try:
      target = (
        self._read_map(file, window, (height, width) if height else image.shape[:2])
        if self._read_map
        else None
      )
    except ValueError as error:
      raise ValueError(f"{name}: {error}") from error
    return Example(image, int(self.labels[index]), name, target)

  def _open(self, path: str) -> str | bytes | np.ndarray:
    """What `rasters` takes: a path where windows of it can be read, else all of it."""
    if rasters.opens_whole(path) or not isinstance(self._tree, image_files.Disk):
      return self._whole(path)
    return os.path.join(self._tree.name, path)

  def _read_whole(self, path: str) -> bytes | np.ndarray:
    if rasters.one_to_a_file(path):
      return self._tree.read(path)
    on_disk = isinstance(self._tree, image_files.Disk)
    return rasters.load(
      os.path.join(self._tree.name, path) if on_disk else self._tree.read(path), path, self._cut.array
    )

  def _size(self, path: str) -> tuple[int, int, int]:
    if not self._cut.tile and rasters.one_to_a_file(path):
      return 1, 0, 0  # it need not be opened to be counted
    try:
      return self._shape(path)[:3]
    except (OSError, ValueError):
      return 1, 0, 0

  def _shape(self, path: str) -> tuple[int, int, int, int]:
    on_disk = isinstance(self._tree, image_files.Disk)
    return rasters.shape(
      os.path.join(self._tree.name, path) if on_disk else self._tree.read(path), path, self._cut.array
    )

  def _find_bands(self) -> int:
    reason = ""
    for path in self._files:
      try:
        return self._shape(path)[-1]
      except (OSError, ValueError) as error:
        reason = reason or f"{path}: {error}"
    raise BadInput(f"{self._tree.name} holds no raster that can be read; {reason}")


def _part(length: int, count: int, i: int) -> tuple[int, int]:
  return length * i // count, length * (i + 1) // count


def find(source: str, split: str, cut: Cut) -> dict[str, Tiles] | None:
  """Split → tiles, of a source that holds rasters; None where it holds images.

  Rasters are .npy, .npz and .jp2, and of .tif all but 8-bit grey and colour, which are images unless a `Cut`
  is asked for; an .npz with the arrays of an image set is one.

  Raises:
    BadInput: a cut is asked for where there are no rasters, or these are unusable.
  """
  if source.startswith("tfds:"):
    found = None
  elif "{split}" in source:
    paths = sources.npz_splits(source)
    first = next(iter(paths.values()), "")
    found = (
      {name: _file(path, cut) for name, path in paths.items()}
      if first and _is_raster(first, lambda: first)
      else None
    )
    if found:
      found = {name: found[name] for name in wanted_splits(source, split, list(found))}
  elif source.lower().endswith(rasters.EXTENSIONS) and not os.path.isdir(source):
    sources.check_exists(source)
    single = cut.asks_for_rasters and rasters.one_to_a_file(source) or _is_raster(source, lambda: source)
    found = {split or "train": _file(source, cut)} if single else None
  else:
    sources.check_exists(source)
    found = _in_tree(source, split, cut)
  if found is None and cut.asks_for_rasters:
    raise BadInput(
      f"--tile, --nodata and --array are for rasters ({' '.join(rasters.EXTENSIONS)}); {source} holds none"
    )
  return found


def _in_tree(source: str, split: str, cut: Cut) -> dict[str, Tiles] | None:
  tree = image_files.Disk(source) if os.path.isdir(source) else image_files.Zip(source)
  labelled = labelled_files.find(tree, cut.values_nodata)
  top = next(iter(labelled.values())).images if labelled else ""
  images = (
    []
    if cut.asks_for_rasters
    else [name for name in image_files.EXTENSIONS if name not in rasters.EXTENSIONS]
  )
  path = next(image_files.find(tree, top, "", rasters.EXTENSIONS), None)
  # Where there are images, an array beside them is something else of theirs.
  if path is None or next(image_files.find(tree, top, "", images), None):
    return None
  if not cut.asks_for_rasters and not _is_raster(path, functools.partial(_content, tree, top + path)):
    return None
  if labelled:
    return {
      name: _labelled(tree, labelled[name], cut) for name in wanted_splits(source, split, list(labelled))
    }
  folder, splits = image_files.find_splits(tree, rasters.EXTENSIONS)
  found = {}
  for name in wanted_splits(source, split, splits) if splits else [""]:
    files = image_files.ImageFiles(tree, folder, name, splits, rasters.EXTENSIONS)
    paths = [files.path(i) for i in range(len(files))]
    found[name or split or "train"] = Tiles(tree, paths, files.labels, files.class_names, cut)
  return found


def _labelled(tree: image_files.Tree, split: labelled_files.Split, cut: Cut) -> Tiles:
  paths, maps = zip(*labelled_files.pairs(tree, split, rasters.EXTENSIONS), strict=True)
  whole = functools.lru_cache(_KEPT_OPEN)(lambda file: split.read_map(tree, maps[file]))

  @functools.lru_cache(_KEPT_OPEN)
  def check_place(file: int) -> None:
    if isinstance(tree, image_files.Disk) and all(
      rasters.one_to_a_file(path[file]) for path in (paths, maps)
    ):
      rasters.check_place(*(rasters.place(os.path.join(tree.name, path[file])) for path in (maps, paths)))

  def read_map(file: int, window: rasters.Window | None, size: tuple[int, int]) -> np.ndarray:
    try:
      check_place(file)
    except ValueError as error:
      raise ValueError(f"{maps[file]} {error}") from error
    # a window of it costs no more than that
    if window and rasters.one_to_a_file(maps[file]) and isinstance(tree, image_files.Disk):
      try:
        return _window_of_map(os.path.join(tree.name, maps[file]), window, size, split)
      except ValueError as error:
        raise ValueError(f"{maps[file]} {error}") from error
    found = whole(file)
    targets.check_size(found.shape, size)
    return (
      found[window.top : window.top + window.height, window.left : window.left + window.width]
      if window
      else found
    )

  return Tiles(tree, paths, [-1] * len(paths), split.class_names, cut, split.targets, read_map)


def _window_of_map(
  path: str, window: rasters.Window, size: tuple[int, int], split: labelled_files.Split
) -> np.ndarray:
  targets.check_size(rasters.shape(path, path)[1:3], size)
  values = targets.read_values(path, path, window, split.nodata)
  if not split.classes:
    return values
  return label_maps.from_values(
    label_maps.as_bytes(np.where(np.isnan(values), label_maps.NONE, values)), split.classes
  )


def _content(tree: image_files.Tree, path: str) -> str | io.BytesIO:
  return os.path.join(tree.name, path) if isinstance(tree, image_files.Disk) else io.BytesIO(tree.read(path))


def _file(path: str, cut: Cut) -> Tiles:
  tree = image_files.Disk(os.path.dirname(path) or ".")
  return Tiles(tree, [os.path.basename(path)], [-1], (), cut)


def _is_raster(name: str, content: Callable[[], str | io.BytesIO]) -> bool:
  """Whether a file holds one raster, or several, and is no image."""
  name = name.lower()
  if not name.endswith(rasters.EXTENSIONS):
    return False
  if name.endswith(".npz"):
    try:
      with zipfile.ZipFile(content()) as file:
        return not {"jpeg.npy", "offsets.npy"} <= set(file.namelist())
    except (OSError, zipfile.BadZipFile):
      return True  # whoever reads it says what is wrong with it
  if not rasters.one_to_a_file(name) or name.endswith(".jp2"):
    return True
  try:
    with Image.open(content()) as image:
      return image.mode not in image_ops.EIGHT_BIT_MODES
  except Exception:  # Pillow raises whatever a format's parser raises
    return True
