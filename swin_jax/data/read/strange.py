"""What is strange in a prepared set: what its owner most likely did not intend, one line each."""

from collections.abc import Iterator, Sequence
import itertools
import math

from swin_jax.data.read import facts, labels, outliers
from swin_jax.data.read.facts import Facts, Split
from swin_jax.terminal.lines import listed, wrapped

_MOSTLY = 0.5  # share from which labels are mostly "no class"
_SHARED = 0.01  # share of a split's images from which another split holds the same images
_SEE_THROUGH = 0.01  # share of the images from which many have transparent pixels
TWELVE_BITS = 4095  # the largest number
_NAMED = 3  # classes that a line names
# Files that lie next to images without being any: nothing is strange about not reading them.
BESIDE = (
  ".txt",
  ".md",
  ".rst",
  ".html",
  ".pdf",
  ".json",
  ".jsonl",
  ".yaml",
  ".yml",
  ".xml",
  ".csv",
  ".tsv",
)


def find(counted: Facts) -> list[str]:
  """Returns what is strange in a set, each as a line without a full stop; the worst first."""
  checks = (
    *(
      _without_classes,
      _without_examples,
      _single,
      _same_images,
      _contradictory,
      _numbers,
      _undeclared,
      _assumed_upright,
      _transparent,
      _unlabelled,
      _types,
      _unread,
    ),
  )
  return list(itertools.chain.from_iterable(check(counted) for check in checks))


def shown(counted: Facts) -> list[str]:
  """Returns what is strange in a set in lines for the terminal."""
  return [part for line in find(counted) for part in wrapped(f"STRANGE: {line}")]


def per_class(split: Split, pixels: bool = True) -> dict[int, int]:
  """Returns label → images of that class, or with label maps: pixels, or images in which the class occurs."""
  key = ("pixels" if pixels else "images_with") if split.counts["pixels"] else "classes"
  return {int(label): count for label, count in split.counts[key].items()}


def unlabelled(split: Split) -> int:
  """Returns the images, or pixels, without a class."""
  return per_class(split).get(labels.NONE if split.counts["pixels"] else -1, 0)


def _labelled(counted: Facts) -> list[tuple[tuple[str, ...], list[Split]]]:
  """Returns (class names, splits with these classes in which some image or pixel has one)."""
  splits = [
    each for each in counted.splits if each.class_names and sum(per_class(each).values()) > unlabelled(each)
  ]
  names = dict.fromkeys(split.class_names for split in splits)
  return [(each, [split for split in splits if split.class_names == each]) for each in names]


def _name(names: Sequence[str]) -> str:
  """Returns "class a", "classes a, b", "classes a, b, c and 4 more"."""
  return ("class " if len(names) == 1 else "classes ") + listed(names, _NAMED)


def _without_classes(counted: Facts) -> Iterator[str]:
  """Finds splits of images without classes next to others with classes."""
  splits = {split.name: sum(split.counts["classes"].values()) for split in counted.splits}
  labelled = {split.name: splits[split.name] - unlabelled(split) for split in counted.splits}
  with_classes = [name for name, count in labelled.items() if count]
  for name, images in splits.items():
    # test sets often withhold their classes, where another split serves for evaluation
    is_withheld = name.lower().startswith("test") and len(with_classes) > 1
    if images and with_classes and not labelled[name] and not is_withheld:
      others = listed([f"{labelled[each]:,} of {splits[each]:,} in {each}" for each in with_classes])
      yield (
        f"{name}: none of its {images:,} images has a class, but {others} have; move them into a folder for"
        " each class"
      )


def _without_examples(counted: Facts) -> Iterator[str]:
  for names, splits in _labelled(counted):
    what = "pixel" if splits[0].counts["pixels"] else "image"
    absent = {split.name: set(range(len(names))) - per_class(split).keys() for split in splits}
    everywhere = set.intersection(*absent.values())
    where = "the set" if len(splits) > 1 else splits[0].name
    for name, missing in [(where, everywhere), *((name, absent[name] - everywhere) for name in absent)]:
      if missing:
        yield f"{_name([names[label] for label in sorted(missing)])}: no {what} in {name}"


def _single(counted: Facts) -> Iterator[str]:
  for names, splits in _labelled(counted):
    totals = [sum(per_class(split, False).get(label, 0) for split in splits) for label in range(len(names))]
    if single := [name for name, total in zip(names, totals, strict=True) if total == 1]:
      yield f"{_name(single)}: in only one image" + " each" * (len(single) > 1)


def _same_images(counted: Facts) -> Iterator[str]:
  for one, other in itertools.combinations(counted.splits, 2):
    few, many = sorted((other, one), key=lambda split: split.counts["images"])
    share = _share_in(few.counts["hashes"], many.counts["hashes"])
    if share == 1 and few.counts["images"] == many.counts["images"]:
      yield f"{one.name} and {other.name} hold the same images"
    elif share == 1:
      yield f"all images of {few.name} are also in {many.name}"
    elif share >= _SHARED:
      yield f"{share:.1%} of the images of {few.name} are also in {many.name}".replace("%", " %")


def _contradictory(counted: Facts) -> Iterator[str]:
  """Finds images that are stored with two classes, in one split or in two; see `facts.SKETCH`."""
  for names, splits in _labelled(counted):
    merged = facts.merge_labelled(split.counts.get("labelled", {}) for split in splits)
    known = [{int(label): name for label, name in each.items()} for each in merged.values()]
    known = [{label: each[label] for label in sorted(each) if label < len(names)} for each in known]
    if several := [each for each in known if len(each) > 1]:
      count = f"at least {len(several):,}" if len(merged) == facts.SKETCH else f"{len(several):,}"
      shown = " and ".join(f"{name} ({names[label]})" for label, name in list(several[0].items())[:2])
      yield f"images that occur in more than one class: {count}, such as {shown}; keep each in its class only"


def _share_in(few: list[int], many: list[int]) -> float:
  """Returns the share of a split's images that another split holds; see `facts.SKETCH`."""
  end = min((hashes[-1] for hashes in (few, many) if len(hashes) == facts.SKETCH), default=math.inf)
  compared, held = [each for each in few if each <= end], set(many)
  return sum(each in held for each in compared) / len(compared) if compared else 0.0


def _numbers(counted: Facts) -> Iterator[str]:
  """Finds numbers that most likely mark pixels without data, in bands and in maps of numbers."""
  for key, what, flag in (("extremes", "band", "nodata"), ("value_extremes", "map", "values_nodata")):
    columns: list[dict] = []
    for split in counted.splits:
      columns = facts.merge_extremes(columns, split.counts[key])
    marks: dict[tuple[float, str], list[int]] = {}
    for band, column in enumerate(columns):
      for end in ("low", "high"):
        if outliers.is_outlier(column, end):
          marks.setdefault((column[end][0][0], end), []).append(band)
    if columns and all(map(outliers.has_lone_zero, columns)):
      marks[0, "low"] = [*range(len(columns))]
    for (value, end), bands in marks.items():
      share = max(columns[band][end][0][1] / max(columns[band]["pixels"], 1) for band in bands)
      rest = [columns[band][side][int(side == end)][0] for band in bands for side in ("low", "high")]
      where = f"{what}{'s' * (len(bands) > 1)} {_ranges(bands)}" if what == "band" else "maps of numbers"
      yield (
        f"{where}: {outliers.number(value)} in {percent(share)} of the pixels, all others from"
        f" {min(rest):.6g} to {max(rest):.6g}; if it marks pixels without data, give"
        f" --{flag}={outliers.number(value)}"
      )


def _undeclared(counted: Facts) -> Iterator[str]:
  for split in counted.splits:
    if count := split.counts.get("undeclared"):
      share = percent(count / split.counts["of_arrays"])
      yield (
        f"{split.name}: {count:,} pixels ({share}) became no data although nothing declares them so: their"
        " numbers are infinite or beyond float32; if they mean no data, declare that in the rasters or by"
        " --nodata="
      )


def _assumed_upright(counted: Facts) -> Iterator[str]:
  for split in counted.splits:
    if count := split.counts.get("assumed"):
      what = "tiles" if split.is_cut else "images"
      yield (
        f"{split.name}: EXIF orientation turns {count:,} of {split.counts['images']:,} {what}, and the size"
        " of their maps does not tell whether it turns these too: they are taken as upright, like the image"
        " on a screen; if they lie like the stored pixels, give --maps_as_stored"
      )


def _transparent(counted: Facts) -> Iterator[str]:
  for split in counted.splits:
    count, images = split.counts.get("transparent", 0), split.counts["images"]
    if count > _SEE_THROUGH * images:
      yield (
        f"{split.name}: {count:,} of {images:,} images have transparent pixels, but alpha channels are"
        " dropped, so that a run sees the colours stored there; flatten the images onto one colour, or give"
        " --tile= so that transparent pixels hold no data"
      )


def _ranges(numbers: Sequence[int]) -> str:
  """Returns "0, 3–7"."""
  parts = []
  for _, run in itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
    run = [number for _, number in run]
    parts.append(f"{run[0]}–{run[-1]}" if len(run) > 2 else ", ".join(map(str, run)))
  return ", ".join(parts)


def _unlabelled(counted: Facts) -> Iterator[str]:
  for split in counted.splits:
    total, without = sum(per_class(split).values()), unlabelled(split)
    what = "pixels" if split.counts["pixels"] else "images"
    # of images without any labels, see `_without_classes`
    if split.class_names and without > _MOSTLY * total and (what == "pixels" or without < total):
      yield f"{split.name}: {percent(without / total)} of the {what} have no class"
    known, unknown = split.counts["known"], split.counts["unknown"]
    if unknown > _MOSTLY * (known + unknown):
      yield f"{split.name}: {percent(unknown / (known + unknown))} of the pixels have no known value"


def _types(counted: Facts) -> Iterator[str]:
  for split in counted.splits:
    counts, images = split.counts, split.counts["images"]
    if counts["wide"] and counts["widest"] <= TWELVE_BITS:
      yield (
        f"{split.name}: image files of 16 bits that use 12 or fewer: {counts['wide']:,} (largest number"
        f" {counts['widest']:,}); a run sees them nearly black, so scale them to 0–65,535"
      )
    if counts["channel_first"]:
      yield (
        f"{split.name}: arrays that look like [bands, height, width]: {counts['channel_first']:,} of"
        f" {images:,}; they must be [height, width, bands]"
      )


def _unread(counted: Facts) -> Iterator[str]:
  for split in counted.splits:
    if split.unreadable:
      what = "tiles" if split.is_cut else "images"
      such = f", such as {'; '.join(split.first_unreadable)}" if split.first_unreadable else ""
      yield f"{split.name}: {what} left out as unreadable or too large: {split.unreadable:,}{such}"
  yield from counted.origin.warnings
  if odd := {end: count for end, count in counted.origin.unread.items() if end.lower() not in BESIDE}:
    yield "files not read: " + endings(odd)


def endings(unread: dict[str, int]) -> str:
  """Returns "12 .gif, 3 no ending", the most frequent first."""
  pairs = sorted(unread.items(), key=lambda pair: (-pair[1], pair[0]))
  more = f" and {sum(count for _, count in pairs[8:]):,} others" if len(pairs) > 8 else ""
  return ", ".join(f"{count:,} {end}" for end, count in pairs[:8]) + more


def percent(share: float) -> str:
  """Formats a share like "4.1 %"; what is not 0 is not shown as 0, what is not all not as 100 %."""
  if 0 < share < 0.001:
    return "<0.1 %"
  return f"{math.floor(share * 1000) / 10 if share > 0.999 else share * 100:.1f} %"
