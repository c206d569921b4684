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

from collections.abc import Sequence
import glob
import os
import sys

from swin_jax.data.prepare import tiles, writing
from swin_jax.terminal import cli
from swin_jax.terminal.errors import BadInput


def _parser() -> cli.Parser:
  parser = cli.Parser(prog="python -m swin_jax.data.prepare", description=__doc__)
  add = parser.add_argument
  add("--source", help="folder, zip, npz file or pattern with {split}, or tfds:NAME")
  add("--out", metavar="FOLDER", help="folder for the shards; created")
  add(
    "--split",
    default="",
    metavar="NAME",
    help="the only split to prepare; for a source without splits its name, train if empty",
  )
  add(
    "--hold_out",
    type=cli.number(float, 0.0, 0.9),
    default=0.0,
    metavar="SHARE",
    help="share of the only split that becomes val",
  )
  add(
    "--short_side",
    type=cli.number(int, 0),
    default=0,
    metavar="N",
    help="pixels; larger images are shrunk to it. 0: images keep their bytes",
  )
  add(
    "--quality",
    type=cli.number(int, 1, 95),
    default=90,
    metavar="N",
    help="JPEG quality of images that are shrunk",
  )
  add(
    "--shards",
    type=cli.number(int, 0),
    default=0,
    metavar="N",
    help="files per split; 0: one per 4,096 images",
  )
  add("--part", default="0/1", metavar="I/N", help="only the shards j with j %% N == I")
  add(
    "--max_bad_fraction",
    type=cli.number(float, 0.0, 1.0),
    default=0.01,
    metavar="SHARE",
    help="share of a split's images that may be unreadable; more end the command",
  )
  add(
    "--tile",
    type=cli.number(int, 0),
    default=0,
    metavar="N",
    help="pixels; rasters are cut into equal tiles of at least this size, less than twice it. 0: they stay"
    " whole",
  )
  add(
    "--nodata",
    type=float,
    metavar="VALUE",
    help="value of raster pixels without data, beside what the rasters themselves declare",
  )
  add(
    "--values_nodata",
    type=float,
    metavar="VALUE",
    help="value that marks unknown pixels in maps of numbers, in addition to the value that these declare",
  )
  add(
    "--array", default="", metavar="NAME", help="which array of .npz files; may be empty where each holds one"
  )
  add(
    "--num_threads",
    type=cli.number(int, 1),
    default=os.cpu_count() or 1,
    metavar="N",
    help="threads that read and shrink",
  )
  return parser


def main(argv: Sequence[str]) -> int:
  """Returns the exit code; see `cli.exit_code`."""

  def body():
    arguments = _parser().parse_args(argv[1:])
    cli.require(arguments, out="data/prepared")
    if not arguments.source and glob.glob(os.path.join(glob.escape(arguments.out), "*.array_record")):
      writing.describe(arguments.out, arguments.num_threads)
      return
    cli.require(arguments, source="data/photos")
    writing.prepare(
      arguments.source,
      arguments.out,
      split=arguments.split,
      hold_out=arguments.hold_out,
      short_side=arguments.short_side,
      quality=arguments.quality,
      num_shards=arguments.shards,
      part=parse_part(arguments.part),
      max_bad_fraction=arguments.max_bad_fraction,
      num_threads=arguments.num_threads,
      cut=tiles.Cut(arguments.tile, arguments.nodata, arguments.array, arguments.values_nodata),
    )

  return cli.exit_code(body)


def parse_part(text: str) -> tuple[int, int]:
  """ "i/n" → (i, n).

  Raises:
    BadInput: it is written otherwise, or i is not in 0 … n - 1.
  """
  i, _, n = text.partition("/")
  if not (i.isdecimal() and n.isdecimal() and int(i) < int(n)):
    raise BadInput(f"--part={text} is not i/n with i from 0 to n - 1, like 0/8")
  return int(i), int(n)


if __name__ == "__main__":
  cli.leave(main(sys.argv))
