"""What the name of a folder or a file says in a data set: a split, images, their maps, a band.

A name says something only if all its words are known: "train_masks" does, "training_shoes" does not.
"""

from collections.abc import Collection
import enum
import functools
import os
import re
from typing import NamedTuple

from swin_jax.data.read.targets import Target


def _words(text: str) -> frozenset[str]:
  return frozenset(text.split())


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]+")
_SPLITS = {
  "train": "train training trn trainval",
  "val": "val valid validate validation eval evaluation dev minival",
  "test": "test testing tst holdout",
}
SPLIT_OF = {word: base for base, words in _SPLITS.items() for word in words.split()}
_REPEATING = {"trainval", "minival"}  # splits that repeat images of "train" and "val"
# Splits only together with other words, as in imagesTr: alone they may be languages or countries.
_SHORT_SPLITS = {"tr": "train", "va": "val", "ts": "test", "te": "test"}
_STATED = re.compile(
  r"(train|training|val|valid|validation|eval|evaluation|test|testing)(\d{4})?", re.IGNORECASE
)
_LABELS = _words(
  "label labels lbl lbls annotation annotations ann anns annot annots anno annos mask masks msk msks gt gts"
  " groundtruth segmentation segmentations semantic manual trimap trimaps segmap segmaps"
)
_IMAGES = _words("image images img imgs")
_PLAIN_IMAGES = _words("photo photos picture pictures pic pics input inputs rgb original originals sat")
# Not the images and not their classes, where a set has both.
_OTHERS = _words(
  "instance instances object objects right disparity color colour colored coloured colors colours panoptic"
  " vis viz visualization overlay overlays preview previews thumb thumbs thumbnail thumbnails"
)
# Words that add nothing to the others.
_FILLERS = _words(
  "set sets data dataset seg dir folder split class classes aug fine coarse id ids pixel pixels jpeg jpg png"
  " tif left bit raw st nd ground truth"
)
# Written in one, as in "trainannot" and "valmasks".
_JOINED = re.compile(
  rf"({'|'.join(sorted(SPLIT_OF, key=len, reverse=True))})({'|'.join(_LABELS | _IMAGES)}|set|data)"
)
_BAND = re.compile(
  r"(?:sr_)?b(?:and)?_?(0?[1-9]a?|1\d|qa)|red|green|blue|nir|swir\d?|rededge\d?|re\d|vv|vh|hh|hv|pan|tir\d?"
)
_RESOLUTION = re.compile(r"r?\d{1,4}c?m", re.IGNORECASE)
_FOLD = re.compile(r"(fold|cv|split|part|batch|chunk|shard)[ _-]?\d+", re.IGNORECASE)
_NUMBERED = re.compile(r"(.*?[^\W\d_])[ _.-]*\(?(\d+)\)?")
# What holds several images of the same thing, where folders are numbered.
_GROUPS = _words(
  "patient patients pat pt subject subjects subj sub participant volunteer donor person individual animal"
  " mouse case cases study exam visit session series slide wsi biopsy specimen scan volume scene scenes video"
  " videos vid clip clips movie seq sequence recording camera cam site plot station location roi"
)
# What a camera or a program calls all its files.
_FILES = _words("img image dsc dscn dscf pxl photo pic frame tile patch crop file screenshot untitled copy")
_SHORT_CLASSES = _words("c k l id n")  # n01440764 is a class of ImageNet
SEPARATORS = "_-. "


class Kind(enum.Enum):
  """What files are."""

  IMAGE = enum.auto()
  LABEL = enum.auto()
  VALUE = enum.auto()
  OTHER = enum.auto()


MAP_KINDS = (Kind.LABEL, Kind.VALUE)


class Name(NamedTuple):
  """What a name says.

  Attributes:
    split: its split, as "train", "val" or "test" and perhaps a year; "" if it names none.
    kind: None if the name does not say it.
    plain: whether it is a word for images that may also be a class, such as "photos".
  """

  split: str = ""
  kind: Kind | None = None
  plain: bool = False


@functools.lru_cache(100_000)
def words(name: str) -> tuple[str, ...]:
  """Returns the words of a name in lower case: "leftImg8bit" is left, img, 8, bit."""
  split_up = []
  for word in map(str.lower, _WORD.findall(name)):
    joined = _JOINED.fullmatch(word)
    split_up += joined.groups() if joined and word not in _LABELS | SPLIT_OF.keys() else (word,)
  for at, pair in reversed([*enumerate(zip(split_up, split_up[1:], strict=False))]):
    if pair in (("hold", "out"), ("held", "out")):
      split_up[at : at + 2] = ["holdout"]
  return tuple("holdout" if word == "heldout" else word for word in split_up)


@functools.lru_cache(100_000)
def read(name: str) -> Name:
  """Returns what the name of a folder says."""
  if name == Target.VALUES:
    return Name(kind=Kind.VALUE)
  parts = set(words(name))
  texts = {word for word in parts if not word.isdigit()}
  if texts & (_LABELS | _IMAGES):
    texts = {_SHORT_SPLITS.get(word, word) for word in texts}
  if not texts <= _LABELS | _IMAGES | _PLAIN_IMAGES | _OTHERS | _FILLERS | SPLIT_OF.keys():
    return Name()
  bases = {SPLIT_OF[word] for word in texts & SPLIT_OF.keys()}
  if len(bases) > 1:
    return Name()
  years = [word for word in words(name) if word.isdigit() and len(word) == 4]
  split = "".join(bases) + (years[0] if bases and years else "")
  labels = texts & _LABELS or {"ground", "truth"} <= texts or ("seg" in texts and not bases)
  images = texts & (_IMAGES | _PLAIN_IMAGES)
  if texts & _OTHERS:
    # a lone word such as "color" may be a class
    return Name(split, Kind.OTHER) if labels or images or len(texts) == 1 else Name()
  if labels:
    return Name(split, Kind.LABEL)
  return Name(split, Kind.IMAGE if images else None, bool(images) and not texts & _IMAGES)


def states_split(name: str) -> bool:
  """Returns whether a folder has the plain name of a split, which the split keeps: train, val, test2017, …"""
  return bool(_STATED.fullmatch(name))


def hints_at(name: str, kind: Kind) -> bool:
  """Returns whether a word of a name is one for images or for label maps, whatever the others are."""
  parts = set(words(name))
  return bool(parts & (_LABELS if kind is Kind.LABEL else _IMAGES)) or (
    kind is Kind.LABEL and {"ground", "truth"} <= parts
  )


def hinted_split(name: str) -> str:
  """Returns the split that a word of a name names, whatever the others are; "" if there is none."""
  return SPLIT_OF.get(_split_word(name), "")


def _split_word(name: str) -> str:
  """Returns the first word of a name that names a split; "" if there is none."""
  return next((word for word in words(name) if word in SPLIT_OF), "")


def repeating(folders: Collection[str]) -> set[str]:
  """Returns the folders of splits that repeat images of another one: "trainval" next to "train"."""
  return {
    name
    for alike in _of_one_split(folders)
    for name in alike
    if _split_word(name) in _REPEATING and not {*map(_split_word, alike)} <= _REPEATING
  }


def joined(folders: Collection[str]) -> list[tuple[str, ...]]:
  """Returns the folders of one split that have different words for it, such as ("holdout", "test")."""
  return [alike for alike in _of_one_split(folders) if len({*map(_split_word, alike)} - {""}) > 1]


def _of_one_split(folders: Collection[str]) -> list[tuple[str, ...]]:
  """Returns the folders that hold files of one kind in one split."""
  groups: dict[tuple[str, Kind], list[str]] = {}
  for name in folders:
    if (says := read(name)).split:
      groups.setdefault((says.split, says.kind or Kind.IMAGE), []).append(name)
  return [*map(tuple, groups.values())]


def is_fold(name: str) -> bool:
  """Returns whether a folder is called like a part of a set that was divided: fold1, batch_2, …"""
  return bool(_FOLD.fullmatch(name))


def are_groups(folders: Collection[str]) -> bool:
  """Returns whether folders are called like numbered groups of images, not classes: patient1, patient2, …; or
  by one or two letters that do not mean a class and a number with leading zeros: P0001, P0002, …
  """
  matches = [_NUMBERED.fullmatch(name) for name in folders]
  if len(matches) < 3 or None in matches or len(prefixes := {match[1].lower() for match in matches}) > 1:
    return False
  (prefix,) = prefixes
  numbers = [match[2] for match in matches]
  is_padded = len({*map(len, numbers)}) == 1 and len(numbers[0]) > 2 and min(numbers)[0] == "0"
  is_short = len(prefix) < 3 and prefix not in _SHORT_CLASSES
  return words(prefix)[-1] in _GROUPS or (is_short and is_padded)


def class_in(stem: str) -> str:
  """Returns the part of a file's name before its number, which may be its class: "cat" of cat.12; "" if it
  names a split, a group or what all files of a camera are called, or if there is none.
  """
  match = _NUMBERED.fullmatch(stem)
  says = match and read(match[1])
  if not match or says.kind or says.split or not (_GROUPS | _FILES).isdisjoint(words(match[1])):
    return ""
  return match[1]


def is_resolution(name: str) -> bool:
  """Returns whether a folder is called like a resolution: R10m, 20m, …"""
  return bool(_RESOLUTION.fullmatch(name))


def is_colour(name: str) -> bool:
  """Returns whether a folder is called like a visible band, which may also be a class."""
  return name.lower() in ("red", "green", "blue")


def is_band(name: str) -> bool:
  """Returns whether a folder is called like a band: B02, band_3, nir, …"""
  return bool(_BAND.fullmatch(name.lower()))


@functools.lru_cache(10_000)
def _says(word: str) -> Name:
  return read(word) if not word.isdigit() else Name()


def stem_of(path: str) -> str:
  """Returns a path without its ending."""
  folder, slash, name = path.rpartition("/")
  return folder + slash + (name.rpartition(".")[0] or name)


def ending_of(path: str) -> str:
  """Returns the ending of a path in lower case, with its dot; "" if there is none."""
  head, dot, ending = path.rpartition("/")[2].rpartition(".")
  return dot + ending.lower() if head else ""


def shorten(stem: str, splits: bool = False) -> str:
  """Removes the words at the end of a stem that say what the file is: "x_gtFine_labelIds" and "x_leftImg8bit"
  become "x".

  Args:
    stem: name of a file without its ending.
    splits: whether to remove the names of splits too.
  """
  while True:
    at = max(map(stem.rfind, SEPARATORS))
    if at <= 0:
      return stem
    says = _says(stem[at + 1 :])
    if not (says.kind or (splits and says.split)):
      return stem
    stem = stem[:at]


def common_end(stems: Collection[str]) -> str:
  """Returns the words, with their separator, with which all stems end: "_sat" of 1_sat and 2_sat."""
  if len(stems) < 2:
    return ""
  backwards = [stem[::-1] for stem in (min(stems, key=_backwards), max(stems, key=_backwards))]
  end = os.path.commonprefix(backwards)[::-1]
  starts = [at for at, letter in enumerate(end) if letter in SEPARATORS]
  return end[starts[0] :] if starts else ""


def _backwards(stem: str) -> str:
  return stem[::-1]


def is_map_stem(stem: str) -> bool:
  """Returns whether a stem ends with a word for label maps: "x_mask"."""
  at = max(map(stem.rfind, SEPARATORS))
  return at > 0 and _says(stem[at + 1 :]).kind is Kind.LABEL


def is_other_stem(stem: str) -> bool:
  """Returns whether a stem ends with a word for neither images nor label maps: "x_gtFine_color"."""
  at = max(map(stem.rfind, SEPARATORS))
  return at > 0 and _says(stem[at + 1 :]).kind is Kind.OTHER


def without_band(stem: str) -> tuple[str, str, str]:
  """Returns (stem without its band and resolution, band, resolution); band is "" if the name has none."""
  kept, band, resolution = [], "", ""
  for part in re.split(f"([{re.escape(SEPARATORS)}])", stem):
    if not band and len(part) > 1 and is_band(part):
      band = part
    elif band and not resolution and is_resolution(part):
      resolution = part
    else:
      kept.append(part)
  return "".join(kept), band, resolution
