"""Any image set → ArrayRecord shards, once, before training.

  python -m swin_jax.data.prepare --source=SOURCE --out=FOLDER [--tile=192 --nodata=0 --array=NAME]
  python -m swin_jax.data.prepare --out=FOLDER

SOURCE is a folder or a zip of images, a pattern like data/cifar10_{split}.npz, one npz file, or tfds:NAME.
Folders and zips hold SOURCE/train/CLASS/x.jpg; without train and val, SOURCE/CLASS/x.jpg or SOURCE/x.jpg is
one split, from which --hold_out=0.1 takes a tenth as val. With a class for each pixel they hold
SOURCE/train/images/x.jpg and SOURCE/train/labels/x.png, or SOURCE/images/train and SOURCE/labels/train
("annotations" and "masks" will do too), and a classes.txt with a class name a line; with a number for each
pixel, as a raster or grey image, "values" in place of "labels"; --values_nodata=0 says which number is none.

Images keep their bytes. With --short_side=N those whose short side is longer are shrunk to N pixels and
stored as JPEG, upright or not as they lie in the file: orientation tags are not read, here or in training.

Every image is decoded once. What cannot be decoded is named, left out and counted; more than
--max_bad_fraction of it ends with exit code 2 and removes the shards it was left out of, so that a rerun
reads the mended files.

Rasters of any number of bands and type (GeoTIFF, JPEG 2000, .npy, .npz; `tiles.py` says how they may lie) are
kept as they are, cut into equal tiles of --tile pixels a side or more, less than twice that. Pixels that a
raster or --nodata declares to be no data become NaN, and tiles of nothing else are left out. Then mean,
deviation and percentiles of every band, and of the numbers of pixels, are written to FOLDER/statistics.json,
from which a run normalises. Without --source they are made for a set that is there already, of images too.

The order is a fixed permutation, so it does not depend on parts or threads. The same command goes on where it
was stopped, and
--part=0/8 … --part=7/8 write disjoint shards, side by side on any machines (each part once at a time).
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent import futures
import glob
import os
import sys
import time
from typing import Any

from absl import flags
from PIL import UnidentifiedImageError

from swin_jax.data.prepare import encoding, splits, tiles
from swin_jax.data.read import shards, statistics
from swin_jax.data.read.example import Source
from swin_jax.data.read.targets import Target
from swin_jax.terminal import cli
from swin_jax.terminal.errors import BadInput

_SOURCE = flags.DEFINE_string("source", None, "Folder, zip, npz file or pattern with {split}, or tfds:NAME.")
_OUT = flags.DEFINE_string("out", None, "Folder for the shards; created.")
_SPLIT = flags.DEFINE_string(
  "split", "", "The only split to prepare; for a source without splits its name, train if empty."
)
_HOLD_OUT = flags.DEFINE_float("hold_out", 0.0, "Share of the only split that becomes val.", 0.0, 0.9)
_SHORT_SIDE = flags.DEFINE_integer(
  "short_side", 0, "Pixels; larger images are shrunk to it. 0: images keep their bytes.", 0
)
_QUALITY = flags.DEFINE_integer("quality", 90, "JPEG quality of images that are shrunk.", 1, 95)
_SHARDS = flags.DEFINE_integer("shards", 0, "Files per split; 0: one per 4,096 images.", 0)
_PART = flags.DEFINE_string("part", "0/1", "i/n: only the shards j with j % n == i.")
_MAX_BAD = flags.DEFINE_float(
  "max_bad_fraction", 0.01, "Of the images of a split may be unreadable.", 0.0, 1.0
)
_TILE = flags.DEFINE_integer(
  "tile",
  0,
  "Pixels; rasters are cut into equal tiles of this size or more, less than twice it. 0: they stay whole.",
  0,
)
_NODATA = flags.DEFINE_float(
  "nodata", None, "Value of raster pixels without data, beside what the rasters themselves declare."
)
_VALUES_NODATA = flags.DEFINE_float(
  "values_nodata",
  None,
  "Number of pixels of which nothing is known, in maps of numbers, beside what these declare.",
)
_ARRAY = flags.DEFINE_string("array", "", "Which array of .npz files; may be empty where each holds one.")
_THREADS = flags.DEFINE_integer("num_threads", os.cpu_count() or 1, "Threads that read and shrink.", 1)

# What pixels carry, whether the images are rasters → the config of the run that learns it, and its workdir.
_SUPERVISED = {
  (Target.LABELS, False): {"own_labels.py:finetune": "labels"},
  (Target.LABELS, True): {"own_rasters.py:segment": "segment"},
  (Target.VALUES, False): {"own_labels.py:regress": "values"},
  (Target.VALUES, True): {"own_rasters.py:regress": "regress"},
}
_IMAGES_PER_SHARD = 4096  # about 450 MB of ImageNet
_SECONDS_BETWEEN_LINES = 5


def main(argv: list[str]) -> int:
  """Returns the exit code; see `cli.exit_code`."""

  def body():
    cli.parse_flags(argv, __doc__, [(_OUT, "data/prepared")])
    if not _SOURCE.value and glob.glob(os.path.join(glob.escape(_OUT.value), "*.array_record")):
      describe(_OUT.value, _THREADS.value)
      return
    cli.parse_flags(argv, __doc__, [(_SOURCE, "data/photos")])
    prepare(
      _SOURCE.value,
      _OUT.value,
      split=_SPLIT.value,
      hold_out=_HOLD_OUT.value,
      short_side=_SHORT_SIDE.value,
      quality=_QUALITY.value,
      num_shards=_SHARDS.value,
      part=parse_part(_PART.value),
      max_bad_fraction=_MAX_BAD.value,
      num_threads=_THREADS.value,
      cut=tiles.Cut(_TILE.value, _NODATA.value, _ARRAY.value, _VALUES_NODATA.value),
    )

  return cli.exit_code(body)


def prepare(
  source: str,
  out: str,
  *,
  split: str = "",
  hold_out: float = 0.0,
  short_side: int = 0,
  quality: int = 90,
  num_shards: int = 0,
  part: tuple[int, int] = (0, 1),
  max_bad_fraction: float = 0.01,
  num_threads: int = 2,
  cut: tiles.Cut = tiles.UNCUT,
) -> None:
  """Writes the shards of this part that are not there yet; see the flags.

  Raises:
    BadInput: the source is unusable, `out` holds another set, too many images are unreadable, or the disk is
      full.
  """
  if os.path.isdir(source) and os.path.realpath(out).startswith(os.path.realpath(source) + os.sep):
    raise BadInput(
      f"--out={out} is inside the source, where its folder would be taken for a class; choose another"
    )
  plan = splits.make_plan(source, split, hold_out, cut)
  name = os.path.basename(os.path.abspath(source))
  made_from = dict(
    source=name, hold_out=hold_out, short_side=short_side, quality=quality if short_side else 0
  )
  headers = {}
  for name, (examples, order) in plan.items():
    count = min(num_shards or -(-len(order) // _IMAGES_PER_SHARD), len(order))
    settings = made_from | dict(images=len(order), listing=splits.checksum(examples, order))
    if isinstance(examples, tiles.Tiles):
      settings |= dict(tile=cut.tile, nodata=cut.nodata, array=cut.array, bands=examples.bands)
    settings |= dict(values_nodata=cut.values_nodata) if cut.values_nodata is not None else {}
    headers[name] = dict(
      version=shards.VERSION, num_shards=count, class_names=examples.class_names, made_from=settings
    )
    headers[name] |= dict(targets=examples.targets) if examples.targets else {}
    # nothing written yet is no other set
    if glob.glob(os.path.join(glob.escape(out), f"{glob.escape(name)}-*.array_record")):
      shards.check_same_set(out, name, headers[name])
  try:
    for name, header in headers.items():
      shards.write_header(out, name, header)
    for name, (examples, order) in plan.items():
      _write_split(
        out, name, examples, order, headers[name], part, short_side, quality, max_bad_fraction, num_threads
      )
  except (OSError, RuntimeError) as error:  # unreadable images do not come here
    raise BadInput(f"{out} cannot be written: {error}; then the same command goes on") from error
  _say_next(out, plan, headers, num_threads)


def describe(out: str, num_threads: int) -> None:
  """Writes statistics.json of a prepared set, from its training split, unless it is there and of this set.

  Raises:
    BadInput: shards are missing, too many records are damaged, or the file cannot be written.
  """
  split = statistics.training_split(out)
  examples, header = shards.Shards(out, split), shards.read_header(out, split)
  of = {"split": split, "records": len(examples), "made_from": header["made_from"]}
  if not statistics.is_there(out, of):
    progress = _Progress("statistics", len(examples), 0)
    found = statistics.measure(examples, num_threads, progress.add)
    progress.finish(found["unreadable"], 0)
    statistics.write(out, found | of)
  print(statistics.describe(out), flush=True)


def parse_part(text: str) -> tuple[int, int]:
  """ "i/n" → (i, n).

  Raises:
    BadInput: it is written otherwise, or i is not in 0 … n - 1.
  """
  i, _, n = text.partition("/")
  if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
    raise BadInput(f"--part={text} is not i/n with i from 0 to n - 1, like 0/8")
  return int(i), int(n)


def _write_split(
  out, split, examples, order, header, part, short_side, quality, max_bad_fraction, num_threads
) -> None:
  """Writes this part's missing shards of one split."""
  num_shards = header["num_shards"]
  mine = range(part[0], num_shards, part[1])
  index = {
    shard: order[shard * len(order) // num_shards : (shard + 1) * len(order) // num_shards] for shard in mine
  }
  path = {shard: shards.shard_path(out, split, shard, num_shards) for shard in mine}
  records = {shard: shards.count_records(path[shard]) for shard in mine}
  left_out = {shard: len(index[shard]) - records[shard] for shard in mine if records[shard] >= 0}
  empty = 0  # tiles without data: of a satellite's scenes often many, and no damage
  # what is missing from shards that were there before is most likely of that kind
  if isinstance(examples, tiles.Tiles):
    empty, left_out = sum(left_out.values()), {}
  todo = [shard for shard in mine if records[shard] < 0]
  total = sum(map(len, index.values()))
  progress = _Progress(split, total, total - sum(len(index[shard]) for shard in todo))

  def leave_out(shard: int, name: str, error: str) -> None:
    print(f"swin_jax: left out {name}: {error}", file=sys.stderr, flush=True)
    left_out[shard] = left_out.get(shard, 0) + 1
    bad = sum(left_out.values())
    if bad > max_bad_fraction * total:
      for each in left_out:
        if left_out[each] and os.path.exists(path[each]):
          os.remove(path[each])
      raise BadInput(
        f"{bad} image{'s' * (bad > 1)} of split '{split}' cannot be read (named above), more than"
        f" --max_bad_fraction={max_bad_fraction} of"
        f" {total}; mend or remove them, or allow more"
      )

  with futures.ThreadPoolExecutor(num_threads) as pool:
    for shard in todo:
      for stale in glob.glob(f"{glob.escape(path[shard])}.*.tmp"):
        os.remove(stale)
      temporary = f"{path[shard]}.{os.getpid()}.tmp"
      try:
        writer = shards.open_writer(temporary)
        try:
          for record, name, error in _records(
            pool, examples, index[shard], short_side, quality, 4 * num_threads
          ):
            if isinstance(error, tiles.NoData):
              empty += 1
            elif error:
              leave_out(shard, name, error)
            else:
              writer.write(record)
            progress.add()
        finally:
          writer.close()
        # another part may have been started with other settings meanwhile
        shards.check_same_set(out, split, header)
        shards.publish(temporary, path[shard])
      except BaseException:
        if os.path.exists(temporary):
          os.remove(temporary)
        raise
  progress.finish(sum(left_out.values()), empty)


def _records(
  pool, examples: Source, index: Sequence[int], short_side: int, quality: int, ahead: int
) -> Iterator[tuple]:
  """(record, name, None) or (None, name, error) of each example, in order; so many at a time are in
  memory.
  """

  def load(i: int) -> tuple:
    name = f"image {i}"
    try:
      example = examples[i]
      name = example.name
      return encoding.store(example, short_side, quality), name, None
    except BadInput:
      raise
    except tiles.NoData as error:
      return None, name, error
    except UnidentifiedImageError:  # its text is the address of a buffer
      return None, name, "is no image file"
    except Exception as error:  # Pillow raises whatever a format's parser raises
      return None, name, " ".join(str(error).split())

  waiting: deque[futures.Future] = deque()
  try:
    for i in map(int, index):
      waiting.append(pool.submit(load, i))
      if len(waiting) >= ahead:
        yield waiting.popleft().result()
    while waiting:
      yield waiting.popleft().result()
  finally:
    for future in waiting:
      future.cancel()


class _Progress:
  """A line every few seconds: done, total, rate, time left."""

  def __init__(self, name: str, total: int, done: int):
    self._name, self._total, self._done, self._before = name, total, done, done
    self._start = self._said = time.monotonic()

  def add(self) -> None:
    self._done += 1
    now = time.monotonic()
    if now - self._said >= _SECONDS_BETWEEN_LINES:
      self._said = now
      rate = (self._done - self._before) / (now - self._start)
      left = int((self._total - self._done) / rate)
      print(
        f"{self._name}  {self._done:,}/{self._total:,}  {rate:,.0f} images/s  {left // 60}:{left % 60:02}"
        " left",
        flush=True,
      )

  def finish(self, left_out: int, empty: int) -> None:
    seconds, before = (
      time.monotonic() - self._start,
      f", {self._before:,} were there before" if self._before else "",
    )
    bad = f", {empty:,} without data left out" if empty else ""
    bad += f", {left_out:,} unreadable and left out" if left_out else ""
    print(f"{self._name}  {self._done:,} images in {seconds:.1f} s{before}{bad}", flush=True)


def _say_next(out: str, plan: splits.Plan, headers: dict[str, dict[str, Any]], num_threads: int) -> None:
  """Prints the command that trains on what was written, or which shards other parts still have to write."""
  missing = [
    path
    for split, header in headers.items()
    for shard in range(header["num_shards"])
    if not os.path.exists(path := shards.shard_path(out, split, shard, header["num_shards"]))
  ]
  if missing:
    first = os.path.basename(missing[0])
    print(
      f"{out}: this part is whole; {len(missing)} shards of other parts are not there yet, such as {first}"
    )
    return
  of_rasters = isinstance(next(iter(plan.values()))[0], tiles.Tiles)
  targets = Target(next(iter(headers.values())).get("targets", ""))
  if of_rasters or targets is Target.VALUES:
    describe(out, num_threads)
  images = ", ".join(f"{name} {len(shards.Shards(out, name)):,}" for name in plan)
  classes = len(next(iter(headers.values()))["class_names"])
  what = "a value for each pixel" if targets is Target.VALUES else f"{classes} classes"
  print(f"{out} is whole: {images} images, {what}. Next:")
  command = f" --config.data.path={out}"
  train = next((name for name in plan if name.lower().startswith("train")), next(iter(plan)))
  evaluate = next(
    (name for wanted in ("val", "test", "eval") for name in plan if name.lower().startswith(wanted)), train
  )
  command += f" --config.data.train_split={train}" if train != "train" else ""
  command += f" --config.data.eval_split={evaluate}" if evaluate != "val" else ""
  config, folder = ("own_rasters", "rasters") if of_rasters else ("own_images", "own")
  kinds = {f"{config}.py:pretrain": "pretrain"}
  kinds |= _SUPERVISED.get((targets, of_rasters), {f"{config}.py:finetune": "finetune"} if classes else {})
  for kind, run in kinds.items():
    print(f"  python -m swin_jax.main --config=configs/{kind} --workdir=runs/{folder}/{run}{command}")
  if evaluate == train:
    print(
      "There is one split, so this evaluates on the training images; --hold_out=0.1 into another folder"
      " keeps some apart."
    )


if __name__ == "__main__":
  cli.leave(main(sys.argv))
