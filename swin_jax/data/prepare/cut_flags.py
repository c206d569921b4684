"""The flags of `prepare` that say how rasters and scans are cut, and what maps and alpha channels mean."""

import argparse
import math
import os

from swin_jax.data.prepare import tiles
from swin_jax.data.read import class_files, labels, maps, plain_files, tables
from swin_jax.terminal import cli, rules
from swin_jax.terminal.errors import BadInput


def add_to(parser: cli.Parser) -> None:
  """Adds the flags to the parser of the command."""
  add = parser.add_argument
  add(
    "--tile",
    type=cli.number(rules.Whole(8, 65_536, or_zero=True)),
    default=0,
    metavar="N",
    help="tile size in pixels: rasters are cut into equal tiles of at least this size and less than twice it;"
    " 0: rasters stay whole",
  )
  add(
    "--nodata",
    type=_finite,
    metavar="VALUE",
    help="value that marks raster pixels without data, in addition to the value the rasters declare",
  )
  add("--array", default="", metavar="NAME", help="array of .npz files to read; optional if each holds one")
  add(
    "--values_nodata",
    type=_finite,
    metavar="VALUE",
    help="value that marks unknown pixels in maps of numbers, in addition to the value the maps declare",
  )
  add(
    "--label_values",
    type=_label_values,
    default=(),
    metavar="V,V,...",
    help="value of each class in label maps, in the order of the classes, like 0,100,200; default: 0,1,2,...",
  )
  add(
    "--colours",
    default="",
    metavar="COLOURS",
    help="colour of each class in label maps: a file like class_dict.csv, also one in the source, or, in the"
    " order of the classes, '0,0,0;128,64,128;...'",
  )
  add(
    "--no_class",
    type=_void,
    default=((), ()),
    metavar="V;V;...",
    help="values, or colours, in label maps that mean no class, in addition to 255, like '9;10' or"
    " '255,255,255;224,224,192'",
  )
  add(
    "--maps_as_stored",
    action="store_true",
    help="turn maps by the EXIF orientation of their images also where their size does not prove that they"
    " lie like the stored pixels, as for square images; else these maps are taken as upright",
  )
  add(
    "--keep_alpha",
    action="store_true",
    help="treat an alpha channel as a band; else its transparent pixels hold no data",
  )


def cut(arguments: argparse.Namespace) -> tiles.Cut:
  """Returns what the flags say about rasters and maps.

  Raises:
    BadInput: --colours is neither a file of colours nor a list of them.
  """
  names, colours, file = _colours(arguments.colours, arguments.source) if arguments.colours else ((), (), "")
  nodata, void = arguments.values_nodata, arguments.no_class
  meaning = maps.Meaning(
    colours, arguments.label_values, nodata, names, *void, file, arguments.maps_as_stored
  )
  return tiles.Cut(arguments.tile, arguments.nodata, arguments.array, arguments.keep_alpha, meaning)


def _finite(text: str) -> float:
  """Parses the value of a flag: a number that pixels can be equal to."""
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  if not math.isfinite(value):
    raise argparse.ArgumentTypeError(
      f"'{text}' must be a finite number; NaN and infinities never count as data"
    )
  return value


def _label_values(text: str) -> tuple[int, ...]:
  """Parses a flag: different whole numbers."""
  try:
    values = tuple(map(int, text.split(",")))
  except ValueError:
    values = ()
  if not values or len(set(values)) < len(values) or max(map(abs, values)) > 2**31:
    raise argparse.ArgumentTypeError(
      f"'{text}' must be a different whole number for each class, like 0,100,200"
    )
  return values


def _void(text: str) -> tuple[tuple[int, ...], tuple[labels.Colour, ...]]:
  """Parses a flag: returns values and colours, each once."""
  parts = [part.strip() for part in text.split(";")]
  values = [part for part in parts if "," not in part and not part.startswith("#")]
  try:
    numbers = dict.fromkeys(number for part in values for number in _label_values(part))
    others = [part for part in parts if part not in values]
    colours = dict.fromkeys(colour for part in others for colour in class_files.parse_colours(part))
  except (ValueError, argparse.ArgumentTypeError) as error:
    raise argparse.ArgumentTypeError(
      f"'{text}' must be values, or colours like 255,255,255, with ';' between them"
    ) from error
  return tuple(numbers), tuple(colours)


def _colours(text: str, source: str) -> tuple[tuple[str, ...], tuple[labels.Colour, ...], str]:
  """Parses a flag: returns names, if a file gives them, colours, and the path of the file or "".

  Args:
    text: colours, or the path of a file from here or from the source.
    source: folder or archive.

  Raises:
    BadInput: it is neither, or the file is malformed.
  """
  places = (text, os.path.join(source if os.path.isdir(source) else os.path.dirname(source), text))
  path = next(filter(os.path.isfile, places), None)
  try:
    if path is None:
      return (), class_files.parse_colours(text), ""
    parsed = class_files.parse(os.path.basename(path), tables.text_of(plain_files.read(path)), path)
  except BadInput as error:
    raise BadInput(f"--colours={text}: {error}") from error
  except (OSError, ValueError) as error:
    absent = f"; there is no file {' or '.join(dict.fromkeys(places))}" if path is None else ""
    raise BadInput(
      f"--colours={text} must be a file like class_dict.csv, or colours like 0,0,0;128,64,128 ({error})"
      f"{absent}"
    ) from error
  if not parsed.colours:
    raise BadInput(f"--colours={text}: {path} gives no colours; it must be like class_dict.csv")
  return parsed.names, parsed.colours, path
