"""Understands the maps of a set by looking at some of them.

One map alone cannot tell, for example, whether 255 marks pixels without class or the second of two classes.
What is understood is printed, with counts.
"""

from collections.abc import Iterator, Sequence
import dataclasses

import numpy as np

from swin_jax.data.read import class_files, labels, maps, rasters, samples, trees
from swin_jax.data.read.labels import NONE, Classes
from swin_jax.data.read.map_looks import Looks
from swin_jax.data.read.stored import Stored
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import say, warn

MOST = 64  # maps that are looked at, unless all of these leave open what 255 means
_PIXELS = 2**26  # in all of them


def understand(
  tree: trees.Tree,
  paths: Sequence[str],
  classes: Classes | None,
  meaning: maps.Meaning,
  where: str,
  void_by: str = "",
) -> maps.Reader:
  """Decides how the maps of a set are read, and prints it.

  Args:
    tree: folder or archive that holds the maps.
    paths: of all maps of the set, in all splits.
    classes: that the set states; None if its maps hold numbers.
    meaning: what flags say.
    where: the set, for messages.
    void_by: see `maps.Reader`.

  Raises:
    BadInput: a flag does not fit the set, or most maps cannot be read for a reason that a flag would mend.
  """
  if classes is None and meaning.of_classes:
    raise BadInput(f"{maps.OF_CLASSES}; {where} holds maps of numbers")
  classes = classes and _with_flags(classes, meaning, where)
  looks, is_open = Looks(), classes and classes.are_numbered and len(classes.names) == 2
  pixels = 0
  for stored in _look(tree, paths):
    looks.add(stored)
    pixels += stored.numbers.size
    if (looks.count >= MOST or pixels > _PIXELS) and not (is_open and looks.values <= {0}):
      break
  reader = maps.Reader(classes, nodata=meaning.nodata)
  if classes:
    reader = _with_classes(looks, classes, bool(meaning.colours), where)
    _check_void(reader, meaning, where)
  _report(looks, reader)
  warnings = tuple(_warnings(looks, reader, paths[0] if paths else ""))
  for line in warnings:
    warn(line)
  return dataclasses.replace(reader, void_by=void_by, warnings=warnings, as_stored=meaning.as_stored)


def _with_flags(classes: Classes, meaning: maps.Meaning, where: str) -> Classes:
  if meaning.names:
    classes = class_files.with_colours(classes, (meaning.names, meaning.colours), "--colours")
    meaning = dataclasses.replace(meaning, colours=classes.colours)
  for flag, given in (("colours", meaning.colours), ("label_values", meaning.label_values)):
    if given and len(given) != len(classes.names):
      raise BadInput(
        f"--{flag} gives {len(given)}, but {where} has {len(classes.names)} classes: give one for each of"
        f" {', '.join(classes.names[:20])}, in this order"
      )
  if meaning.colours:
    classes = classes._replace(colours=meaning.colours, colours_in="--colours")
  if meaning.label_values:
    of_value = {NONE: NONE} | {value: i for i, value in enumerate(meaning.label_values)}
    classes = classes._replace(of_value=of_value, are_numbered=False)
  return _with_void(classes, meaning)


def _with_void(classes: Classes, meaning: maps.Meaning) -> Classes:
  """Returns classes with the values and colours that a flag calls no class."""
  of_value = dict(classes.of_value)
  for value in meaning.void_values:
    if (label := of_value.get(value, NONE)) != NONE:
      raise BadInput(
        f"--no_class gives {value}, which is class {classes.names[label]}; if its value is another, give"
        f" --label_values too, one for each of {', '.join(classes.names[:20])}"
      )
    of_value[value] = NONE
  for colour in meaning.void_colours:
    if colour in classes.colours:
      name = classes.names[classes.colours.index(colour)]
      raise BadInput(f"--no_class gives {labels.shown(colour)}, which is the colour of class {name}")
  return classes._replace(
    of_value=of_value,
    void=(*classes.void, *meaning.void_colours),
    # so that 255 is no second class of black and white masks
    are_numbered=classes.are_numbered and NONE not in meaning.void_values,
  )


def _look(tree: trees.Tree, paths: Sequence[str]) -> Iterator[Stored]:
  """Yields readable maps of a set: first some from all over it, then the others."""
  first = np.linspace(0, len(paths) - 1, min(len(paths), MOST)).astype(int).tolist() if paths else []
  for i in [*first, *sorted(set(range(len(paths))) - set(first))]:
    if stored := samples.read(tree, paths[i]):  # others are named when they are read
      yield stored


def _with_classes(looks: Looks, classes: Classes, asked: bool, where: str) -> maps.Reader:
  """Decides between values and colours, and what 0 and 255 mean in a set of two classes."""
  coloured, of, count = looks.kinds["colours"], f"of {looks.count} maps looked at", len(classes.names)
  if 2 * coloured >= max(looks.count, 1) and not classes.colours:
    example = labels.shown(min(looks.colours))
    raise BadInput(
      f"{where}: {coloured} {of} are coloured, for example {example}, and nothing says which class a colour"
      " is: put a class_dict.csv with the columns name,r,g,b next to the maps, write the colours behind the"
      f" names in classes.txt, or give --colours='{example};...' in the order of the classes"
    )
  table, allowed = {*classes.colours, *classes.void} if classes.colours else set(), set(classes.of_value)
  greys = {(value, value, value) for value in looks.values}
  by_colour = bool(table) and bool(
    asked
    or coloured
    or looks.colours
    and looks.colours <= table
    or greys
    and greys <= table
    and not looks.values <= allowed
  )
  if by_colour:
    return maps.Reader(classes, by_colour=True)
  black_and_white = _black_and_white(looks)
  if classes.are_numbered and count == 1 and black_and_white:
    raise BadInput(
      f"{where}: the maps hold 0 and 255, but there is only the class {classes.names[0]}: name both values,"
      " the background first, one per line of classes.txt"
    )
  of_lossy = looks.kinds["lossy"] and not looks.between and not looks.values
  if classes.are_numbered and count == 2 and (black_and_white or of_lossy):
    return maps.Reader(classes._replace(of_value=maps.MASK))
  if 2 * looks.kinds["lossy"] >= max(looks.count, 1) and classes.of_value != maps.MASK:
    raise BadInput(
      f"{where}: {looks.kinds['lossy']} {of} are {_either(looks.lossy)}, which changes labels, so that"
      " classes cannot be told apart; convert the maps from their originals to PNG"
    )
  odd = sum(not held <= allowed for held in looks.of_maps)
  values = sorted(looks.values - {NONE})
  may_be_classes = (
    classes.are_numbered and len(values) == count and all(value == int(value) for value in values)
  )
  if may_be_classes and 2 * odd >= max(looks.count, 1):
    values = ",".join(str(int(value)) for value in values)
    raise BadInput(
      f"{where}: the maps hold the values {values}, but labels are numbers from 0 to {count - 1}; if these"
      f" values are the {count} classes in their order, give --label_values={values}"
    )
  return maps.Reader(classes)


def _black_and_white(looks: Looks) -> bool:
  return NONE in looks.values and looks.values <= set(maps.MASK)


def _check_void(reader: maps.Reader, meaning: maps.Meaning, where: str) -> None:
  """Checks that what a flag calls no class can occur in the maps.

  Raises:
    BadInput: it gives colours of maps that are read by value, or values of maps that are read by colour.
  """
  if meaning.void_colours and not reader.by_colour:
    raise BadInput(
      f"--no_class gives the colour {labels.shown(meaning.void_colours[0])}, but the maps of {where} are read"
      " by value; give the value"
    )
  if meaning.void_values and reader.by_colour:
    raise BadInput(
      f"--no_class gives the value {meaning.void_values[0]}, but the maps of {where} are read by colour; give"
      " the colour, like 224,224,192"
    )


def _report(looks: Looks, reader: maps.Reader) -> None:
  kinds, of, classes = looks.kinds, f"of {looks.count:,} looked at", reader.classes
  unknown = "no class" if classes else "unknown"
  if reader.by_colour:
    say(
      f"maps: classes are read from a table of {len(classes.colours)} colours; {kinds['colours']:,} {of} are"
      f" coloured, and {kinds['palette']:,} have a palette"
    )
  elif classes and classes.of_value == maps.MASK:
    say(
      f"maps: 0 is class {classes.names[0]} and 255 is class {classes.names[1]}, because the {looks.count:,}"
      " looked at hold no other value; --label_values=0,1 makes 255 'no class'"
    )
  elif classes and not classes.are_numbered:
    pairs = [(value, label) for value, label in sorted(classes.of_value.items()) if label != NONE]
    say("maps: " + ", ".join(f"{value} is {classes.names[label]}" for value, label in pairs[:20]))
  if kinds["three equal channels"] and not reader.by_colour:
    say(f"maps: {kinds['three equal channels']:,} {of} have three equal channels, which are read as one")
  if kinds["unknown"]:
    say(f"maps: {kinds['unknown']:,} {of} declare pixels as no data or transparent; these are {unknown}")
  if kinds["alpha ignored"]:
    say(
      f"maps: {kinds['alpha ignored']:,} {of} declare colours as transparent; their pixels keep the values or"
      " colours that the maps store"
    )


def _either(names: set[str]) -> str:
  return " or ".join(sorted(names))


def _warnings(looks: Looks, reader: maps.Reader, path: str) -> Iterator[str]:
  kinds, of, classes = looks.kinds, f"of {looks.count:,} looked at", reader.classes
  # where colours are classes, the value of a pixel without data says nothing
  by_value = classes and not reader.by_colour
  lost = {classes.of_value.get(value, NONE) for value in looks.unknown - looks.values} if by_value else set()
  if lost := sorted(lost - {NONE}):
    names = ", ".join(classes.names[label] for label in lost[:5])
    by_gdal = "remove the declaration: gdal_edit.py -unsetnodata FILE"
    mend = "save the maps without transparency" if rasters.is_image(path) else by_gdal
    yield (
      f"maps: all pixels of the value of class {names} are declared as no data, so the class does not occur;"
      f" if that is a mistake, {mend}"
    )
  is_by_number = classes and classes.are_numbered and not reader.by_colour
  if is_by_number and len(classes.names) > 2 and _black_and_white(looks):
    values = ",".join(map(str, (0, NONE, *range(2, len(classes.names)))))
    yield (
      f"maps: the {looks.count:,} looked at hold only 0, which is class {classes.names[0]}, and {NONE}, which"
      f" means no class; if {NONE} is class {classes.names[1]}, name only these two classes, or give"
      f" --label_values={values}"
    )
  if kinds["lossy"]:
    yield (f"maps: {kinds['lossy']:,} {of} are {_either(looks.lossy)}, which changes their values a little")
  if kinds["other palette"] and not reader.by_colour:
    yield (
      f"maps: {kinds['other palette']:,} {of} give a value another colour than the others do; values are"
      " read, not colours, so make sure that values mean the same in all maps"
    )
