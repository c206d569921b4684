"""Finds the role of every picture in a tree: its split, whether it is an image or a map, and the folders that
are left to name its class or to pair it.

A picture is a file whose ending is that of an image, a raster or an array.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from swin_jax.data.read import names, patterns, split_folders, strange
from swin_jax.data.read.names import Kind
from swin_jax.terminal.errors import BadInput


class Asked(NamedTuple):
  """What the user says about a layout; what is empty is found.

  Attributes:
    images, labels: patterns of the paths of images and of label maps. `*` stands for any part of a name, `**`
      for any folders, `{split}` for the name of a split; a pattern without `*` is a folder, wherever it lies.
      Where both match a file, the pattern decides that spells out more characters of its name, without the
      ending; then the one whose last folder lies deeper; then `labels`.
    label_suffix: end of the names of label maps, after the name of their image; in addition to `labels`, of
      those that it matches.
    splits: names of splits → their folders.
    folders_are_classes: whether folders are classes of images, whatever they look like; None if their looks
      decide.
    folders_are_groups: whether the folders inside those of the classes are groups of images, as --by=folder
      says.
    class_file: path in the tree of a file of classes that a flag gives; "" for none.
  """

  images: str = ""
  labels: str = ""
  label_suffix: str = ""
  splits: Mapping[str, str] = {}
  folders_are_classes: bool | None = None
  folders_are_groups: bool = False
  class_file: str = ""

  @property
  def names_maps(self) -> bool:
    return bool(self.labels or self.label_suffix)

  @property
  def choosing(self) -> tuple[str, ...]:
    """The flags that leave out files on purpose."""
    given = zip(("--images", "--labels", "--label_suffix", "--splits"), self[:4], strict=True)
    return tuple(flag for flag, value in given if value)


NOTHING = Asked()


class Picture(NamedTuple):
  """A picture and its role.

  Attributes:
    path: its path in the tree.
    split: as `names.Name.split`, or the name that the user gave it; "" for none.
    kind: None if no name says it.
    before, after: names of the folders before and after that of the split; without a split all are after.
    rest: names of folders that say neither a split nor a kind.
    key: part of the file's name that it shares with its image or map, if the user said so.
  """

  path: str
  split: str
  kind: Kind | None
  before: tuple[str, ...]
  after: tuple[str, ...]
  rest: tuple[str, ...]
  key: str | None = None

  @property
  def stem(self) -> str:
    """Name of the file without its ending."""
    return names.stem_of(self.path.rpartition("/")[2]) if self.key is None else self.key


class Roles(NamedTuple):
  """The roles of all pictures.

  Attributes:
    pictures: sorted as in the listing.
    stated: split → names of the folders that say it.
    lone_split: folder with the name of a split among folders that are not splits; "" if there is none.
    base: folder around all pictures, with a trailing "/" or "".
    repeated: path of a picture that is left out → the folder of its split, which repeats another split.
    joined: folders that are taken for one split although they have different words for it.
  """

  pictures: list[Picture]
  stated: dict[str, list[str]]
  lone_split: str
  base: str
  repeated: dict[str, str]
  joined: list[tuple[str, ...]]


def find(paths: Sequence[str], asked: Asked) -> Roles:
  """Returns the roles of pictures.

  Raises:
    BadInput: a pattern or a split that the user gave is in no path.
  """
  folders = list(dict.fromkeys(path.rpartition("/")[0] for path in paths))
  inside = split_folders.children(folders)
  base, levels, lone = split_folders.find(inside, set(folders), bool(asked.splits))
  levels, repeating = split_folders.without_repeats(levels)
  place = {folder: _place(folder, base, levels, asked) for folder in folders}
  chosen = _chosen(paths, asked)
  by_pattern = set() if asked.splits else {match.split for _, match in chosen.values()}
  repeated = {path: name for path in paths for folder, name in repeating.items() if path.startswith(folder)}
  again = names.repeating(by_pattern)
  repeated |= {path: match.split for path, (_, match) in chosen.items() if match.split in again}
  pictures, stated = [], {}
  by_folder = {folder: name for name, folder in asked.splits.items()}
  for path in paths:
    if path in repeated:
      continue
    picture = place[path.rpartition("/")[0]]._replace(path=path)
    if path in chosen:
      kind, match = chosen[path]
      rest = tuple(name for name in picture.rest if name not in match.folders | {match.split})
      picture = picture._replace(kind=kind, key=match.key, rest=rest)
      if split := match.split:
        name = names.read(split).split
        picture = _in_split(picture, split)._replace(split=by_folder.get(split) or name or split)
        if split not in stated.setdefault(picture.split, []):
          stated[picture.split].append(split)
      if kind is Kind.LABEL and asked.label_suffix:
        picture = _with_suffix(picture, asked.label_suffix)
    else:
      picture = _unmatched(picture, asked)
    pictures.append(picture)
  if asked.label_suffix and not any(picture.kind is Kind.LABEL for picture in pictures):
    raise BadInput(f"--label_suffix={asked.label_suffix} ends no file name in the source; see {paths[0]}")
  if asked.splits:
    if missing := sorted(set(asked.splits) - {picture.split for picture in pictures}):
      raise BadInput(
        f"--splits names {missing[0]}:{asked.splits[missing[0]]}, but no image lies in such a folder"
      )
    stated |= {name: [folder] for name, folder in asked.splits.items()}
  else:
    for level in levels.values():
      for name, split in level.splits.items():
        if names.read(name).kind not in names.MAP_KINDS and name not in stated.setdefault(split, []):
          stated[split].append(name)
  used = {picture.split for picture in pictures}
  stated = {split: stated[split] for split in stated if split in used}
  together = [level.splits for level in levels.values()] + [by_pattern - again]
  joined = list(dict.fromkeys(each for folders in together for each in names.joined(sorted(folders))))
  return Roles(pictures, stated, lone, base, repeated, joined)


def _chosen(paths: Sequence[str], asked: Asked) -> dict[str, tuple[Kind, patterns.Match]]:
  """Returns path → (kind, match) of the pattern that decides it, see `Asked`; no entry if none matches.

  Raises:
    BadInput: a pattern decides no path.
  """
  chosen: dict[str, tuple[Kind, patterns.Match]] = {}
  for flag, pattern, kind in (("--labels", asked.labels, Kind.LABEL), ("--images", asked.images, Kind.IMAGE)):
    if not pattern:
      continue
    matching = patterns.matcher(pattern)
    matches = {path: match for path in paths if (match := matching(path))}
    if not matches:
      raise BadInput(f"{flag}={pattern} matches no file of the source, such as {paths[0]}")
    for path, match in matches.items():
      is_map = asked.label_suffix and names.stem_of(path.rpartition("/")[2]).endswith(asked.label_suffix)
      if kind is Kind.IMAGE and is_map:
        continue
      if path not in chosen or match.precision > chosen[path][1].precision:  # a tie goes to the labels
        chosen[path] = kind, match
  for flag, pattern, kind in (("--images", asked.images, Kind.IMAGE), ("--labels", asked.labels, Kind.LABEL)):
    if pattern and all(kind is not each for each, _ in chosen.values()):
      raise BadInput(
        f"every file that {flag}={pattern} matches goes to another flag, which is more precise; give a"
        " pattern with more of the file's name or with a deeper folder"
      )
  return chosen


def _in_split(picture: Picture, folder: str) -> Picture:
  """Returns a picture whose folders are divided by the one that a pattern takes for its split."""
  around = (*picture.before, *picture.after)
  if folder not in around:
    return picture
  at = around.index(folder)
  return picture._replace(before=around[:at], after=around[at + 1 :])


def excluded(paths: Sequence[str], pictures: Sequence[Picture], asked: Asked) -> set[str]:
  """Returns the paths that the user's flags leave out on purpose.

  Args:
    paths: of files that are not used.
    pictures: all pictures, with the roles that the flags give them.
    asked: see `Asked`.
  """
  names_files = bool(asked.images or asked.names_maps)
  roles_of = {each.path: each for each in pictures}
  matchers = [match for match in (patterns.matcher(asked.images), patterns.matcher(asked.labels)) if match]

  def is_excluded(path: str) -> bool:
    if picture := roles_of.get(path):
      return (names_files and picture.kind is Kind.OTHER) or bool(asked.splits and not picture.split)
    if asked.splits and not patterns.split_of(path.split("/")[:-1], asked.splits)[0]:
      return True
    # text was never an image or a map that a pattern could choose
    is_candidate = bool(asked.images) and not path.lower().endswith(strange.BESIDE)
    return is_candidate and not any(match(path) for match in matchers)

  return set(filter(is_excluded, paths))


def _with_suffix(picture: Picture, suffix: str) -> Picture:
  """Returns the role of a picture where the names of label maps end in a suffix."""
  if picture.stem.endswith(suffix) and picture.stem != suffix:
    return picture._replace(kind=Kind.LABEL, key=picture.stem.removesuffix(suffix))
  return picture._replace(kind=Kind.OTHER) if picture.kind in names.MAP_KINDS else picture


def _unmatched(picture: Picture, asked: Asked) -> Picture:
  """Returns the role of a picture that no pattern matches."""
  if asked.label_suffix and not asked.labels:
    return _with_suffix(picture, asked.label_suffix)
  if asked.images and not (picture.kind in names.MAP_KINDS and not asked.labels):
    return picture._replace(kind=Kind.OTHER)
  if asked.labels and picture.kind in names.MAP_KINDS:
    return picture._replace(kind=Kind.OTHER)
  return picture


def _place(folder: str, base: str, levels: Mapping[str, split_folders.Level], asked: Asked) -> Picture:
  """Returns the role of the pictures in a folder."""
  split, certain, at = "", False, None  # at: number of the folder that says the split
  path, parts = base, [name for name in folder.removeprefix(base.rstrip("/")).split("/") if name]
  says_split = set()
  kinds = [names.read(name) for name in parts]
  for i, name in enumerate(parts):
    level = levels.get(path)
    if level and (here := level.splits.get(name)):
      paired = len(level.splits) > 1  # train and train_labels
      if not split and (level.certain or path == base or paired) or (split and level.certain and not certain):
        split, certain, at = here, level.certain, i
        says_split.add(i)
      elif here == split:
        says_split.add(i)
    path += name + "/"
  if asked.splits:
    split, says_split = patterns.split_of(parts, asked.splits)
    at = min(says_split, default=None)
  present = {says.kind for says in kinds}
  kind = next((k for k in (Kind.VALUE, Kind.LABEL) if k in present), None)
  others = [name for name, says in zip(parts, kinds, strict=True) if says.kind is Kind.OTHER]
  # Instance_masks/images holds no images
  if others and (Kind.IMAGE not in present or any(names.hints_at(name, Kind.LABEL) for name in others)):
    kind = Kind.OTHER
  elif kind is None and Kind.IMAGE in present:
    kind = Kind.IMAGE
  keep = [i for i in range(len(parts)) if i not in says_split]
  return Picture(
    "",
    split,
    kind,
    tuple(parts[i] for i in keep if at is not None and i < at),
    tuple(parts[i] for i in keep if at is None or i > at),
    tuple(parts[i] for i in keep if not kinds[i].kind),
  )
