"""What a folder or an archive holds, as `layouts.understand` finds it."""

from collections.abc import Sequence
from typing import NamedTuple

from swin_jax.data.read import labels


class Part(NamedTuple):
  """One split.

  Attributes:
    root: folder around its images, with a trailing "/", or "".
    images: paths of its images.
    labels: class of each image, -1 for none.
    class_names: names by class; empty without class folders.
    maps: path of the map of each image; empty without maps.
  """

  root: str
  images: Sequence[str]
  labels: Sequence[int]
  class_names: tuple[str, ...] = ()
  maps: Sequence[str] = ()


class Finding(NamedTuple):
  """The splits of a tree, before they have their final names.

  Attributes:
    parts: split, as in `roles.Picture` → its images.
    classes: meaning of label maps; None if nothing states it.
    of_values: whether the maps hold numbers.
    notes: lines for the user.
    warnings: what its owner most likely did not intend, a line each.
    used: paths of files that were read in addition to images and maps.
  """

  parts: dict[str, Part]
  classes: labels.Classes | None = None
  of_values: bool = False
  notes: tuple[str, ...] = ()
  warnings: tuple[str, ...] = ()
  used: tuple[str, ...] = ()


class Layout(NamedTuple):
  """What a tree holds.

  Attributes:
    splits: name → split; the only name is "" if the source has no splits.
    classes: meaning of label maps; None if nothing states it.
    of_values: whether the maps hold numbers.
    of_rasters: whether the images are rasters.
    notes: what was understood and left out, a line each; empty for a plain layout.
    warnings: what its owner most likely did not intend, a line each.
    unread: ending → number of files that are not used.
    excluded: ending → number of files that the user's flags leave out on purpose; `unread` has the others.
    passed_over: number of images and maps that are left out for a reason that `notes` gives.
  """

  splits: dict[str, Part]
  classes: labels.Classes | None
  of_values: bool
  of_rasters: bool
  notes: tuple[str, ...]
  warnings: tuple[str, ...]
  unread: dict[str, int]
  excluded: dict[str, int]
  passed_over: int

  @property
  def has_maps(self) -> bool:
    return any(part.maps for part in self.splits.values())
