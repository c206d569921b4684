"""Writes the shards and the statistics of a prepared set."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent import futures
import functools
import glob
import itertools
import os
import pathlib
from typing import Any

from swin_jax.data.prepare import (
  counting,
  encoding,
  faults,
  measuring,
  next_commands,
  report,
  sealing,
  splits,
  tiles,
)
from swin_jax.data.read import facts, roles, shards, statistics
from swin_jax.data.read.example import Source
from swin_jax.data.read.targets import Target
from swin_jax.terminal import digests, files
from swin_jax.terminal.errors import BadInput, Fault, cannot_write
from swin_jax.terminal.progress import Progress, say

_IMAGES_PER_SHARD = 4096  # about 450 MB of ImageNet


def prepare(
  source: str,
  out: str,
  *,
  split: str = "",
  hold_out: float = 0.0,
  by: str = "",
  short_side: int = 0,
  quality: int = 90,
  num_shards: int = 0,
  part: tuple[int, int] = (0, 1),
  max_bad_fraction: float = 0.01,
  num_threads: int = 2,
  cut: tiles.Cut = tiles.UNCUT,
  asked: roles.Asked = roles.NOTHING,
  strict: bool = False,
) -> None:
  """Writes the missing shards of this part; see the flags.

  Raises:
    BadInput: the source is unusable, `out` holds another set or cannot be written, or too many images are
      unreadable.
    Fault: the disk is full, or the storage failed.
  """
  if f"{os.path.realpath(out)}{os.sep}".startswith(f"{os.path.realpath(source)}{os.sep}"):
    raise BadInput(
      f"--out={out} is the source or is inside the source, where it would be read as a class; choose another"
      " folder"
    )
  plan = splits.make_plan(source, split, hold_out, cut, by, out, asked)
  if short_side and any(isinstance(examples, tiles.Tiles) for examples, _ in plan.splits.values()):
    raise BadInput("--short_side applies to images; rasters keep their resolution: leave it out")
  if plan.notes:
    say(*plan.notes)
  name = os.path.basename(os.path.abspath(source))
  made_from = dict(
    source=name, hold_out=hold_out, short_side=short_side, quality=quality if short_side else 0
  )
  headers, listed = {}, set()  # listed: splits whose JSON file the manifest has
  for name, (examples, order) in plan.splits.items():
    count = min(num_shards or -(-len(order) // _IMAGES_PER_SHARD), len(order))
    settings = made_from | dict(images=len(order), listing=splits.checksum(examples, order))
    if isinstance(examples, tiles.Tiles):
      settings |= dict(tile=cut.tile, nodata=cut.nodata, array=cut.array, bands=examples.bands)
      settings |= dict(keep_alpha=True) if cut.keep_alpha else {}
    settings |= dict(by=by) if by else {}
    settings |= dict(values_nodata=cut.meaning.nodata) if cut.meaning.nodata is not None else {}
    settings |= dict(maps_as_stored=True) if cut.meaning.as_stored else {}
    headers[name] = dict(
      version=shards.VERSION, num_shards=count, class_names=examples.class_names, made_from=settings
    )
    headers[name] |= dict(targets=examples.targets) if examples.targets else {}
    if isinstance(examples, tiles.Tiles) and examples.band_names:
      headers[name] |= dict(band_names=examples.band_names)
    if sealing.lists_header(out, name, headers[name]):
      listed.add(name)
    # a header without shards does not count as another set
    elif glob.glob(os.path.join(glob.escape(out), f"{glob.escape(name)}-*.array_record")):
      shards.check_same_set(out, name, headers[name])
  try:
    for name, header in headers.items():
      if name not in listed:
        sealing.forget(out, name)
      shards.write_header(out, name, header)
    for name, (examples, order) in plan.splits.items():
      write_split(
        out, name, examples, order, headers[name], part, short_side, quality, max_bad_fraction, num_threads
      )
  except (OSError, RuntimeError) as error:  # unreadable images never raise these here
    failure = shards.explain(error, out) if isinstance(error, RuntimeError) else error
    if isinstance(failure, ValueError):
      raise Fault(f"{out} cannot be written: {failure}; the same command continues") from error
    raise cannot_write(out, failure) from error
  _finish(out, plan, headers, num_threads, strict, facts.Origin(dict(plan.unread), plan.notes, plan.warnings))


def describe(out: str, num_threads: int, strict: bool = False) -> None:
  """Writes the statistics and the facts of a prepared set, unless they exist; prints them, and how its source
  was understood.

  Raises:
    BadInput: see `describe_bands` and `report.show`.
  """
  describe_bands(out, num_threads)
  if sealing.count_again(out, num_threads):
    if notes := facts.read(out).origin.notes:
      say(*notes)
    report.show(out, strict)
  else:
    say(f"{out} has no manifest.json, so its classes are not counted; run the command that prepared it again")


def describe_bands(out: str, num_threads: int) -> None:
  """Writes statistics.json of a prepared set from its training split, unless it exists and belongs to this
  set; prints it.

  Raises:
    BadInput: shards are missing, too many records are damaged, or the file cannot be written.
  """
  split = measuring.training_split(out)
  examples, header = shards.Shards(out, split), shards.read_header(out, split)
  made_of = {"split": split, "records": len(examples), "made_from": header["made_from"]}
  if not measuring.belongs_to(out, made_of):
    progress = Progress("statistics", len(examples), "images")
    measured = measuring.measure(examples, num_threads, progress.step)
    progress.finish(_left_out(measured["unreadable"], 0))
    measured |= {"band_names": header["band_names"]} if "band_names" in header else {}
    measuring.write(out, measured | made_of)
    sealing.update(out, statistics.NAME)
  say(*statistics.describe(out))


def write_split(
  out, split, examples, order, header, part, short_side, quality, max_bad_fraction, num_threads
) -> None:
  """Writes this part's missing shards of one split.

  Raises:
    BadInput: too many images are unreadable.
  """
  num_shards = header["num_shards"]
  mine = range(part[0], num_shards, part[1])
  index = {
    shard: order[shard * len(order) // num_shards : (shard + 1) * len(order) // num_shards] for shard in mine
  }
  path = {shard: shards.shard_path(out, split, shard, num_shards) for shard in mine}
  records = {shard: shards.count_records(path[shard]) for shard in mine}
  known, digests_of_part = sealing.read(out), sealing.Part(out, part)
  for shard in mine:  # cut short, or another file
    digest = known.get(os.path.basename(path[shard]))
    if digest and digests.find_damage(path[shard], digest, read=False):
      records[shard] = -1
  left_out = {shard: len(index[shard]) - records[shard] for shard in mine if records[shard] >= 0}
  empty = 0  # tiles without data: common in satellite scenes, not damage
  # records missing from existing shards are most likely such tiles
  if isinstance(examples, tiles.Tiles):
    empty, left_out = sum(left_out.values()), {}
  todo = [shard for shard in mine if records[shard] < 0]
  total = sum(map(len, index.values()))
  existing = total - sum(len(index[shard]) for shard in todo)
  progress = Progress(split, total, "images", existing)
  bad = faults.Faults(split, total, max_bad_fraction, existing, sum(left_out.values()))

  with futures.ThreadPoolExecutor(num_threads) as pool:
    read = lambda shard: _records(pool, examples, index[shard], short_side, quality, 4 * num_threads)
    for i, shard in enumerate(todo):
      with files.replacing(pathlib.Path(path[shard])) as partial:
        writer, tally = shards.open_writer(str(partial)), counting.Tally()
        try:
          for stored, name, error in (records := read(shard)):
            if what := bad.count(name, error):
              tally.leave_out(what)
              left_out[shard] = left_out.get(shard, 0) + 1
              if bad.too_many:
                _remove([path[each] for each in left_out if left_out[each]])
                rest = itertools.chain(records, *map(read, todo[i + 1 :]))
                raise bad.refusal(each[1:] for each in rest)
            elif isinstance(error, tiles.NoData):
              empty += 1
            else:
              record, count = stored
              writer.write(record)
              tally.add(count)
            progress.step()
        finally:
          writer.close()
        # another part may have been started with different settings in the meantime
        shards.check_same_set(out, split, header)
        digests_of_part.add(os.path.basename(path[shard]), partial, tally.facts())
  progress.finish(_left_out(sum(left_out.values()), empty))


def _remove(paths: Sequence[str]) -> None:
  for path in paths:
    pathlib.Path(path).unlink(missing_ok=True)


def _left_out(unreadable: int, empty: int) -> str:
  note = f", {empty:,} without data left out" if empty else ""
  return note + (f", {unreadable:,} unreadable and left out" if unreadable else "")


def _records(
  pool, examples: Source, index: Sequence[int], short_side: int, quality: int, ahead: int
) -> Iterator[tuple]:
  """Yields (output of `encoding.store`, name, None) or (None, name, error) for each example, in order;
  holds at most `ahead` of them in memory.
  """

  paths = functools.cache(lambda: examples.files)  # slow to get, and needed only after errors

  def load(i: int) -> tuple:
    name = ""
    try:
      example = examples[i]
      name = example.name
      return encoding.store(example, short_side, quality), name, None
    except BadInput:
      raise
    except tiles.NoData as error:
      return None, name, error
    except Exception as error:  # Pillow raises whatever a format's parser raises
      reason = " ".join(str(error).split())
      if not name:
        name = paths()[i] if len(paths()) else f"image {i}"
        if reason.startswith(name):  # readers of files may say the file, and where in it
          where, _, reason = reason.removeprefix(name).partition(": ")
          name += where
      return None, name, reason

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


def _finish(
  out: str,
  plan: splits.Plan,
  headers: dict[str, dict[str, Any]],
  num_threads: int,
  strict: bool,
  origin: facts.Origin,
) -> None:
  """Seals and describes a set whose shards all exist, and prints the command that trains on it; or prints
  which shards other parts still have to write.
  """
  missing = [
    path
    for split, header in headers.items()
    for shard in range(header["num_shards"])
    if not os.path.exists(path := shards.shard_path(out, split, shard, header["num_shards"]))
  ]
  if missing:
    first = os.path.basename(missing[0])
    say(
      f"{out}: this part is complete; {len(missing)} shards of other parts do not exist yet, such as {first}"
    )
    return
  sealing.finish(out, num_threads, origin)
  of_rasters = isinstance(next(iter(plan.splits.values()))[0], tiles.Tiles)
  targets = Target(next(iter(headers.values())).get("targets", ""))
  if of_rasters or targets.has_numbers:
    describe_bands(out, num_threads)
  report.show(out, strict)
  num_images = {name: len(shards.Shards(out, name)) for name in plan.splits}
  images = ", ".join(f"{name} {count:,}" for name, count in num_images.items())
  classes = len(next(iter(headers.values()))["class_names"])
  what = "one value per pixel" if targets.has_numbers else f"{classes} classes"
  say(
    f"{out} is complete: {images} images, {what}. Next:",
    *next_commands.lines(out, num_images, classes, targets, of_rasters),
  )
