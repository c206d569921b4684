"""The files that define the classes of a set, in the folder of the set:

  classes.txt        one name per line; a label is the number of its line, from 0. Each line may end with a
                     colour: "sky 128,128,128" or "sky #808080". If each begins with a different number, as
                     in "2 road" or "2: road", these are the values in maps, and no part of the names
  classes.json       {"classes": [names by label]} and, optional, "ignore_index": a label that is not a class,
                     "label_values": [value of each class], "colours": [[red, green, blue] of each class]
  class_dict.csv     a row for each class, with the columns name, r, g, b; divided by , or ; or tabs
  labelmap.txt       as CVAT writes it: "sky:128,128,128::"
  label_colors.txt   as in CamVid: "128 128 128 Sky"
  objectInfo150.txt  of ADE20K: 0 means no class, 1 the first class of the table

In all of them, 255 means no class unless it is the value of a class. If there are several files, the first
gives the names, and the first with colours gives the colours, by name.
"""

from collections.abc import Iterable, Sequence
import os
import re

from swin_jax.data.read import tables, trees
from swin_jax.data.read.labels import LARGEST, NONE, Classes, Colour, shown
from swin_jax.terminal import json_files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import clean

FILES = (
  "classes.txt",
  "classes.json",
  "class_dict.csv",
  "labelmap.txt",
  "label_colors.txt",
  "objectInfo150.txt",
)


def names_in(tree: trees.Tree, folder: str) -> list[str]:
  """Returns the names of the class files in a folder, in the order of `FILES`."""
  present = {name for name, is_folder in tree.entries(folder) if not is_folder}
  return [name for name in FILES if name in present]


def read(tree: trees.Tree, folder: str) -> Classes | None:
  """Reads the classes from the class files of a folder; None if there is no class file.

  Raises:
    BadInput: a file is unusable, or two files contradict each other.
  """
  classes = None
  for name in names_in(tree, folder):
    path = os.path.join(tree.name, folder, name)
    try:
      text = tables.text_of(tree.read(folder + name))
    except (OSError, ValueError) as error:
      raise BadInput(f"{path} cannot be read: {error}") from error
    parsed = parse(name, text, path)
    if classes is None:
      classes = parsed
    elif parsed.colours and not classes.colours:
      classes = with_colours(classes, (parsed.names, parsed.colours), path)
    elif parsed.colours and _by_name(parsed) != _by_name(classes):
      note = f"colours of the classes: those in {classes.colours_in}; those in {name} differ and are not used"
      classes = classes._replace(notes=(*classes.notes, note))
  return classes


def parse(name: str, text: str, where: str) -> Classes:
  """Parses the text of one of `FILES`.

  Args:
    name: name of the file.
    text: content of the file.
    where: path of the file, for messages.

  Raises:
    BadInput: the file is malformed or unusable.
  """
  first, ignored, values, colours, notes = 0, None, None, (), ()
  if name == "classes.json":
    names, ignored, values, colours = _parse_json(text, where)
  elif name == "objectInfo150.txt":
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    names, first = [row[-1].split(",")[0].strip() for row in rows[1:]], 1
  elif name.lower().endswith((".csv", ".tsv")):
    names, colours = _parse_csv(text, where)
  else:
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
      lines.pop()
    names, colours = _parse_lines([line for line in lines if not line.startswith("# label:")], where)
    if name == "classes.txt" and (numbers := _numbers_of(names)):
      values, names = numbers
      values = None if values == list(range(len(names))) else values
      notes = (_OF_NUMBERS,)
  names = [clean(" ".join(str(name).split())) for name in names]
  if "" in names:
    raise BadInput(f"{where} lacks a name for label {names.index('') + first}")
  if twice := [name for i, name in enumerate(names) if name in names[:i]]:
    raise BadInput(f"{where} calls two classes '{twice[0]}'; give each its own name")
  if colours and (twice := [colour for i, colour in enumerate(colours) if colour in colours[:i]]):
    raise BadInput(f"{where} gives two classes the colour {shown(twice[0])}; give each its own colour")
  kept = [label for label in range(len(names)) if values or label != ignored]
  if not kept or first + len(names) > NONE:
    raise BadInput(f"{where} names {len(kept)} classes; there must be 1 to {NONE - first}")
  of_value = {NONE: NONE} | dict.fromkeys(range(first), NONE)
  of_value |= {(values[label] if values else label + first): i for i, label in enumerate(kept)}
  of_value |= {} if ignored is None else {ignored: NONE}
  return Classes(
    tuple(names[label] for label in kept),
    of_value,
    tuple(colours[label] for label in kept) if colours else (),
    ignored is None and values is None and not first,
    tuple(colours[label] for label in range(len(names)) if label not in kept) if colours else (),
    name,
    name if colours else "",
    notes,
  )


_NUMBERED = re.compile(r"(\d{1,9})(?:\s*[:,]\s*|\s+)(\S.*)")
_OF_NUMBERS = (
  "classes.txt: the number that begins each line is the value of the class in maps, and no part of its name;"
  " --label_values= gives other values"
)


def _numbers_of(names: Sequence[str]) -> tuple[list[int], list[str]] | None:
  """Returns the numbers that begin the names and the rest of the names; None if some name has none, or if
  two names have the same.
  """
  matches = list(map(_NUMBERED.fullmatch, names))
  if not matches or None in matches:
    return None
  numbers = [int(match[1]) for match in matches]
  return (numbers, [match[2] for match in matches]) if len(set(numbers)) == len(numbers) else None


def text_of(names: Sequence[str]) -> str:
  """Returns the text of a classes.txt that gives these names; with numbers if the names begin with some."""
  lines = [f"{label} {name}" for label, name in enumerate(names)] if _numbers_of(names) else names
  return "".join(f"{line}\n" for line in lines)


def _parse_json(text: str, where: str) -> tuple[list[str], int | None, list[int] | None, list[Colour]]:
  example = 'it must be like {"classes": ["sky", "road"], "ignore_index": 255}'
  content = json_files.parse(
    text, {"classes": list, "label_values?": [int], "colours?": [[int]]}, where, example
  )
  names, ignored, values = content["classes"], content.get("ignore_index"), content.get("label_values")
  if not (ignored is None or (type(ignored) is int and abs(ignored) < LARGEST)):
    raise BadInput(f"{where}: ignore_index must be a number that maps hold, not {ignored!r}")
  if values is not None and (len(values) != len(names) or len(set(values)) != len(names)):
    raise BadInput(f"{where}: label_values must hold a different number for each of the {len(names)} classes")
  colours = [tuple(colour) for colour in content.get("colours", ())]
  if colours and (len(colours) != len(names) or any(map(_is_no_colour, colours))):
    raise BadInput(f"{where}: colours must hold [red, green, blue] for each of the {len(names)} classes")
  return names, ignored, values, colours


def _parse_csv(text: str, where: str) -> tuple[list[str], list[Colour]]:
  try:
    rows = tables.rows(text)
  except ValueError as error:
    raise BadInput(f"{where} {error}") from error
  head = [cell.lower() for cell in rows[0]] if rows else []
  columns = [
    next((i for i, cell in enumerate(head) if re.fullmatch(form, cell)), None)
    for form in (r"names?|class(_name)?|label", "r|red", "g|green", "b|blue")
  ]
  if columns[0] is None and columns[1:] == [1, 2, 3]:
    columns[0] = 0  # whatever the names of classes are called, as in other languages
  if None in columns:
    raise BadInput(f"{where} must begin with the line name,r,g,b; it has {','.join(head) or 'no line'}")
  try:
    names = [row[columns[0]] for row in rows[1:]]
    colours = [tuple(int(row[column]) for column in columns[1:]) for row in rows[1:]]
  except (IndexError, ValueError) as error:
    raise BadInput(f"{where} needs a name and three numbers from 0 to 255 in each row") from error
  if any(map(_is_no_colour, colours)):
    raise BadInput(f"{where} needs a name and three numbers from 0 to 255 in each row")
  return names, colours


_NUMBERS = r"(\d{1,3})[\s,;]+(\d{1,3})[\s,;]+(\d{1,3})"
_LINES = (  # name and colour, as three numbers or in hexadecimal; the colour may come first
  re.compile(rf"(?P<name>.*?\S)(?:\s*[:,;]\s*|\s+)[(\[]?{_NUMBERS}[)\]]?(?::.*)?"),
  re.compile(rf"[(\[]?{_NUMBERS}[)\]]?(?:\s*[:,;]\s*|\s+)(?P<name>\S.*)"),
  re.compile(r"(?P<name>.*?\S)(?:\s*[:,;]\s*|\s+)#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})"),
)


def _parse_lines(lines: list[str], where: str) -> tuple[list[str], list[Colour]]:
  """Returns names and colours; the lines themselves and no colours if no line has a colour."""
  matches = [next(filter(None, (form.fullmatch(line) for form in _LINES)), None) for line in lines]
  if not any(matches):
    return lines, []
  if None in matches:
    line = matches.index(None)
    raise BadInput(f"{where}: line {line + 1} has no colour, but others have; give each class one, or none")
  colours = [_colour_of(match) for match in matches]
  if wrong := [i for i, colour in enumerate(colours) if _is_no_colour(colour)]:
    raise BadInput(f"{where}: line {wrong[0] + 1} has no colour; its numbers must be from 0 to 255")
  return [match["name"] for match in matches], colours


def _colour_of(match: re.Match) -> Colour:
  parts = [match[i] for i in range(1, match.re.groups + 1) if i != match.re.groupindex.get("name")]
  return tuple(int(part, 16 if match.re is _LINES[2] else 10) for part in parts)


def name_folders(classes: Classes, images: Iterable[str]) -> bool:
  """Returns whether classes are those of folders of images, such as 001.Albatross of "1 001.Albatross"; then
  they most likely say nothing about maps of pixels.
  """
  known = {form for name in classes.names for form in (name, name.partition(" ")[2]) if form}
  used = [known.intersection(folder.split("/")) for folder in {path.rpartition("/")[0] for path in images}]
  return all(used) and len(set().union(*used)) > 1 and not classes.colours


def parse_colours(text: str) -> tuple[Colour, ...]:
  """Parses colours in the order of the classes: "128,128,128;64,0,128" or "#808080;#400080".

  Raises:
    ValueError: the text has another form.
  """
  colours = []
  for part in filter(None, re.split(r"[;\s]+", text.strip())):
    if match := re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", part):
      colours.append(tuple(int(digits, 16) for digits in match.groups()))
    elif match := re.fullmatch(r"(\d{1,3}),(\d{1,3}),(\d{1,3})", part):
      colours.append(tuple(map(int, match.groups())))
    if not match or _is_no_colour(colours[-1]):
      raise ValueError(f"'{part}' is not a colour")
  if len(set(colours)) < max(len(colours), 1):
    raise ValueError("each class needs its own colour")
  return tuple(colours)


def _is_no_colour(colour: tuple[int, ...]) -> bool:
  return len(colour) != 3 or not all(0 <= part <= 255 for part in colour)


def with_colours(classes: Classes, table: tuple[Sequence[str], Sequence[Colour]], where: str) -> Classes:
  """Returns classes with the colours that another file gives to their names.

  Args:
    classes: with names.
    table: names and their colours.
    where: the other file, for messages.

  Raises:
    BadInput: the other file lacks one of the names.
  """
  of_name = {_plain(name): colour for name, colour in zip(*table, strict=True)}
  if missing := [name for name in classes.names if _plain(name) not in of_name]:
    raise BadInput(f"{where} has no colour for the class {missing[0]}; use the same names in both files")
  colours = tuple(of_name[_plain(name)] for name in classes.names)
  return classes._replace(colours=colours, colours_in=os.path.basename(where))


def _by_name(classes: Classes) -> dict[str, Colour]:
  return {_plain(name): colour for name, colour in zip(classes.names, classes.colours, strict=True)}


def _plain(name: str) -> str:
  return re.sub(r"[\s_-]+", " ", name).strip().lower()
