"""Rasters that are single bands of scenes, which are refused with the commands that stack them."""

from collections.abc import Callable, Mapping, Sequence
import os

from swin_jax.data.read import names, trees
from swin_jax.data.read.roles import Picture
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import quoted

_SHOWN = 10  # scenes whose command a message has
_Scene = tuple[tuple[str, ...], str]  # folders around its bands, and what their names share
_STACKED = "stacked"  # folder of the rasters that the commands make


def check(
  tree: trees.Tree,
  rasters: Sequence[Picture],
  maps: Sequence[Picture],
  shape_of: Callable[[str], tuple[int, int, int]],
) -> None:
  """Checks that rasters are not single bands of scenes.

  Args:
    tree: holds the rasters.
    rasters: all of them.
    maps: label maps of the rasters.
    shape_of: path → (height, width, bands).

  Raises:
    BadInput: they are; the message has the commands that make one raster of each scene.
  """
  scenes: dict[_Scene, dict[tuple[str, str], str]] = {}
  for raster in rasters:
    folder, _, name = raster.path.rpartition("/")
    stem, band, resolution = names.without_band(names.stem_of(name))
    if not band:  # as in R10m/x.tif and red/x.tif
      parts = folder.split("/")
      band = next((part for part in parts if names.is_band(part)), "")
      folder = "/".join(part for part in parts if not names.is_band(part))
    if not band:
      continue
    parts = folder.split("/")
    resolution = resolution or next((part for part in parts if names.is_resolution(part)), "")
    # folders of bands and resolutions divide a scene
    rest = tuple(
      part
      for part in parts
      if not (names.is_resolution(part) or any(names.is_band(word) for word in names.words(part)))
    )
    scenes.setdefault((rest, stem), {}).setdefault((resolution, band), raster.path)
  several = {scene: files for scene, files in scenes.items() if len({band for _, band in files}) > 1}
  if not several or 2 * sum(map(len, several.values())) < len(rasters):
    return
  shown = list(several.items())[:_SHOWN]
  try:
    shapes = {path: shape_of(path) for _, files in shown for path in files.values()}
  except (OSError, ValueError):
    return  # reported when it is read
  if any(bands != 1 for _, _, bands in shapes.values()):
    return
  unpack, root = ("unpack it; ", "") if os.path.isfile(tree.name) else ("", tree.name)
  commands, folders = [], {}
  names_of = _names(list(several))
  for scene, files in shown:
    *inner, name = names_of[scene]
    folder = "/".join((_STACKED, *inner))
    paths = " ".join(quoted(os.path.join(root, path)) for path in _of_one_resolution(files, shapes))
    commands.append(f"rio stack {paths} -o {quoted(f'{folder}/{name}.tif')}")
    folders[quoted(folder)] = None
  left = len(several) - len(shown)
  more = f", and the same for {left:,} more scene{'s' * (left > 1)}" if left else ""
  resolutions = {(resolution, shapes[path]) for _, files in shown for (resolution, _), path in files.items()}
  others = "" if len(resolutions) == 1 else " (those of one resolution)"
  command = " && ".join((f"mkdir -p {' '.join(folders)}", *commands))
  raise BadInput(
    f"{tree.name} holds one file per band, such as {next(iter(shapes))}: {unpack}make one raster of the bands"
    f" of each scene{others}: `{command}`{more}{_with_maps(maps, root)}, and prepare {_STACKED}"
  )


def _names(scenes: Sequence[_Scene]) -> dict[_Scene, tuple[str, ...]]:
  """Returns the folders and the name of the raster of each scene.

  Where each folder holds one scene, it becomes a part of the name: else it would be taken for a class.
  """
  parts = {
    (around, stem): (*filter(None, around), *filter(None, [stem.strip("_-. ")])) or ("scene",)
    for around, stem in scenes
  }
  if any(len(path) < 2 for path in parts.values()):
    return parts
  folders = [path[:-1] for path in parts.values()]
  says = [names.read(folder[-1]) for folder in folders]
  if len({*folders}) < len(folders) or any(each.split or each.kind for each in says):
    return parts
  return {
    scene: (*outer, name if name.startswith(folder) else f"{folder}_{name}")
    for scene, (*outer, folder, name) in parts.items()
  }


def _of_one_resolution(files: Mapping[tuple[str, str], str], shapes: Mapping[str, tuple]) -> list[str]:
  """Returns the paths of the bands of a scene that have the most frequent resolution, and one size: rio
  stacks all in the size of the first.
  """
  by_resolution: dict[tuple, list[str]] = {}
  for (resolution, _), path in files.items():
    by_resolution.setdefault((resolution, shapes[path]), []).append(path)
  return max(by_resolution.values(), key=len)


def _with_maps(maps: Sequence[Picture], root: str) -> str:
  """Returns what to do with the label maps of the bands."""
  if not maps:
    return ""
  top = maps[0].path.partition("/")[0]
  copy = f": `cp -r {quoted(os.path.join(root, top))} {_STACKED}`" if "/" in maps[0].path else ""
  return f"; copy the label maps there too, one for each scene and with its name{copy}"
