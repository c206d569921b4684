"""Plans what `prepare` writes: the splits of an image set and the order of their examples."""

from collections import Counter
import functools
import os
import re
import zlib

import numpy as np

from swin_jax.data.prepare import raster_sources, sealing, tiles
from swin_jax.data.read import image_files, labelled_files, labels, npz, rasters, tfds, trees
from swin_jax.data.read.example import Source, wanted_splits
from swin_jax.terminal import rules
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import warn

# split → (source, indices of its examples in writing order)
Plan = dict[str, tuple[Source, np.ndarray]]


def make_plan(source: str, split: str, hold_out: float, cut: tiles.Cut = tiles.UNCUT) -> Plan:
  """Finds the splits of a source and the order of their examples; `cut` says how rasters become examples.

  Raises:
    BadInput: the source or split does not exist or is empty, or a flag does not fit the source.
  """
  if split:
    _check_split(split)
  tree = raster_sources.tree_of(source)
  if tree and tree.left_out:
    warn(
      f"{source}: left out {len(tree.left_out):,} of its entries, with absolute or parent paths, the name of"
      f" another entry, or a very long one, such as {rules.shown(tree.left_out[0])}"
    )
  by_split = raster_sources.find(source, tree, split, cut) or _find(source, tree, split, cut.values_nodata)
  for name in by_split:
    _check_split(name)
  carried = {examples.targets for examples in by_split.values()}
  if cut.values_nodata is not None and not all(target.has_numbers for target in carried):
    raise BadInput(f"--values_nodata applies to maps of numbers; {source} has none")
  for examples in by_split.values():
    if labelled_files.IMAGES in examples.class_names and len(examples.class_names) > 1:
      others = ", ".join(name for name in examples.class_names if name != labelled_files.IMAGES)
      raise BadInput(
        f"{source} has a folder {labelled_files.IMAGES} next to {others}, which are not classes of images: "
        "maps of pixels belong in"
        f" {', '.join(labelled_files.LABELS)} (classes) or {labelled_files.VALUES} (numbers)"
      )
  if not hold_out:
    return {name: (examples, _permutation(len(examples))) for name, examples in by_split.items()}
  if len(by_split) > 1 or "val" in by_split:
    raise BadInput(
      f"--hold_out needs a source with one split; {source} has {', '.join(by_split)}: choose by --split"
    )
  ((name, examples),) = by_split.items()
  order = _permutation(len(examples))
  held_out = round(hold_out * len(order))
  if not 0 < held_out < len(order):
    raise BadInput(
      f"--hold_out={hold_out} of {len(order)} images is {held_out}, but each split needs at least one: hold "
      "out a larger share, or cut rasters into smaller tiles (--tile)"
    )
  return {name: (examples, order[held_out:]), "val": (examples, order[:held_out])}


def count_unread(source: str) -> dict[str, int]:
  """Returns ending → number of files of a folder or zip that nothing reads because of their ending."""
  tree = raster_sources.tree_of(source)
  read = (*image_files.EXTENSIONS, *rasters.EXTENSIONS, *labels.FILES)
  unread = Counter()

  def look(folder: str) -> None:
    for name, is_folder in tree.entries(folder):
      if is_folder:
        look(f"{folder}{name}/")
      elif not name.lower().endswith(read):
        unread[os.path.splitext(name)[1].lower() or "no ending"] += 1

  if tree:
    look("")
  return dict(unread)


def _check_split(name: str) -> None:
  """Checks that a split can be part of names of files.

  Raises:
    BadInput: its name is a path, is hidden or too long, or is that of another file of a prepared set.
  """
  if not re.fullmatch(r"\w[\w .+=@-]{0,99}", name) or sealing.RESERVED.fullmatch(name):
    raise BadInput(
      f"a split cannot be called '{name}': its name becomes part of file names, so it has up to 100 letters,"
      " digits and _ . - +, is not a path, and is not statistics, facts or manifest; rename it"
    )


def _find(source: str, tree: trees.Tree | None, split: str, values_nodata: float | None) -> dict[str, Source]:
  """Returns all splits of a source, or only the requested one."""
  if source.startswith("tfds:"):
    name = source.removeprefix("tfds:")
    splits, load = list(tfds.open_builder(name).info.splits), functools.partial(tfds.Tfds, name)
  elif "{split}" in source:
    splits, load = list(npz.splits_of(source)), functools.partial(npz.open_split, source)
    if not splits:
      npz.open_split(source, split)  # says why
  else:
    if source.lower().endswith(".npz") and not tree:
      return {split or "train": npz.Npz(source)}
    tree = tree or trees.Zip(source)  # says that a single image is not a zip
    if labelled := labelled_files.find(tree, values_nodata):
      return {
        name: labelled_files.LabelledFiles(tree, labelled[name])
        for name in wanted_splits(source, split, list(labelled))
      }
    folder, splits = image_files.find_splits(tree)
    if not splits:
      return {split or "train": image_files.ImageFiles(tree, folder, "", ())}
    load = functools.partial(image_files.ImageFiles, tree, folder, splits=splits)
  return {name: load(split=name) for name in wanted_splits(source, split, splits)}


def _permutation(n: int) -> np.ndarray:
  return np.random.default_rng(0).permutation(n)


def checksum(examples: Source, order: np.ndarray) -> int:
  """Returns a checksum of the order and, where they are cheap to get, of names and labels.

  It detects parts that would not fit together.
  """
  labels = np.asarray(examples.labels, np.int64)
  return zlib.crc32(order.astype(np.int64), zlib.crc32(labels, zlib.crc32(examples.listing)))
