"""Opens the rasters in a source of `prepare`, as tiles.

A source is a folder or an archive, see `layouts.py`, one file, or a pattern with {split}.
"""

from collections.abc import Callable
import functools
import io
import os
import zipfile

from swin_jax.data.prepare.kept import Kept
from swin_jax.data.prepare.tiles import Cut, Tiles
from swin_jax.data.read import (
  formats,
  image_files,
  image_ops,
  labelled_files,
  layouts,
  npz,
  parts,
  places,
  rasters,
  targets,
  trees,
)
from swin_jax.data.read.example import check_exists, wanted_splits
from swin_jax.terminal.errors import BadInput


def find(source: str, split: str, cut: Cut) -> dict[str, Tiles] | None:
  """Returns split → tiles of a source that is one file or a pattern; None if it holds images.

  Rasters are .npy, .npz and .jp2 files, and all .tif files except 8-bit grey and colour without alpha
  channel, which are images unless a `Cut` is given. An .npz with the arrays of an image set is an image set.
  Images are cut like rasters if `Cut.tile` is given.

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
    asked = cut.asks_for_rasters and rasters.one_to_a_file(source) or cut.tile and rasters.is_image(source)
    single = asked or _is_raster(source, lambda: source)
    tiles = {split or "train": _file(source, cut)} if single else None
  if tiles is None:
    check_no_cut(source, cut)
  return tiles


def check_no_cut(source: str, cut: Cut) -> None:
  """Raises BadInput if a cut is given for a source without rasters."""
  if cut.asks_for_rasters:
    raise BadInput(
      f"--tile, --nodata, --array and --keep_alpha apply to rasters ({' '.join(rasters.EXTENSIONS)}), and"
      f" --tile to images; {source} holds none"
    )


def tree_of(source: str) -> trees.Tree | None:
  """Opens a source that is a folder or an archive; returns None for a single file, a pattern or a name of
  TFDS.

  Raises:
    BadInput: the source does not exist, or is not an archive.
  """
  if source.startswith("tfds:") or "{split}" in source:
    return None
  check_exists(source)
  if source.lower().endswith((*rasters.EXTENSIONS, *image_files.EXTENSIONS)) and not os.path.isdir(source):
    return None
  return trees.open_tree(source)


def raster_files(tree: trees.Tree, cut: Cut) -> layouts.RasterFiles:
  """Returns how rasters in a tree are told from images."""
  return layouts.RasterFiles(
    cut.asks_for_rasters,
    bool(cut.tile),
    lambda path: _is_raster(path, lambda: _content(tree, path)),
    lambda path: rasters.shape(_content(tree, path, as_bytes=True), path, cut.array)[1:],
  )


def open_part(tree: trees.Tree, part: parts.Part, mapped: labelled_files.Split | None, cut: Cut) -> Tiles:
  """Opens the rasters of a split as tiles; `mapped`: the same with maps, if it has any."""
  if mapped:
    return _labelled(tree, mapped, cut)
  return Tiles(tree, part.images, part.labels, part.class_names, cut)


def _labelled(tree: trees.Tree, split: labelled_files.Split, cut: Cut) -> Tiles:
  paths, maps = split.images, split.maps

  def read_whole(file: int) -> targets.Upright:
    full_map = split.read_map(tree, maps[file])
    if not rasters.is_image(paths[file]):
      return targets.Upright(full_map)
    return targets.upright(full_map, tree.read(paths[file]), split.reader.as_stored)

  whole = Kept(read_whole)

  @functools.lru_cache
  def check_place(file: int) -> None:
    if isinstance(tree, trees.Disk) and all(rasters.one_to_a_file(path[file]) for path in (paths, maps)):
      places.check(*(places.of(os.path.join(tree.name, path[file])) for path in (maps, paths)))

  def read_map(file: int, window: rasters.Window | None, size: tuple[int, int]) -> targets.Upright:
    try:
      check_place(file)
    except ValueError as error:
      raise ValueError(f"{maps[file]} {error}") from error
    if window and isinstance(tree, trees.Disk) and not rasters.opens_whole(maps[file]):
      map_size = rasters.shape(os.path.join(tree.name, maps[file]), maps[file])[1:3]
      targets.check_size(map_size, size)
      return targets.Upright(split.read_map(tree, maps[file], window))
    full_map = whole(file)
    targets.check_size(full_map.map.shape, size)
    return full_map._replace(map=full_map.map[window.slices]) if window else full_map

  return Tiles(tree, paths, [-1] * len(paths), split.class_names, cut, split.targets, read_map)


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
      return image.mode not in image_ops.EIGHT_BIT_MODES or image.mode in ("LA", "RGBA")
  except Exception:  # Pillow raises whatever a format's parser raises
    return True
