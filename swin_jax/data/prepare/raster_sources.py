"""Opens the rasters in a source of `prepare`, as tiles.

A source is a folder or an archive, see `layouts.py`, one file, or a pattern with {split}.
"""

from collections.abc import Callable
import functools
import io
import os
import zipfile

import numpy as np

from swin_jax.data.prepare.tiles import KEPT_OPEN, Cut, Tiles
from swin_jax.data.read import (
  formats,
  image_ops,
  labelled_files,
  layouts,
  npz,
  parts,
  rasters,
  targets,
  trees,
)
from swin_jax.data.read import labels as label_maps
from swin_jax.data.read.example import check_exists, wanted_splits
from swin_jax.terminal.errors import BadInput


def find(source: str, split: str, cut: Cut) -> dict[str, Tiles] | None:
  """Returns split → tiles of a source that is one raster or a pattern; None if it holds images.

  Rasters are .npy, .npz and .jp2 files, and all .tif files except 8-bit grey and colour, which are images
  unless a `Cut` is given. An .npz with the arrays of an image set is an image set.

  Raises:
    BadInput: a cut is given but there are no rasters, or the rasters are unusable.
  """
  if source.startswith("tfds:"):
    tiles = None
  elif "{split}" in source:
    paths = npz.splits_of(source)
    first = next(iter(paths.values()), "")
    tiles = (
      {name: _file(path, cut) for name, path in paths.items()}
      if first and _is_raster(first, lambda: first)
      else None
    )
    if tiles:
      tiles = {name: tiles[name] for name in wanted_splits(source, split, list(tiles))}
  else:
    single = cut.asks_for_rasters and rasters.one_to_a_file(source) or _is_raster(source, lambda: source)
    tiles = {split or "train": _file(source, cut)} if single else None
  if tiles is None:
    check_no_cut(source, cut)
  return tiles


def check_no_cut(source: str, cut: Cut) -> None:
  """Raises BadInput if a cut is given for a source without rasters."""
  if cut.asks_for_rasters:
    raise BadInput(
      f"--tile, --nodata and --array apply to rasters ({' '.join(rasters.EXTENSIONS)}); {source} holds none"
    )


def tree_of(source: str) -> trees.Tree | None:
  """Opens a source that is a folder or an archive; returns None for a single raster, a pattern or a name of
  TFDS.

  Raises:
    BadInput: the source does not exist, or is not an archive.
  """
  if source.startswith("tfds:") or "{split}" in source:
    return None
  check_exists(source)
  if source.lower().endswith(rasters.EXTENSIONS) and not os.path.isdir(source):
    return None
  return trees.open_tree(source)


def raster_files(tree: trees.Tree, cut: Cut) -> layouts.RasterFiles:
  """Returns how rasters in a tree are told from images."""
  return layouts.RasterFiles(
    cut.asks_for_rasters,
    lambda path: _is_raster(path, lambda: _content(tree, path)),
    lambda path: rasters.shape(_content(tree, path, as_bytes=True), path, cut.array)[-1],
  )


def open_layout(tree: trees.Tree, layout: parts.Layout, split: str, cut: Cut) -> Tiles:
  """Opens the rasters of a split as tiles."""
  part = layout.splits[split]
  if part.maps:
    return _labelled(
      tree, labelled_files.Split(part.images, part.maps, layout.classes, cut.values_nodata), cut
    )
  return Tiles(tree, part.images, part.labels, part.class_names, cut)


def _labelled(tree: trees.Tree, split: labelled_files.Split, cut: Cut) -> Tiles:
  paths, maps = split.images, split.maps
  whole = functools.lru_cache(KEPT_OPEN)(lambda file: split.read_map(tree, maps[file]))

  @functools.lru_cache(KEPT_OPEN)
  def check_place(file: int) -> None:
    if isinstance(tree, trees.Disk) and all(rasters.one_to_a_file(path[file]) for path in (paths, maps)):
      rasters.check_place(*(rasters.place(os.path.join(tree.name, path[file])) for path in (maps, paths)))

  def read_map(file: int, window: rasters.Window | None, size: tuple[int, int]) -> np.ndarray:
    try:
      check_place(file)
    except ValueError as error:
      raise ValueError(f"{maps[file]} {error}") from error
    # reading a window of such a file reads no more than the window
    if window and rasters.one_to_a_file(maps[file]) and isinstance(tree, trees.Disk):
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


def _content(tree: trees.Tree, path: str, as_bytes: bool = False) -> str | bytes | io.BytesIO:
  if isinstance(tree, trees.Disk):
    return os.path.join(tree.name, path)
  return tree.read(path) if as_bytes else io.BytesIO(tree.read(path))


def _file(path: str, cut: Cut) -> Tiles:
  tree = trees.Disk(os.path.dirname(path) or ".")
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
    with formats.open_image(content()) as image:
      return image.mode not in image_ops.EIGHT_BIT_MODES
  except Exception:  # Pillow raises whatever a format's parser raises
    return True
