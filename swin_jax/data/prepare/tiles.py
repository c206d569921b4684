"""Cuts rasters into tiles, as examples for `prepare`.

  a folder or zip of SPLIT/CLASS/x.tif, SPLIT/x.tif or x.tif (or .jp2, .npy, .npz), one file, or a pattern
  with {split}; with a class or a number for each pixel as described in `labelled_files.py`

Tiles do not overlap, so that held-out pixels never occur in training, and they cover the whole raster. Each
side is divided into as many equal parts as possible of at least `Cut.tile` pixels (less than twice that); a
shorter side is not divided.
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

_KEPT_OPEN = 4  # files that must be read whole, cached for their other tiles
_THREADS = 16  # threads that read headers


class Cut(NamedTuple):
  """How rasters are read and cut.

  Attributes:
    tile: smallest side of a tile in pixels; 0: rasters stay whole.
    nodata: value of pixels without data, in addition to the value that the rasters declare.
    array: name of the array in .npz files; "" if each holds only one of three or four dimensions.
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
  """A tile in which no pixel holds data."""


class Tiles:
  """The tiles of one split, as arrays. See `example.Source`.

  Attributes:
    targets: see `example.Source`; maps are cut like their rasters.
    bands: number of bands that every raster must have: that of the first readable raster.
    listing: file names and raster sizes, to tell one set from another.
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
    """Reads the size of every raster; an unreadable one counts as one tile, which fails when it is read.

    Args:
      tree: folder or zip that holds the rasters.
      paths: paths of the rasters in `tree`.
      labels: class of each raster, -1 for none.
      class_names: names of the classes of rasters or of pixels.
      cut: see `Cut`.
      kind: value of `targets`.
      read_map: (number of a raster, window or None, (height, width) of the raster) → its map in that window,
        [height, width].

    Raises:
      BadInput: no raster can be read; the message gives the reason for the first.
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
    """Returns one tile.

    Raises:
      NoData: the tile holds no data.
      ValueError: it cannot be read, or its number of bands differs from that of the other rasters.
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
    """Returns the input for `rasters`: a path if windows of the file can be read, else its whole content."""
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
      return 1, 0, 0  # counted without opening it
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
  """Returns split → tiles of a source that holds rasters; None if it holds images.

  Rasters are .npy, .npz and .jp2 files, and all .tif files except 8-bit grey and colour, which are images
  unless a `Cut` is given. An .npz with the arrays of an image set is an image set.

  Raises:
    BadInput: a cut is given but there are no rasters, or the rasters are unusable.
  """
  if source.startswith("tfds:"):
    tiles = None
  elif "{split}" in source:
    paths = sources.npz_splits(source)
    first = next(iter(paths.values()), "")
    tiles = (
      {name: _file(path, cut) for name, path in paths.items()}
      if first and _is_raster(first, lambda: first)
      else None
    )
    if tiles:
      tiles = {name: tiles[name] for name in wanted_splits(source, split, list(tiles))}
  elif source.lower().endswith(rasters.EXTENSIONS) and not os.path.isdir(source):
    sources.check_exists(source)
    single = cut.asks_for_rasters and rasters.one_to_a_file(source) or _is_raster(source, lambda: source)
    tiles = {split or "train": _file(source, cut)} if single else None
  else:
    sources.check_exists(source)
    tiles = _in_tree(source, split, cut)
  if tiles is None and cut.asks_for_rasters:
    raise BadInput(
      f"--tile, --nodata and --array are for rasters ({' '.join(rasters.EXTENSIONS)}); {source} holds none"
    )
  return tiles


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
  # Arrays next to images are auxiliary data of those images, not rasters.
  if path is None or next(image_files.find(tree, top, "", images), None):
    return None
  if not cut.asks_for_rasters and not _is_raster(path, functools.partial(_content, tree, top + path)):
    return None
  if labelled:
    return {
      name: _labelled(tree, labelled[name], cut) for name in wanted_splits(source, split, list(labelled))
    }
  folder, splits = image_files.find_splits(tree, rasters.EXTENSIONS)
  tiles = {}
  for name in wanted_splits(source, split, splits) if splits else [""]:
    files = image_files.ImageFiles(tree, folder, name, splits, rasters.EXTENSIONS)
    paths = [files.path(i) for i in range(len(files))]
    tiles[name or split or "train"] = Tiles(tree, paths, files.labels, files.class_names, cut)
  return tiles


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
    # reading a window of such a file reads no more than the window
    if window and rasters.one_to_a_file(maps[file]) and isinstance(tree, image_files.Disk):
      try:
        return _window_of_map(os.path.join(tree.name, maps[file]), window, size, split)
      except ValueError as error:
        raise ValueError(f"{maps[file]} {error}") from error
    full_map = whole(file)
    targets.check_size(full_map.shape, size)
    return (
      full_map[window.top : window.top + window.height, window.left : window.left + window.width]
      if window
      else full_map
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
  """Returns whether a file holds one or several rasters and is not an image."""
  name = name.lower()
  if not name.endswith(rasters.EXTENSIONS):
    return False
  if name.endswith(".npz"):
    try:
      with zipfile.ZipFile(content()) as file:
        return not {"jpeg.npy", "offsets.npy"} <= set(file.namelist())
    except (OSError, zipfile.BadZipFile):
      return True  # reading it later reports what is wrong
  if not rasters.one_to_a_file(name) or name.endswith(".jp2"):
    return True
  try:
    with Image.open(content()) as image:
      return image.mode not in image_ops.EIGHT_BIT_MODES
  except Exception:  # Pillow raises whatever a format's parser raises
    return True
