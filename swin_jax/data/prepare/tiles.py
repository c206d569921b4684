"""Cuts rasters into tiles, as examples for `prepare`.

Tiles do not overlap, so that held-out pixels never occur in training, and they cover the whole raster. Each
side is divided into as many equal parts as possible of at least `Cut.tile` pixels (less than twice that); a
shorter side is not divided.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
import itertools
import os
from typing import NamedTuple
import zipfile

import numpy as np

from swin_jax.data.prepare.kept import Kept
from swin_jax.data.read import array_choice, gdal, image_ops, maps, rasters, trees
from swin_jax.data.read.example import Example
from swin_jax.data.read.stored import Stored, convert
from swin_jax.data.read.targets import Target, Upright
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed
from swin_jax.terminal.progress import say, warn

_THREADS = 16  # threads that read headers
_LOOKED_AT = 8  # rasters whose alpha channels or further arrays are looked at
_OPAQUE_OR_NOT = 0.5  # least share of pixels of an alpha channel that are wholly opaque or transparent


class Cut(NamedTuple):
  """How rasters are read and cut.

  Attributes:
    tile: smallest side of a tile in pixels; 0: rasters stay whole.
    nodata: value of pixels without data, in addition to the value that the rasters declare.
    array: name of the array in .npz files; "" if each holds only one of three or four dimensions.
    keep_alpha: whether a declared alpha channel is a band, instead of marking pixels without data.
    meaning: what flags say about maps.
  """

  tile: int = 0
  nodata: float | None = None
  array: str = ""
  keep_alpha: bool = False
  meaning: maps.Meaning = maps.UNSAID

  @property
  def asks_for_rasters(self) -> bool:
    return self._replace(meaning=maps.UNSAID) != Cut()


UNCUT = Cut()


class NoData(ValueError):
  """A tile in which no pixel holds data."""


class Tiles:
  """The tiles of one split, as arrays. See `example.Source`.

  Attributes:
    targets: see `example.Source`; maps are cut like their rasters.
    bands: number of bands that every raster must have: that of the first readable raster. Image files have
      the largest number among them: grey ones next to colour ones become colour.
    band_names: of the first readable raster; empty if it has none.
    listing: file names and raster sizes, to tell one set from another.
    warnings: what the owner of the rasters most likely did not intend, a line each.
  """

  def __init__(
    self,
    tree: trees.Tree,
    paths: Sequence[str],
    labels: Sequence[int],
    class_names: Sequence[str],
    cut: Cut,
    kind: Target = Target.NOTHING,
    read_map: Callable[[int, rasters.Window | None, tuple[int, int]], Upright] | None = None,
  ):
    """Reads the size of every raster; an unreadable one counts as one tile, which fails when it is read.

    Args:
      tree: folder or archive that holds the rasters.
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
    if cut.array and not any(map(rasters.opens_whole, self._files)):
      raise BadInput(f"--array={cut.array} chooses an array of .npz files; {tree.name} holds none")
    self.class_names, self.num_classes = tuple(class_names), len(class_names)
    self.targets = kind
    self._whole = Kept(self._read_whole)
    self._read_map = read_map
    self._say_not_read()
    self.warnings = tuple(self._arrays_not_read())
    self._keep_alpha = cut.keep_alpha or self._alpha_is_data()
    if len(self._files) > 1000 and cut.tile:
      say(f"reading the sizes of {len(self._files):,} rasters")
    with futures.ThreadPoolExecutor(_THREADS) as pool:
      sizes = list(pool.map(self._size, self._files))
    self._sizes = np.array([size[:3] for size in sizes], np.int64).reshape(-1, 3)  # rasters, height, width
    self.bands, self.band_names = self._find_bands({bands for *_, bands in sizes})
    self._grid = (
      np.maximum(self._sizes[:, 1:] // cut.tile, 1) if cut.tile else np.ones_like(self._sizes[:, 1:])
    )
    counts = self._sizes[:, 0] * self._grid.prod(axis=1)
    self._ends = np.cumsum(counts)
    self.labels = np.repeat(np.asarray(labels, np.int64), counts)
    self.files = [path for path, count in zip(self._files, counts, strict=True) for _ in range(count)]
    self.listing = b"\0".join(map(os.fsencode, self._files)) + self._sizes.tobytes()

  def _say_not_read(self) -> None:
    """Reports the number of files next to rasters that GDAL would read but this program does not."""
    folders = {path.rpartition("/")[0] for path in self._files} if isinstance(self._tree, trees.Disk) else ()
    names = {f"{at}/{name}".lstrip("/") for at in folders for name, _ in self._tree.entries(at)}
    unread = [path + end for path in self._files for end in gdal.SIDECARS if path + end in names]
    if unread:
      warn(
        f"{len(unread):,} files next to rasters are not read, such as {unread[0]}: pixels without data are"
        " those that the raster itself declares, or --nodata"
      )

  def _arrays_not_read(self) -> Iterator[str]:
    """Yields a line if .npz files hold further arrays, such as classes or maps."""
    paths = [path for path in self._files if path.lower().endswith(".npz")]
    looked_at, holding = 0, {}
    for i in np.unique(np.linspace(0, max(len(paths) - 1, 0), _LOOKED_AT).astype(int)) if paths else ():
      try:
        others = array_choice.not_read(self._content(paths[i]), self._cut.array)
      except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):  # named when it is read
        continue
      looked_at += 1
      holding |= {paths[i]: others} if others else {}
    for path, others in itertools.islice(holding.items(), 1):
      yield (
        f"{path} holds arrays that are not read: {listed(others)}"
        + (f" ({len(holding)} of {looked_at} files looked at hold some)" if looked_at > 1 else "")
        + "; prepare reads one array of a file: maps are files in a folder labels or values, classes of"
        " images are folders"
      )

  def order(self) -> np.ndarray:
    """Returns a fixed random order of the tiles. Tiles of a file that is read whole follow each other."""
    rng = np.random.default_rng(0)
    if not any(map(rasters.is_image, self._files)):
      return rng.permutation(len(self))
    starts = np.concatenate([[0], self._ends[:-1]])
    files = rng.permutation(len(self._files))
    return np.concatenate([rng.permutation(np.arange(starts[i], self._ends[i])) for i in files])

  def _alpha_is_data(self) -> bool:
    """Reports the alpha channels of the rasters; returns whether they hold data under this name.

    Programs that write four bands of bytes often declare the fourth as alpha, whatever it holds.
    """
    samples, count = [], 0
    for i in np.unique(np.linspace(0, len(self._files) - 1, _LOOKED_AT).astype(int)):
      if not rasters.one_to_a_file(self._files[i]):
        continue
      try:
        alpha = rasters.about(self._content(self._files[i]), self._files[i]).alpha
      except (OSError, ValueError):  # named when it is read
        continue
      count += 1
      samples += [] if alpha is None else [alpha]
    if not samples or self._cut.keep_alpha:
      return False
    share = np.mean([np.mean((alpha == 0) | (alpha == alpha.max())) for alpha in samples])
    start = f"{self._tree.name}: {len(samples)} of {count} rasters looked at declare a band as alpha"
    if share < _OPAQUE_OR_NOT:
      warn(f"{start}, but it holds many values, as data do, so it is kept as a band")
      return True
    say(f"{start}: its transparent pixels hold no data; --keep_alpha treats it as a band")
    return False

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
      stored = rasters.stored(
        self._open(path),
        path,
        index=raster,
        window=window,
        array=self._cut.array,
        keep_alpha=self._keep_alpha,
      )
      image, undeclared = convert(stored, self._cut.nodata)
    except (OSError, ValueError) as error:
      raise ValueError(f"{name}: {error}") from error
    image = rasters.with_bands(image, path, self.bands)
    if image.shape[-1] != self.bands:
      raise ValueError(
        f"{name}: has {image_ops.count_bands(image.shape[-1])}, but the first raster has {self.bands}"
      )
    if image.dtype.kind == "f" and np.isnan(image).all():
      raise NoData(f"{name}: holds no data")
    try:
      target, turn = (
        self._read_map(file, window, (height, width) if height else image.shape[:2])
        if self._read_map
        else (None, None)
      )
    except ValueError as error:
      raise ValueError(f"{name}: {error}") from error
    return Example(image, int(self.labels[index]), name, target, undeclared, turn)

  def _open(self, path: str) -> str | bytes | np.ndarray:
    """Returns the input for `rasters`: a path if windows of the file can be read, else its whole content."""
    if rasters.opens_whole(path) or not isinstance(self._tree, trees.Disk):
      return self._whole(path)
    return os.path.join(self._tree.name, path)

  def _read_whole(self, path: str) -> bytes | np.ndarray | Stored:
    if rasters.one_to_a_file(path):
      return self._tree.read(path)
    return rasters.load(self._content(path), path, self._cut.array, keep_alpha=self._keep_alpha)

  def _content(self, path: str) -> str | bytes:
    on_disk = isinstance(self._tree, trees.Disk)
    return os.path.join(self._tree.name, path) if on_disk else self._tree.read(path)

  def _size(self, path: str) -> tuple[int, int, int, int]:
    if not self._cut.tile and rasters.one_to_a_file(path):
      return 1, 0, 0, 0  # counted without opening it
    try:
      return self._shape(path)
    except (OSError, ValueError):
      return 1, 0, 0, 0

  def _shape(self, path: str) -> tuple[int, int, int, int]:
    return rasters.shape(self._content(path), path, self._cut.array, self._keep_alpha)

  def _find_bands(self, counts: set[int]) -> tuple[int, tuple[str, ...]]:
    """Returns the number of bands and their names; `counts`: of the bands of all files, 0 if not known."""
    reason = ""
    for path in self._files:
      try:
        bands = self._shape(path)[-1]
        if rasters.is_image(path) and counts <= {0, 1, 3}:
          return max(counts), ()
        return bands, rasters.about(self._content(path), path, self._keep_alpha).names
      except (OSError, ValueError) as error:
        reason = reason or f"{path}: {error}"
    raise BadInput(f"{self._tree.name} holds no readable raster; {reason}")


def _part(length: int, count: int, i: int) -> tuple[int, int]:
  return length * i // count, length * (i + 1) // count
