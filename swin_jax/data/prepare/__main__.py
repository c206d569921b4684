"""Converts an image set to ArrayRecord shards, once, before training.

  python -m swin_jax.data.prepare SOURCE FOLDER [--tile=192 --nodata=0 --array=NAME]
  python -m swin_jax.data.prepare --out=FOLDER
  python -m swin_jax.data.prepare --verify=FOLDER

SOURCE (or --source=) is a folder, zip or tar file of images, a pattern like data/cifar10_{split}.npz, one npz
file, or tfds:NAME; FOLDER (or --out=) is created.

Folders and archives hold SOURCE/train/CLASS/x.jpg. If each pixel has a class, they hold
SOURCE/train/images/x.jpg and SOURCE/train/labels/x.png, and a classes.txt with one class name per line. If
each pixel has a number, as a raster or grey image, the folder is called "values" instead of "labels";
--values_nodata=0 gives the number that marks unknown pixels.

A split without class folders next to one with them may hold a table instead, such as val_annotations.txt: a
row for each image, with its file name and then its class.

Without splits, SOURCE/CLASS/x.jpg or SOURCE/x.jpg is one split, and --hold_out=0.1 makes a tenth of it val: a
tenth of every class, and at least one image of each class that has two. With --by, no group is in both parts:

  --by=folder                                the folders below the class (SOURCE/CLASS/PATIENT/x.jpg)
  --by='(site[0-9]+)'                        what a pattern matches in the path
  --by=csv:COLUMN or --by=csv:FILE:COLUMN    a column of a table that lies next to the images, or elsewhere,
                                             and names them in another column

All tiles of a raster are in the group of its file; without --by they are divided singly, and --by='(.+)'
keeps those of each file together.

Other common names and layouts are understood and reported: training_set, dev, img_dir and ann_dir, image and
mask, x_mask.png next to x.jpg, train and train_labels, and those of mmsegmentation, Cityscapes, VOC (lists in
ImageSets) and ADE20K. For the rest, say where things are:

  --images='{split}/rgb/*.jpg' --labels='**/*_gt.png'  * is any part of a name, ** any folders
  --images=photos --labels=truth                       folders of these names, anywhere
  --label_suffix=_mask                                 x_mask.png is the map of x.jpg; with --labels=, only
                                                       those there are maps
  --splits=train:fold1,val:fold2                       names of splits and their folders
  --classes=folders                                    folders are classes, whatever they look like
  --classes=none                                       folders are not classes, and images have none

A file that matches both --images and --labels goes to the pattern that spells out more characters of its name
(without the ending), then to the one whose last folder lies deeper, then to --labels.

What looks like maps, splits, bands or resolutions is never taken for classes without that. Files that are not
used are counted by ending.

Label maps hold the numbers of classes from 0, and 255 for no class. In a set of two classes, maps of only 0
and 255 are masks. --label_values=0,100,200 gives other values, in the order of the classes. Maps of colours
need a class_dict.csv (name,r,g,b), colours behind the names in classes.txt, or --colours. Further values
that mean no class are given by --no_class='9;10', and colours by --no_class='255,255,255;224,224,192'. What
is understood is printed. Pixels that a map declares as no data, or as transparent, have no class or an
unknown number.

Images keep their bytes. With --short_side=N, images with a longer short side are shrunk to N pixels and
stored as JPEG. EXIF orientation is applied, here and in training, and to maps that have the size of the image
as it is stored. Where the size does not tell, as for square images, maps are taken as upright, like the image
on a screen; --maps_as_stored turns them like their images.

Files are read as if their authors meant harm, see SECURITY.md. An image or raster with more pixels than
--max_pixels is left out like an unreadable one.

Every image is decoded once. Unreadable images are named, left out and counted. If they exceed
--max_bad_fraction, the command ends with exit code 2 and removes the shards that they were left out of, so
that a rerun reads the repaired files.

Rasters with any number of bands and any type (GeoTIFF, JPEG 2000, .npy, .npz) keep their values and are cut
into equal tiles with sides of at least --tile pixels and less than twice that. Pixels that a raster, its
alpha channel or --nodata declares as no data become NaN; tiles without any data are left out. --keep_alpha
makes the alpha channel a band. In a source without rasters, --tile cuts images, such as scans in PNG or JPEG.
Then the mean, deviation and percentiles of each band, and of the numbers of pixels, are written to
FOLDER/statistics.json, from which a run normalises. Without --source, the statistics of an existing set are
written, also for images.

The order is a fixed permutation, so it does not depend on parts or threads. The same command resumes where it
was stopped, and --part=0/8 … --part=7/8 write disjoint shards, in parallel on any machines (each part once at
a time).

The command ends with a table of what the set holds, and below it what is strange: classes without examples,
the same images in two splits, a number that most likely marks pixels without data, files that were not read.
--strict turns these into an error. The counts are stored in FOLDER/facts.json, and a run shows them in short.

FOLDER/manifest.json holds the size and SHA-256 of every file of the set. --verify=FOLDER reads all files and
names each that is damaged, missing or unexpected; if any is damaged or missing, it ends with exit code 2.
"""

import argparse
from collections.abc import Sequence
import glob
import os
import re
import sys

from swin_jax.terminal import preemption, quiet

if __name__ == "__main__":
  preemption.listen()  # before the slow imports
  quiet.libraries()

from swin_jax.data.prepare import cut_flags, layout_flags, writing
from swin_jax.data.read import limits, manifest
from swin_jax.terminal import cli, digests, rules
from swin_jax.terminal.addresses import local_path
from swin_jax.terminal.errors import BadInput

_MOST_SHARDS = 99_999  # names of shards have five digits
_QUALITY = 90


def _parser() -> cli.Parser:
  parser = cli.Parser(prog="python -m swin_jax.data.prepare", description=__doc__)
  add = parser.add_argument
  add("paths", nargs="*", metavar="SOURCE FOLDER", help="the same as --source=SOURCE --out=FOLDER")
  add("--source", type=local_path, help="folder, zip, tar or npz file, pattern with {split}, or tfds:NAME")
  add("--out", type=local_path, metavar="FOLDER", help="folder for the shards; created")
  add(
    "--split",
    default="",
    metavar="NAME",
    help="the only split to prepare; for a source without splits, the name of its split (default: train)",
  )
  add(
    "--hold_out",
    type=cli.number(rules.Real(0.0, 0.9)),
    default=0.0,
    metavar="SHARE",
    help="share of a source's only split that becomes val; every class keeps its share",
  )
  add(
    "--by",
    default="",
    metavar="GROUP",
    help="with --hold_out: what must not be in both parts, such as a patient or a place: folder; a regular"
    " expression with one group, searched in the path of a file; or csv:COLUMN or csv:FILE:COLUMN",
  )
  add(
    "--short_side",
    type=cli.number(rules.Whole(8, 65_500, or_zero=True)),
    default=0,
    metavar="N",
    help="short side in pixels to which larger images are shrunk; 0: images keep their bytes",
  )
  add(
    "--quality",
    type=cli.number(rules.Whole(1, 95)),
    metavar="N",
    help=f"JPEG quality of images that --short_side shrinks; default {_QUALITY}",
  )
  add(
    "--shards",
    type=cli.number(rules.Whole(0, _MOST_SHARDS)),
    default=0,
    metavar="N",
    help="shards per split; 0: one per 4,096 images",
  )
  add("--part", default="0/1", metavar="I/N", help="write only the shards j with j %% N == I")
  add(
    "--max_bad_fraction",
    type=cli.number(rules.Real(0.0, 1.0)),
    default=0.01,
    metavar="SHARE",
    help="share of a split's images that may be unreadable; the command fails above it",
  )
  add(
    "--max_pixels",
    type=cli.number(rules.Whole(1, 10**11)),
    default=limits.MAX_PIXELS,
    metavar="N",
    help=f"largest number of pixels of an image or raster, so that no file takes more memory than the machine"
    f" has; default {limits.MAX_PIXELS:,}",
  )
  cut_flags.add_to(parser)
  layout_flags.add_to(parser)
  add(
    "--num_threads",
    type=cli.number(rules.Whole(1, 1024)),
    default=os.cpu_count() or 1,
    metavar="N",
    help="threads that read and shrink",
  )
  add(
    "--strict",
    action="store_true",
    help="end with exit code 2 if anything in the finished set looks strange; the set stays",
  )
  add(
    "--verify",
    type=local_path,
    metavar="FOLDER",
    help="compare every file of a prepared set with its SHA-256; no other flag",
  )
  return parser


def main(argv: Sequence[str]) -> int:
  """Runs the command and returns its exit code; see `cli.exit_code`."""

  def body():
    arguments = _parser().parse_args(argv[1:])
    _take_paths(arguments)
    if arguments.verify is not None:  # an empty value is a mistake, such as a shell variable without a value
      cli.require(arguments, verify="data/prepared")
      if others := [word for word in _flags(argv) if not word.startswith("--verify")]:
        raise BadInput(f"--verify changes nothing, so it stands alone; leave out {others[0]}")
      digests.verify(
        arguments.verify,
        manifest.NAME,
        "delete what is damaged and run the command that prepared the set again",
      )
      return
    cli.require(arguments, out="data/prepared")
    if arguments.source is None and glob.glob(os.path.join(glob.escape(arguments.out), "*.array_record")):
      of_a_source = [
        word for word in _flags(argv) if not word.startswith(("--out", "--num_threads", "--strict"))
      ]
      if of_a_source:
        raise BadInput(
          f"without --source, only {arguments.out} is described, and {of_a_source[0]} would"
          " be ignored; leave it out, or give --source"
        )
      writing.describe(arguments.out, arguments.num_threads, arguments.strict)
      return
    cli.require(arguments, source="data/photos")
    if arguments.quality and not arguments.short_side:
      raise BadInput("--quality applies to images that --short_side shrinks; give both, or leave it out")
    with limits.at_most(arguments.max_pixels):
      writing.prepare(
        arguments.source,
        arguments.out,
        split=arguments.split,
        hold_out=arguments.hold_out,
        by=arguments.by,
        short_side=arguments.short_side,
        quality=arguments.quality or _QUALITY,
        num_shards=arguments.shards,
        part=parse_part(arguments.part),
        max_bad_fraction=arguments.max_bad_fraction,
        num_threads=arguments.num_threads,
        strict=arguments.strict,
        cut=cut_flags.cut(arguments),
        asked=layout_flags.asked(arguments),
      )

  return cli.exit_code(body)


def _take_paths(arguments: argparse.Namespace) -> None:
  """Moves the words that are not flags to `source` and `out`.

  Raises:
    BadInput: there are too many, or flags give the same.
  """
  for word in arguments.paths:
    flag = next((name for name in ("source", "out") if getattr(arguments, name) is None), None)
    if flag is None or arguments.verify is not None:
      raise BadInput(f"unexpected '{word}': only SOURCE and FOLDER are words, and flags are --name=value")
    setattr(arguments, flag, local_path(word))


def _flags(argv: Sequence[str]) -> list[str]:
  return [word for word in argv[1:] if word.startswith("-")]


def parse_part(text: str) -> tuple[int, int]:
  """Parses "i/n" into (i, n).

  Raises:
    BadInput: the text has another form, i is not in 0 … n - 1, or n is larger than any number of shards.
  """
  if not (match := re.fullmatch(r"([0-9]{1,5})/([0-9]{1,5})", text)) or int(match[1]) >= int(match[2]):
    raise BadInput(
      f"--part={text} is not i/n with i from 0 to n - 1, like 0/8, and n of at most {_MOST_SHARDS:,}"
    )
  i, n = match.groups()
  return int(i), int(n)


if __name__ == "__main__":
  cli.leave(main(sys.argv))
