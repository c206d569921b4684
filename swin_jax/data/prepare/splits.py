"""Plans what `prepare` writes: the splits of an image set and the order of their examples."""

from collections import Counter
from collections.abc import Mapping
import functools
import re
from typing import NamedTuple
import zlib

import numpy as np

from swin_jax.data.prepare import hold_out, raster_sources, sealing, tiles
from swin_jax.data.read import (
  image_files,
  labelled_files,
  layouts,
  maps,
  names,
  npz,
  roles,
  shards,
  strange,
  tfds,
  trees,
)
from swin_jax.data.read.example import Source, wanted_splits
from swin_jax.terminal import rules
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import say, warn


class Plan(NamedTuple):
  """What `prepare` writes.

  Attributes:
    splits: split → (source, indices of its examples in writing order).
    notes: what was understood and left out, a line each.
    warnings: what its owner most likely did not intend, a line each.
    unread: ending → number of files of the source that are not used.
  """

  splits: dict[str, tuple[Source, np.ndarray]]
  notes: tuple[str, ...] = ()
  warnings: tuple[str, ...] = ()
  unread: Mapping[str, int] = {}


class _Sources(NamedTuple):
  by_split: dict[str, Source]
  notes: tuple[str, ...] = ()
  warnings: tuple[str, ...] = ()
  unread: Mapping[str, int] = {}


def make_plan(
  source: str,
  split: str,
  share: float,
  cut: tiles.Cut = tiles.UNCUT,
  by: str = "",
  out: str = "",
  asked: roles.Asked = roles.NOTHING,
) -> Plan:
  """Finds the splits of a source and the order of their examples.

  Args:
    source, split: see the flags.
    share, by: see `hold_out.divide`; 0 to hold nothing out.
    cut: how rasters become examples.
    out: folder of the set, which may hold one that an older version divided.
    asked: what the user says about the layout of a folder or an archive.

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
  if tree is None and asked != roles.NOTHING:
    raise BadInput(
      f"--images, --labels, --label_suffix, --splits and --classes need a folder or an archive, not {source}"
    )
  if tree:
    sources = _in_tree(
      tree,
      split,
      cut,
      asked._replace(folders_are_groups=by == "folder", class_file=trees.inside(tree, cut.meaning.file)),
    )
  else:
    sources = _Sources(_find(source, split, cut))
  by_split, notes, warnings, unread = sources
  for examples in by_split.values():
    warnings += examples.warnings if isinstance(examples, tiles.Tiles) else ()
  for name in by_split:
    _check_split(name)
  carried = {examples.targets for examples in by_split.values()}
  if cut.meaning.nodata is not None and not all(target.has_numbers for target in carried):
    raise BadInput(f"--values_nodata applies to maps of numbers; {source} has none")
  if cut.meaning.as_stored and not any(target.per_pixel for target in carried):
    raise BadInput(f"--maps_as_stored applies to maps of classes or numbers; {source} has none")
  if cut.meaning != maps.UNSAID and not any(target.per_pixel for target in carried):
    raise BadInput(f"{maps.OF_CLASSES}; {source} has none")
  if by and not share:
    raise BadInput(f"--by={by} chooses what --hold_out sets apart; give both")
  if not share:
    splits = {name: (examples, _order(examples)) for name, examples in by_split.items()}
    return Plan(splits, notes, warnings, unread)
  if split == "val":
    raise BadInput("--split=val is the split that --hold_out makes; leave out --split=val, or give another")
  if len(by_split) > 1 or "val" in by_split:
    raise BadInput(
      f"--hold_out makes a split val of a source with one split, but {source} has {', '.join(by_split)}:"
      " leave out --hold_out, or choose one split by --split"
    )
  ((name, examples),) = by_split.items()
  order = _order(examples)
  parts, chance = hold_out.divide(examples, order, share, by, tree), hold_out.by_chance(order, share)
  differs = not by and not np.array_equal(parts.val, chance.val)
  if differs and _holds(out, examples, {name: chance.train, "val": chance.val}):
    say(f"{out} already has a random split and keeps it; for a split by class, prepare into a new folder")
    parts = chance
  if parts.table:
    unread = Counter(unread) - Counter([names.ending_of(parts.table)])
  splits = {name: (examples, parts.train), "val": (examples, parts.val)}
  return Plan(splits, notes, (*warnings, *parts.warnings), unread)


def _holds(out: str, examples: Source, orders: dict[str, np.ndarray]) -> bool:
  """Returns whether a folder holds shards of one of these splits, with examples in this order."""
  return any(
    shards.read_header(out, name)["made_from"].get("listing") == checksum(examples, orders[name])
    for name in orders.keys() & set(shards.splits(out))
  )


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


def _in_tree(tree: trees.Tree, split: str, cut: tiles.Cut, asked: roles.Asked) -> _Sources:
  """Opens all splits of a folder or an archive, or only the requested one."""
  layout = layouts.understand(tree, asked, raster_sources.raster_files(tree, cut))
  if not layout.of_rasters:
    raster_sources.check_no_cut(tree.name, cut)
  mapped, by_split = labelled_files.find(tree, layout, cut.meaning, "give --no_class"), {}
  for name in [""] if "" in layout.splits else wanted_splits(tree.name, split, list(layout.splits)):
    part = layout.splits[name]
    if layout.of_rasters:
      examples = raster_sources.open_part(tree, part, mapped.get(name), cut)
    elif name in mapped:
      examples = labelled_files.LabelledFiles(tree, mapped[name])
    else:
      examples = image_files.ImageFiles(tree, part)
    by_split[name or split or "train"] = examples
  of_maps = next((split.reader.warnings for split in mapped.values()), ())  # the same for all splits
  notes = layout.notes
  if layout.excluded:
    notes += (f"left out by {' and '.join(asked.choosing)}: {strange.endings(layout.excluded)}",)
  return _Sources(by_split, notes, (*layout.warnings, *of_maps), layout.unread)


def _find(source: str, split: str, cut: tiles.Cut) -> dict[str, Source]:
  """Opens all splits of a source that is not a tree, or only the requested one."""
  if sources := raster_sources.find(source, split, cut):
    return sources
  if source.startswith("tfds:"):
    name = source.removeprefix("tfds:")
    splits, load = list(tfds.open_builder(name).info.splits), functools.partial(tfds.Tfds, name)
  elif "{split}" in source:
    splits, load = list(npz.splits_of(source)), functools.partial(npz.open_split, source)
    if not splits:
      npz.open_split(source, split)  # says why
  elif source.lower().endswith(".npz"):
    return {split or "train": npz.Npz(source)}
  else:
    raise BadInput(f"{source} is one image; give a folder or an archive of images, or --tile to cut it")
  return {name: load(split=name) for name in wanted_splits(source, split, splits)}


def _order(examples: Source) -> np.ndarray:
  """Returns a fixed random order of the examples."""
  if isinstance(examples, tiles.Tiles):
    return examples.order()
  return np.random.default_rng(0).permutation(len(examples))


def checksum(examples: Source, order: np.ndarray) -> int:
  """Returns a checksum of the order and, where they are cheap to get, of names and labels.

  It detects parts that would not fit together.
  """
  labels = np.asarray(examples.labels, np.int64)
  return zlib.crc32(order.astype(np.int64), zlib.crc32(labels, zlib.crc32(examples.listing)))
