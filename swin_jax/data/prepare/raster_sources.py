"""Finds the rasters in a source of `prepare`, as tiles.

A source is a folder or zip of SPLIT/CLASS/x.tif, SPLIT/x.tif or x.tif (or .jp2, .npy, .npz), one file, or a
pattern with {split}. Maps of classes or numbers are found as described in `labelled_files.py`.
"""

from collections.abc import Callable, Sequence
import functools
import io
import os
import zipfile

import numpy as np

from swin_jax.data.prepare.kept import Kept
from swin_jax.data.prepare.tiles import Cut, Tiles
from swin_jax.data.read import (
  formats,
  image_files,
  image_ops,
  labelled_files,
  npz,
  places,
  rasters,
  targets,
  trees,
)
from swin_jax.data.read.example import check_exists, wanted_splits
from swin_jax.terminal.errors import BadInput


def find(source: str, tree: trees.Tree | None, split: str, cut: Cut) -> dict[str, Tiles] | None:
  """Returns split → tiles of a source that holds rasters; None if it holds images.

  Rasters are .npy, .npz and .jp2 files, and all .tif files except 8-bit grey and colour without alpha
  channel, which are images unless a `Cut` is given. An .npz with the arrays of an image set is an image set.
  Images are cut like rasters if `Cut.tile` is given and there are no rasters. `tree`: see `tree_of`.

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
  elif tree is None:
    asked = cut.asks_for_rasters and rasters.one_to_a_file(source) or cut.tile and rasters.is_image(source)
    single = asked or _is_raster(source, lambda: source)
    tiles = {split or "train": _file(source, cut)} if single else None
  else:
    tiles = _in_tree(tree, split, cut)
  if tiles is None and cut.asks_for_rasters:
    raise BadInput(
      f"--tile, --nodata, --array and --keep_alpha apply to rasters ({' '.join(rasters.EXTENSIONS)}), and"
      f" --tile to images; {source} holds none"
    )
  return tiles


def tree_of(source: str) -> trees.Tree | None:
  """Opens a source that is a folder or a zip; returns None for a single file, a pattern or a name of TFDS.

  Raises:
    BadInput: the source does not exist, or is not a zip.
  """
  if source.startswith("tfds:") or "{split}" in source:
    return None
  check_exists(source)
  if source.lower().endswith((*rasters.EXTENSIONS, *image_files.EXTENSIONS)) and not os.path.isdir(source):
    return None
  return trees.open_tree(source)


def _in_tree(tree: trees.Tree, split: str, cut: Cut) -> dict[str, Tiles] | None:
  _, located = labelled_files.locate(tree)
  top = next(iter(located.values()))[0] if located else ""
  images = [name for name in image_files.EXTENSIONS if name not in rasters.EXTENSIONS]
  extensions = rasters.EXTENSIONS
  path = next(image_files.find(tree, top, "", extensions), None)
  if path is None and cut.tile:
    extensions = image_files.EXTENSIONS
    path = next(image_files.find(tree, top, "", extensions), None)
  if path is None:
    return None
  # Arrays next to images are auxiliary data of those images, not rasters.
  if not cut.asks_for_rasters and (
    next(image_files.find(tree, top, "", images), None)
    or not _is_raster(path, functools.partial(_content, tree, top + path))
  ):
    return None
  if located:
    labelled = labelled_files.find(tree, cut.meaning)
    return {
      name: _labelled(tree, labelled[name], cut, extensions)
      for name in wanted_splits(tree.name, split, list(labelled))
    }
  folder, splits = image_files.find_splits(tree, extensions)
  tiles = {}
  for name in wanted_splits(tree.name, split, splits) if splits else [""]:
    files = image_files.ImageFiles(tree, folder, name, splits, extensions)
    paths = [files.path(i) for i in range(len(files))]
    tiles[name or split or "train"] = Tiles(tree, paths, files.labels, files.class_names, cut)
  return tiles


def _labelled(tree: trees.Tree, split: labelled_files.Split, cut: Cut, extensions: Sequence[str]) -> Tiles:
  paths, maps = zip(*labelled_files.pairs(tree, split, extensions), strict=True)

  def read_whole(file: int) -> np.ndarray:
    full_map = split.read_map(tree, maps[file])
    return targets.upright(full_map, tree.read(paths[file])) if rasters.is_image(paths[file]) else full_map

  whole = Kept(read_whole)

  @functools.lru_cache
  def check_place(file: int) -> None:
    if isinstance(tree, trees.Disk) and all(rasters.one_to_a_file(path[file]) for path in (paths, maps)):
      places.check(*(places.of(os.path.join(tree.name, path[file])) for path in (maps, paths)))

  def read_map(file: int, window: rasters.Window | None, size: tuple[int, int]) -> np.ndarray:
    try:
      check_place(file)
    except ValueError as error:
      raise ValueError(f"{maps[file]} {error}") from error
    if window and isinstance(tree, trees.Disk) and not rasters.opens_whole(maps[file]):
      map_size = rasters.shape(os.path.join(tree.name, maps[file]), maps[file])[1:3]
      targets.check_size(map_size, size)
      return split.read_map(tree, maps[file], window)
    full_map = whole(file)
    targets.check_size(full_map.shape, size)
    return full_map[window.slices] if window else full_map

  return Tiles(tree, paths, [-1] * len(paths), split.class_names, cut, split.targets, read_map)


def _content(tree: trees.Tree, path: str) -> str | io.BytesIO:
  return os.path.join(tree.name, path) if isinstance(tree, trees.Disk) else io.BytesIO(tree.read(path))


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
      return image.mode not in image_ops.EIGHT_BIT_MODES or image.mode in ("LA", "RGBA")
  except Exception:  # Pillow raises whatever a format's parser raises
    return True
