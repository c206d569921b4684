"""The flags of `prepare` that say how a folder or an archive is laid out."""

import argparse

from swin_jax.data.read import roles
from swin_jax.terminal import cli
from swin_jax.terminal.errors import BadInput


def add_to(parser: cli.Parser) -> None:
  """Adds the flags to a parser."""
  add = parser.add_argument
  add("--images", default="", metavar="PATTERN", help="paths of the images, or the name of their folders")
  add("--labels", default="", metavar="PATTERN", help="paths of the label maps, or the name of their folders")
  add(
    "--label_suffix",
    default="",
    metavar="END",
    help="end of the names of label maps, after the names of their images; with --labels, of the maps there",
  )
  add("--splits", default="", metavar="NAME:FOLDER,…", help="names of the splits and their folders")
  add(
    "--classes",
    choices=("folders", "none"),
    help="folders: they are classes of images, also if they look like something else; none: they are not, and"
    " images have no class",
  )


def asked(arguments: argparse.Namespace) -> roles.Asked:
  """Returns what the flags say about the layout.

  Raises:
    BadInput: they contradict each other, or the value of --splits is malformed.
  """
  given = roles.Asked(
    arguments.images,
    arguments.labels,
    arguments.label_suffix,
    parse_splits(arguments.splits),
    {"folders": True, "none": False}.get(arguments.classes),
  )
  if given.folders_are_classes and given.names_maps:
    raise BadInput("--classes=folders is for images with one class each; leave it out, or leave out --labels")
  return given


def parse_splits(text: str) -> dict[str, str]:
  """Parses "train:training_set,val:test_set" into split → folder.

  Raises:
    BadInput: the text has another form, or a split or folder occurs twice.
  """
  if not text:
    return {}
  pairs = [part.split(":") for part in text.split(",")]
  if not all(len(pair) == 2 and all(map(str.strip, pair)) for pair in pairs):
    raise BadInput(f"--splits={text} is not like train:training_set,val:test_set")
  parsed = {split.strip(): folder.strip().strip("/") for split, folder in pairs}
  if not len(parsed) == len(set(parsed.values())) == len(pairs):
    raise BadInput(f"--splits={text} names a split or a folder twice")
  return parsed
