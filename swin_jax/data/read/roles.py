"""Finds the role of every picture in a tree: its split, whether it is an image or a map, and the folders that
are left to name its class or to pair it.

A picture is a file whose ending is that of an image, a raster or an array.
"""

from collections.abc import Callable, Mapping, Sequence
import re
from typing import NamedTuple

from swin_jax.data.read import names
from swin_jax.data.read.names import Kind
from swin_jax.terminal.errors import BadInput


class Asked(NamedTuple):
  """What the user says about a layout; what is empty is found.

  Attributes:
    images, labels: patterns of the paths of images and of label maps. `*` stands for any part of a name, `**`
      for any folders, `{split}` for the name of a split; a pattern without `*` is a folder, wherever it lies.
    label_suffix: end of the names of label maps, after the name of their image.
    splits: names of splits → their folders.
    folders_are_classes: whether folders are classes of images, whatever they look like.
  """

  images: str = ""
  labels: str = ""
  label_suffix: str = ""
  splits: Mapping[str, str] = {}
  folders_are_classes: bool = False

  @property
  def names_maps(self) -> bool:
    return bool(self.labels or self.label_suffix)


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
  """

  pictures: list[Picture]
  stated: dict[str, list[str]]
  lone_split: str
  base: str


class _Level(NamedTuple):
  """The splits among the folders in a folder.

  Attributes:
    splits: name of a folder → split.
    certain: whether there are several splits.
  """

  splits: dict[str, str]
  certain: bool


def find(paths: Sequence[str], asked: Asked) -> Roles:
  """Returns the roles of pictures.

  Raises:
    BadInput: a pattern or a split that the user gave is in no path.
  """
  folders = list(dict.fromkeys(path.rpartition("/")[0] for path in paths))
  inside = _children(folders)
  base, levels, lone = _find_levels(inside, set(folders), asked)
  place = {folder: _place(folder, base, levels, asked) for folder in folders}
  match_image, match_label = _matcher(asked.images), _matcher(asked.labels)
  pictures, stated, matched = [], {}, set()
  by_folder = {folder: name for name, folder in asked.splits.items()}
  for path in paths:
    picture = place[path.rpartition("/")[0]]._replace(path=path)
    for match, kind in ((match_image, Kind.IMAGE), (match_label, Kind.LABEL)):
      if match and (said := match(path)):
        matched.add(kind)
        split, key, literal = said
        rest = tuple(name for name in picture.rest if name not in literal)
        picture = picture._replace(kind=kind, key=key, rest=tuple(n for n in rest if n != split))
        if split:
          name = names.read(split).split
          picture = picture._replace(split=by_folder.get(split) or name or split)
          if split not in stated.setdefault(picture.split, []):
            stated[picture.split].append(split)
        break
    else:
      picture = _unmatched(picture, asked)
    pictures.append(picture)
  for flag, pattern, kind in (("--images", asked.images, Kind.IMAGE), ("--labels", asked.labels, Kind.LABEL)):
    if pattern and kind not in matched:
      raise BadInput(f"{flag}={pattern} matches no file of the source, such as {paths[0]}")
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
        if names.read(name).kind not in names.MAPS and name not in stated.setdefault(split, []):
          stated[split].append(name)
  used = {picture.split for picture in pictures}
  return Roles(pictures, {split: stated[split] for split in stated if split in used}, lone, base)


def _unmatched(picture: Picture, asked: Asked) -> Picture:
  """Returns the role of a picture that no pattern matches."""
  if asked.label_suffix:
    stem = picture.stem
    if stem.endswith(asked.label_suffix) and stem != asked.label_suffix:
      return picture._replace(kind=Kind.LABEL, key=stem.removesuffix(asked.label_suffix))
    return picture._replace(kind=Kind.OTHER) if picture.kind in names.MAPS else picture
  if asked.images and not (picture.kind in names.MAPS and not asked.labels):
    return picture._replace(kind=Kind.OTHER)
  if asked.labels and picture.kind in names.MAPS:
    return picture._replace(kind=Kind.OTHER)
  return picture


def _children(folders: Sequence[str]) -> dict[str, list[str]]:
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


def _find_levels(
  inside: Mapping[str, Sequence[str]], holding: set[str], asked: Asked
) -> tuple[str, dict[str, _Level], str]:
  """Returns (base, folder → the splits in it, `Roles.lone_split`)."""
  base = ""
  while len(inside[base]) == 1 and base.rstrip("/") not in holding:
    (name,) = inside[base]
    below = _level(inside[f"{base}{name}/"], False)
    if names.read(name).split and not (below and below.certain):
      break
    base += name + "/"
  levels, lone = {}, ""
  if asked.splits:
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


def _level(children: Sequence[str], is_base: bool) -> _Level | None:
  """Returns the splits among the folders in a folder; None if they are not splits."""
  splits = {name: names.read(name).split for name in children if names.read(name).split}
  several = len(set(splits.values())) > 1
  if not splits or several or is_base:
    return _Level(splits, several) if splits else None
  # "train" next to "train_labels"; or "train" alone, which the caller takes only inside the same split
  return _Level(splits, False) if len(splits) == len(children) else None


def _place(folder: str, base: str, levels: Mapping[str, _Level], asked: Asked) -> Picture:
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
    split, says_split = _asked_split(parts, asked.splits)
    at = min(says_split, default=None)
  present = {says.kind for says in kinds}
  kind = next((k for k in (Kind.VALUE, Kind.LABEL) if k in present), None)
  if Kind.OTHER in present and Kind.IMAGE not in present:
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


def _asked_split(parts: Sequence[str], splits: Mapping[str, str]) -> tuple[str, set[int]]:
  """Returns (the split that the user gave a folder, numbers of the parts of its path that say it)."""
  for split, folder in splits.items():
    words = [name for name in folder.split("/") if name]
    for i in range(len(parts) - len(words) + 1):
      if list(parts[i : i + len(words)]) == words:
        return split, set(range(i, i + len(words)))
  return "", set()


def _matcher(pattern: str) -> Callable[[str], tuple[str, str | None, set[str]] | None] | None:
  """Returns a function path → (split, key, names of folders that the pattern states), or None if the path
  does not match; None if there is no pattern.
  """
  if not pattern:
    return None
  parts = [part for part in pattern.strip("/").split("/") if part not in ("", ".")]
  is_file = bool(parts) and "*" in parts[-1] and parts[-1] != "**"
  expression, groups = "(?:.*/)?", 0
  for i, part in enumerate(parts):
    last = is_file and i == len(parts) - 1
    if part == "**":
      expression += "(?:.*/)?"
      continue
    for piece in re.split(r"(\*+|\{split\})", part):
      if piece == "{split}":
        expression += "(?P=split)" if "(?P<split>" in expression else "(?P<split>[^/]+?)"
      elif piece.startswith("*"):
        groups += last
        expression += f"(?P<key{groups}>[^/]*)" if last else "[^/]*"
      else:
        expression += re.escape(piece)
    expression += "" if last else "/"
  expression += "" if is_file else ".*"
  compiled = re.compile(expression)
  literal = {part for part in parts if "*" not in part and "{" not in part}
  keeps_ending = is_file and parts[-1].endswith("*")

  def match(path: str) -> tuple[str, str | None, set[str]] | None:
    if not (matched := compiled.fullmatch(path)):
      return None
    caught = matched.groupdict()
    key = "\0".join(caught[f"key{i}"] for i in range(1, groups + 1)) if groups else None
    if key and keeps_ending:
      key = names.stem_of(key)
    return caught.get("split") or "", key, literal

  return match
