"""Sets examples apart for validation: by class, or by groups that must not be in both parts.

Without groups, every class keeps its share, and a class of two or more images is in both parts. Where images
have no classes, chance decides: the first examples of the fixed permutation are held out.

A group is one of these, see `Groups`:

  folder           the folders around a file, without that of its class, as in CLASS/PATIENT/x.jpg
  a pattern        what the one group of a regular expression matches in the path below the source
  csv:COLUMN       the value in a column of the only table next to the images, see `group_table`
  csv:FILE:COLUMN  the same with another table, on disk or in the source

All tiles of a raster belong to the group of its file; the pattern (.+) makes each file a group. If
every class lies in one group, the folders are most likely the groups themselves, which is refused.
"""

from collections.abc import Iterator, Sequence
import os
import re
from typing import NamedTuple

import numpy as np

from swin_jax.data.prepare import group_table
from swin_jax.data.read import strange, trees
from swin_jax.data.read.example import Source
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed
from swin_jax.terminal.printable import printable
from swin_jax.terminal.progress import say, warn

_PASSES = 20  # of the search over groups; two or three are usual
_FAR = 1 / 3  # of the smaller part that was asked for; a part that is off by more is named
_IF_GROUPS = (
  "if these folders are groups and not classes, put each into the folder of its class (CLASS/GROUP/x.jpg), or"
  " give --classes=none for images without classes"
)
_MISSING = 10.0  # cost of a class that is in one part only, in units of a class that is wholly misjudged


class Parts(NamedTuple):
  """Both parts.

  Attributes:
    train, val: indices of their examples, in writing order.
    warnings: what the user most likely did not intend, a line each.
    table: path of the table of groups in the source; "" if none was read.
  """

  train: np.ndarray
  val: np.ndarray
  warnings: tuple[str, ...] = ()
  table: str = ""


class Groups(NamedTuple):
  """What must not be in both parts.

  Attributes:
    of: number of the group of each example, int [examples].
    count: number of groups.
    table: see `Parts`.
  """

  of: np.ndarray
  count: int
  table: str


def by_chance(order: np.ndarray, share: float) -> Parts:
  """Divides examples by their place in a permutation."""
  held = round(share * len(order))
  return Parts(order[held:], order[:held])


def divide(examples: Source, order: np.ndarray, share: float, by: str, tree: trees.Tree | None) -> Parts:
  """Divides examples into a part for training and a share for validation, and reports what is special.

  Args:
    examples: the source.
    order: permutation of all examples; each part keeps its order.
    share: of the examples for validation.
    by: what makes a group, as given by --by; "" for no groups.
    tree: folder or archive that holds the files; None if there is none.

  Raises:
    BadInput: a part would be empty, or `by` does not fit the source.
  """
  held_out = round(share * len(order))
  if not 0 < held_out < len(order):
    raise BadInput(
      f"--hold_out={share} of {len(order)} images is {held_out}, but each split needs at least one: hold "
      "out a larger share, or cut rasters into smaller tiles (--tile)"
    )
  labels = np.asarray([] if examples.targets else examples.labels, np.int64)
  has_labels = len(labels) == len(order) and labels.max() >= 0
  labels = labels if has_labels else np.zeros(len(order), np.int64)
  table = ""
  if by:
    groups = _groups(examples, by, tree)
    table = groups.table
    if has_labels:
      _check_classes_divide(labels, groups, by, tree.name)
    held = _of_groups(labels, groups, order, share)
    counts = [len(np.unique(groups.of[side])) for side in (held, ~held)]
    say(
      f"--by={by}: {groups.count:,} groups, {counts[0]:,} with {held.sum():,} of {len(order):,} images in val"
      f" and {counts[1]:,} in training"
    )
    largest = np.bincount(groups.of).max()
    reason = f"groups stay whole (the largest of {groups.count:,} has {largest:,} images), and each class"
    reason += " that spans several groups is in both parts"
  elif has_labels and (np.bincount(labels) > 1).any():
    held = _of_classes(labels, order, share)
    reason = "every class of two or more images is in both parts, and those of one image are in training"
  else:
    if examples.class_names and not examples.targets:
      warn("--hold_out: splitting at random, because no class is known to have two images")
    return by_chance(order, share)
  if has_labels:
    _name_one_sided(labels, held, examples.class_names)
  return Parts(order[~held[order]], order[held[order]], tuple(_far(held, share, reason)), table)


def _far(held: np.ndarray, share: float, reason: str) -> Iterator[str]:
  """Yields a line if the share that is held out is far from the one that was asked for."""
  goal = share * len(held)
  if abs(held.sum() - goal) > max(_FAR * min(goal, len(held) - goal), 1):
    yield (
      f"--hold_out={share:g} asks for {round(goal):,} of {len(held):,} images, but val has {held.sum():,}"
      f" ({strange.percent(held.mean())}): {reason}"
    )


def _check_classes_divide(labels: np.ndarray, groups: Groups, by: str, where: str) -> None:
  """Raises BadInput if each of several classes lies in one group, so that no class can be in both parts."""
  pairs = np.unique(np.stack([labels, groups.of]), axis=1)
  if not len(np.unique(labels)) == pairs.shape[1] > 1:
    return
  raise BadInput(
    f"--by={by}: each class folder of {where} lies in one of the {groups.count:,} groups, so no class would"
    f" be in both parts; {_IF_GROUPS}; if they are classes, give another --by"
  )


def _of_classes(labels: np.ndarray, order: np.ndarray, share: float) -> np.ndarray:
  """Returns which examples are held out, bool [examples]: of every class the first in `order`."""
  sizes, held = np.bincount(labels), np.zeros(len(labels), bool)
  by_class = order[np.argsort(labels[order], kind="stable")]
  for start, quota in zip(np.cumsum(sizes) - sizes, _quotas(sizes, share), strict=True):
    held[by_class[start : start + quota]] = True
  return held


def _quotas(sizes: np.ndarray, share: float) -> np.ndarray:
  """Returns how many images of each class are held out, int [classes].

  The numbers add up to the share of all images (largest remainders), except where a class of two or more
  images needs one in each part. A class of one image has none to hold out.
  """
  exact = np.where(sizes > 1, sizes, 0) * share
  quotas = np.floor(exact).astype(np.int64)
  missing = round(exact.sum()) - quotas.sum()
  quotas[np.argsort(quotas - exact, kind="stable")[:missing]] += 1
  return np.where(sizes > 1, np.clip(quotas, 1, np.maximum(sizes - 1, 1)), 0)


def _of_groups(labels: np.ndarray, groups: Groups, order: np.ndarray, share: float) -> np.ndarray:
  """Returns which examples are held out, bool [examples], all or none of each group.

  A local search moves groups between the parts, in the order of their first example in `order`, as long as
  the shares of the classes and of all images come nearer to `share`.
  """
  everything = labels.max() + 1  # counts as a class that is in every group
  keys, counts = np.unique(groups.of * everything + labels, return_counts=True)
  contents: list[list[tuple[int, int]]] = [[] for _ in range(groups.count)]
  for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
    contents[key // everything].append((key % everything, count))
  for content in contents:
    content.append((everything, sum(count for _, count in content)))
  totals, spread = [0] * (everything + 1), [0] * (everything + 1)
  for content in contents:
    for label, count in content:
      totals[label] += count
      spread[label] += 1

  def cost(label: int, held: int) -> float:
    one_sided = spread[label] > 1 and held in (0, totals[label])
    goal = share * totals[label]
    return abs(held - goal) / max(goal, 1.0) + _MISSING * one_sided

  held, is_held = [0] * (everything + 1), np.zeros(groups.count, bool)
  _, first = np.unique(groups.of[order], return_index=True)
  for _ in range(_PASSES):
    moved = False
    for group in np.argsort(first).tolist():
      sign = -1 if is_held[group] else 1
      change = sum(
        cost(label, held[label] + sign * count) - cost(label, held[label]) for label, count in contents[group]
      )
      if change < -1e-9:
        is_held[group], moved = not is_held[group], True
        for label, count in contents[group]:
          held[label] += sign * count
    if not moved:
      break
  # single moves cannot exchange the parts
  if sum(cost(i, totals[i] - held[i]) - cost(i, held[i]) for i in range(len(held))) < -1e-9:
    is_held = ~is_held
  return is_held[groups.of]


def _name_one_sided(labels: np.ndarray, held: np.ndarray, class_names: Sequence[str]) -> None:
  """Warns of classes that are in one part only: those of one image, or of one group."""
  count = len(class_names)
  in_val, in_train = (np.bincount(labels[side], minlength=count) > 0 for side in (held, ~held))
  for present, absent, where, missing in (
    (in_train, in_val, "training", "val"),
    (in_val, in_train, "val", "training"),
  ):
    if len(names := [class_names[i] for i in np.flatnonzero(present & ~absent)]):
      warn(
        f"--hold_out: {len(names):,} of {count:,} classes cannot be divided, so all their images are in"
        f" {where} and none in {missing}: {listed(names, 3)}"
      )


def _groups(examples: Source, by: str, tree: trees.Tree | None) -> Groups:
  """Returns the groups of examples.

  Raises:
    BadInput: `by` is not one of the kinds above, does not fit the files, or makes fewer than two groups.
  """
  if not len(examples.files) or tree is None:
    raise BadInput(f"--by={by} needs a folder or an archive of files, but one file holds all these images")
  indices: dict[str, int] = {}
  of_example = np.asarray([indices.setdefault(path, len(indices)) for path in examples.files], np.int64)
  paths, table = list(indices), ""
  if by == "folder":
    labels = np.full(len(paths), -1, np.int64)
    labels[of_example] = examples.labels if len(examples.labels) else -1
    keys = [
      _folder(path, examples.class_names[label] if label >= 0 else None)
      for path, label in zip(paths, labels.tolist(), strict=True)
    ]
  elif by.startswith("csv:"):
    keys, table = group_table.read(tree, paths, by)
  else:
    keys = _matches(paths, by)
  numbers: dict[str, int] = {}
  of_path = np.asarray([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
  if len(numbers) < 2 and by == "folder":
    raise BadInput(
      f"--by=folder puts all {len(paths):,} files into one group, because no folders divide those of the"
      f" classes; {_IF_GROUPS}"
    )
  if len(numbers) < 2:
    raise BadInput(
      f"--by={by} puts all {len(paths):,} files into one group, '{printable(keys[0])}', which cannot be in"
      " both parts; give a pattern with one group that matches what differs, such as --by='([^/]+)/[^/]+$'"
    )
  return Groups(of_path[of_example], len(numbers), table)


def _folder(path: str, class_name: str | None) -> str:
  """Returns the folders around a file, without the first that has the name of its class."""
  folders = os.path.dirname(path).split("/")
  if class_name is not None:
    names = list(map(printable, folders))
    folders = folders[: names.index(class_name)] + folders[names.index(class_name) + 1 :]
  return "/".join(folders)


def _matches(paths: Sequence[str], by: str) -> list[str]:
  """Returns what the group of a regular expression matches in each path.

  Raises:
    BadInput: it is not a regular expression with one group, or does not match every path.
  """
  try:
    pattern = re.compile(by)
  except re.error as error:
    raise BadInput(f"--by={by} is not a regular expression: {error}") from error
  if pattern.groups != 1:
    raise BadInput(
      f"--by={by} has {pattern.groups} groups in parentheses, but needs one, as in --by='(patient[0-9]+)'; or"
      " give folder, csv:COLUMN or csv:FILE:COLUMN"
    )
  matches = [pattern.search(path) for path in paths]
  if without := [path for path, match in zip(paths, matches, strict=True) if not match or match[1] is None]:
    raise BadInput(
      f"--by={by} does not match {len(without):,} of {len(paths):,} paths, such as {printable(without[0])}"
    )
  return [match[1] for match in matches]
