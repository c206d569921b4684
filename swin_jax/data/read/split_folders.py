"""Finds the folders whose names say splits."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from swin_jax.data.read import names


class Level(NamedTuple):
  """The splits among the folders in a folder.

  Attributes:
    splits: name of a folder → split.
    certain: whether there are several splits.
  """

  splits: dict[str, str]
  certain: bool


def without_repeats(levels: Mapping[str, Level]) -> tuple[dict[str, Level], dict[str, str]]:
  """Returns levels without the splits that repeat images of another, and the paths of these folders, with a
  trailing "/" → their names.
  """
  kept, repeating = {}, {}
  for folder, level in levels.items():
    again = names.repeating(level.splits)
    splits = {name: split for name, split in level.splits.items() if name not in again}
    kept[folder] = Level(splits, level.certain or bool(again))
    repeating |= {f"{folder}{name}/": name for name in again}
  return kept, repeating


def children(folders: Sequence[str]) -> dict[str, list[str]]:
  """Returns folder → names of the folders in it that hold pictures, at any depth."""
  inside: dict[str, list[str]] = {"": []}
  for folder in folders:
    parent = ""
    for name in folder.split("/") if folder else ():
      if name not in (siblings := inside.setdefault(parent, [])):
        siblings.append(name)
      parent += name + "/"
      inside.setdefault(parent, [])
  return inside


def find(
  inside: Mapping[str, Sequence[str]], holding: set[str], given: bool
) -> tuple[str, dict[str, Level], str]:
  """Returns (base, folder → the splits in it, lone split), see `roles.Roles`.

  Args:
    inside: see `children`.
    holding: folders that hold pictures themselves.
    given: whether the user gave the splits, so that none are looked for.
  """
  base = ""
  while len(inside[base]) == 1 and base.rstrip("/") not in holding:
    (name,) = inside[base]
    below = _level(inside[f"{base}{name}/"], False)
    if names.read(name).split and not (below and below.certain):
      break
    base += name + "/"
  levels, lone = {}, ""
  if given:
    return base, levels, lone
  for folder, children in inside.items():
    if not (folder.startswith(base) and (level := _level(children, folder == base))):
      continue
    parent = names.read(folder.rstrip("/").rpartition("/")[2])
    if level.certain or folder != base:
      # images/train says a split, cat/train does not
      levels[folder] = level._replace(certain=level.certain or (folder != base and bool(parent.kind)))
      continue
    others = [name for name in children if name not in level.splits]
    # images and maps of one split may lie next to the folder of another
    if not others or all(names.read(name).kind for name in others):
      levels[folder] = level
    else:
      lone = next(iter(level.splits))
  return base, levels, lone


def _level(children: Sequence[str], is_base: bool) -> Level | None:
  """Returns the splits among the folders in a folder; None if they are not splits."""
  splits = {name: names.read(name).split for name in children if names.read(name).split}
  several = len(set(splits.values())) > 1
  if not splits or several or is_base:
    return Level(splits, several) if splits else None
  # "train" next to "train_labels"; or "train" alone, which the caller takes only inside the same split
  return Level(splits, False) if len(splits) == len(children) else None
