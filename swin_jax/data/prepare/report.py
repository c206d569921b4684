"""Prints what a prepared set holds: a table of its splits and classes, and below it what is strange."""

from collections.abc import Sequence
from functools import partial
import unicodedata

from swin_jax.data.read import facts, strange
from swin_jax.data.read.facts import Facts, Split
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import wrapped
from swin_jax.terminal.progress import say

_MOST_CLASSES, _AT_EACH_END = 40, 12  # classes shown; of more, the most and the least frequent
_LONGEST_NAME, _COUNT, _SHARE = 24, 17, 9  # characters
_PER_TABLE = 3  # splits next to each other

_WITH_ALPHA = {"2": "grey and alpha", "4": "RGB and alpha"}  # number of bands → what they are

Row = tuple[str, list[tuple[str, str]]]  # title, and (count, share) or (text, "") of each split


def show(out: str, is_strict: bool) -> None:
  """Prints the table of a set that has facts.

  Raises:
    BadInput: something is strange, and `is_strict`; or the facts are damaged.
  """
  counted = facts.read(out)
  oddities = strange.find(counted)
  say(*lines(out, counted))
  if oddities and is_strict:
    raise BadInput(
      f"--strict: {out} is complete, but strange ({len(oddities)}): {'; '.join(oddities)};"
      " fix the source and prepare it into another folder, or leave out --strict"
    )


def lines(out: str, counted: Facts) -> list[str]:
  """Returns the table of a set and the lines below it."""
  return [*_tables(out, counted), *_below(counted)]


def _tables(out: str, counted: Facts) -> list[str]:
  """Returns tables of a few splits each: counts and shares of the classes, then sizes, bands and types."""
  lines = []
  for start in range(0, len(counted.splits), _PER_TABLE):
    splits = counted.splits[start : start + _PER_TABLE]
    rows = [*_classes(splits), *_numbers(splits), *_images(splits)]
    width = min(max(columns_of(title) for title, _ in rows), _LONGEST_NAME)
    names = [(_cut(split.name, _COUNT + _SHARE - 2), "") for split in splits]
    lines += [_line(title, cells, width) for title, cells in [("", names), *rows]]
  has_classes = any(split.class_names for split in counted.splits)
  unit = "pixels" if any(split.counts["pixels"] for split in counted.splits) else "images"
  return [f"{out}: {f'{unit} by class and split' if has_classes else 'contents'}", *lines]


def _classes(splits: Sequence[Split]) -> list[Row]:
  """Returns a row for each class, or for the most and the least frequent; and one for what has no class."""
  counts = [strange.per_class(split) for split in splits]
  totals = [sum(each.values()) for each in counts]
  names = max((split.class_names for split in splits), key=len)
  labels = list(range(len(names)))
  if not labels:
    return []

  def row(label: int) -> Row:
    held = [each.get(label, 0) for each in counts]
    return names[label], [_shared(count, total) for count, total in zip(held, totals, strict=True)]

  left_out = []
  if len(labels) > _MOST_CLASSES:
    labels.sort(key=lambda label: -sum(each.get(label, 0) for each in counts))
    left_out = labels[_AT_EACH_END:-_AT_EACH_END]
    labels = labels[:_AT_EACH_END] + labels[-_AT_EACH_END:]
  rows = [row(label) for label in labels]
  if left_out:
    rest = [sum(each.get(label, 0) for label in left_out) for each in counts]
    shared = [_shared(count, total) for count, total in zip(rest, totals, strict=True)]
    rows.insert(_AT_EACH_END, (f"… {len(left_out):,} classes between", shared))
  without = [strange.unlabelled(split) for split in splits]
  if any(without):
    rows.append(("no class", [_shared(n, total) for n, total in zip(without, totals, strict=True)]))
  return rows


def _numbers(splits: Sequence[Split]) -> list[Row]:
  """Returns the rows of maps of numbers."""
  if not any(split.counts["value_extremes"] for split in splits):
    return []
  rows = []
  for key in ("known", "unknown"):
    totals = [split.counts["known"] + split.counts["unknown"] for split in splits]
    shared = [_shared(split.counts[key], total) for split, total in zip(splits, totals, strict=True)]
    rows.append((f"{key} pixels", shared))
  spans = [_span(split.counts["value_extremes"]) for split in splits]
  return [*rows, ("their range", [(span, "") for span in spans])]


def _images(splits: Sequence[Split]) -> list[Row]:
  """Returns the rows of images: how many, how large, of how many bands, of which types."""

  def row(title: str, cell) -> Row:
    return title, [(cell(split), "") for split in splits]

  missing = [split.counts.get("missing", 0) for split in splits]
  of_arrays = [split.counts.get("of_arrays", 0) for split in splits]
  rows = [
    row("tiles" if any(split.is_cut for split in splits) else "images", lambda x: f"{x.counts['images']:,}"),
    row("unreadable", lambda x: f"{x.unreadable:,}"),
    row("without data", lambda x: f"{x.empty:,}"),
    row("left out", lambda x: f"{x.left_out:,}"),
    row("smallest, h × w", lambda x: " × ".join(map(str, x.counts.get("smallest", ())))),
    row("largest, h × w", lambda x: " × ".join(map(str, x.counts.get("largest", ())))),
    row("bands", lambda x: ", ".join(map(partial(_band_count, x), sorted(x.counts["bands"], key=int)))),
    row("types", lambda x: ", ".join(sorted(x.counts["types"], key=x.counts["types"].get, reverse=True))),
    row("numbers", lambda x: _span(x.counts["extremes"]) + _bits(x)),
    ("no-data pixels", [_shared(*counts) for counts in zip(missing, of_arrays, strict=True)]),
  ]
  shown = {
    "unreadable": any(split.unreadable for split in splits),
    "without data": any(split.empty for split in splits),
    "left out": any(split.left_out for split in splits),
    "numbers": any(split.counts["extremes"] for split in splits),
    "no-data pixels": any(missing),
  }
  return [each for each in rows if shown.get(each[0], True)]


def _band_count(split: Split, bands: str) -> str:
  """Returns "3", or "4 (RGB and alpha)"."""
  has_alpha = bands in _WITH_ALPHA and split.counts.get("with_alpha", {}).get(bands)
  return f"{bands} ({_WITH_ALPHA[bands]})" if has_alpha else bands


def _span(columns: list[dict]) -> str:
  """Returns "-3 to 812", over all bands."""
  low = [column["low"][0][0] for column in columns if column["low"]]
  high = [column["high"][0][0] for column in columns if column["high"]]
  return f"{min(low):.6g} to {max(high):.6g}" if low and high else ""


def _bits(split: Split) -> str:
  """Returns a remark on arrays of 16 bits that use 12 or fewer, which statistics make harmless."""
  highest = [column["high"][0][0] for column in split.counts["extremes"] if column["high"]]
  uses_few = split.counts["types"].keys() == {"uint16"} and highest and max(highest) <= strange.TWELVE_BITS
  return ", 12 bits" if uses_few else ""


def _below(counted: Facts) -> list[str]:
  """Returns the lines below the tables: what was not read, and what is strange. How the source was understood
  is printed before it is read.
  """
  below, unread = [], counted.origin.unread
  if beside := {end: count for end, count in unread.items() if end.lower() in strange.BESIDE}:
    line = f"files next to the images, not read: {strange.endings(beside)}"
    below += wrapped(line)
  for split in counted.splits:
    if count := sum(split.counts.get("with_alpha", {}).values()):
      below += wrapped(
        f"{split.name}: {count:,} images have an alpha channel or transparent colours, dropped where"
        " data.mean has one or three numbers"
      )
    if count := split.counts.get("turned"):
      what = "tiles" if split.is_cut else "images"
      below += wrapped(
        f"{split.name}: EXIF orientation turned the maps of {count:,} {what} like their images"
      )
  return below + (strange.shown(counted) or ["nothing looks strange"])


def _shared(count: int, total: int) -> tuple[str, str]:
  return f"{count:,}", strange.percent(count / total) if total else ""


def _line(title: str, cells: list[tuple[str, str]], width: int) -> str:
  title = _cut(title, width)
  text = "".join(
    f"{count:>{_COUNT}}{share:>{_SHARE}}"
    if share
    else f"{_cut(count, _COUNT + _SHARE - 2):>{_COUNT + _SHARE}}"
    for count, share in cells
  )
  return "  " + title + " " * (width - columns_of(title)) + text


def _cut(text: str, width: int) -> str:
  """Returns a text shortened to a number of columns of the terminal."""
  if columns_of(text) <= width:
    return text
  while columns_of(text) > width - 1:
    text = text[:-1]
  return text + "…"


def columns_of(text: str) -> int:
  """Returns the columns of a terminal that a text takes: Chinese characters take two."""
  return sum(
    0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF") for each in text
  )
