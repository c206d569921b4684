r"""Reads the groups of files from a column of a table: a .csv or .tsv file with a row for each file.

One of the other columns names the files: by path, by the end of their path, or by name, with or without the
ending. It is the column that names most of them. If none does, the ends of the paths in it may, such as a.png
of C:\data\a.png.
"""

from collections.abc import Iterator, Sequence
import os
import re
from typing import NamedTuple

from swin_jax.data.read import plain_files, tables, trees
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import printable

_ENDINGS = (".csv", ".tsv")
_SAMPLE = 200  # files that decide which column names them


class Column(NamedTuple):
  """A column of a table.

  Attributes:
    values: of each file.
    table: path of the table in the tree of the files; "" if it lies elsewhere.
  """

  values: list[str]
  table: str


def read(tree: trees.Tree, paths: Sequence[str], by: str) -> Column:
  """Returns the values of a column in the row of each file.

  Args:
    tree: that holds the files.
    paths: of the files in the tree.
    by: csv:COLUMN or csv:FILE:COLUMN.

  Raises:
    BadInput: there is no such table or column, or a file has no row, no value or several values.
  """
  named = re.fullmatch(r"csv:(?:(.+\.(?:csv|tsv)):)?(.+)", by, re.IGNORECASE | re.DOTALL)
  if not named:
    raise BadInput(f"--by={by} is not csv:COLUMN or csv:FILE:COLUMN")
  where, content, table = _open(tree, paths, *named.groups())
  header, rows = _parse(content, where)
  if (count := header.count(named[2])) != 1:
    has = "has no column" if count == 0 else f"has {count} columns"
    mend = "" if count == 0 else ": give each its own name"
    raise BadInput(
      f"--by={by}: {where} {has} {printable(named[2])!r}{mend}; its columns are"
      f" {', '.join(map(printable, header))}"
    )
  column = header.index(named[2])
  group_of, forms = _rows_by_file(header, rows, column, paths, where)
  groups = [group_of.get(form) for form in forms]
  if without := [path for path, group in zip(paths, groups, strict=True) if not group]:
    raise BadInput(
      f"--by={by}: {len(without):,} of {len(paths):,} files have no row, or no value in their row, in {where}"
      f", such as {printable(without[0])}; complete the table, or move these files elsewhere"
    )
  return Column(groups, table)


def _open(tree: trees.Tree, paths: Sequence[str], file: str | None, column: str) -> tuple[str, str, str]:
  """Returns (path for messages, content, `Column.table`) of the table."""
  try:
    if file and os.path.lexists(file):
      return file, tables.text_of(plain_files.read(file)), trees.inside(tree, file)
    around = os.path.commonpath([os.path.dirname(path) for path in paths]) if paths else ""
    folders = [""] + [around[: match.end()] + "/" for match in re.finditer(r"[^/]+", around)]
    paths_of_tables = [
      folder + name
      for folder in folders
      for name, is_folder in tree.entries(folder)
      if not is_folder
      and (folder + name == file or not (file or trees.is_junk(name)) and name.lower().endswith(_ENDINGS))
    ]
    if len(paths_of_tables) != 1:
      shown = ", ".join(map(printable, paths_of_tables[:3]))
      listed = f"{len(paths_of_tables)} tables: {shown}" if shown else "no table"
      name = f"the table {file}" if file else "one .csv or .tsv file next to the images"
      raise BadInput(f"--by needs {name}, but {tree.name} holds {listed}; give --by=csv:FILE:{column}")
    content = tables.text_of(tree.read(paths_of_tables[0]))
    return os.path.join(tree.name, paths_of_tables[0]), content, paths_of_tables[0]
  except (OSError, ValueError) as error:
    raise BadInput(f"--by: the table {file or paths_of_tables[0]} cannot be read: {error}") from error


def _parse(content: str, where: str) -> tuple[list[str], list[list[str]]]:
  """Returns (names of the columns, rows) of a table.

  Raises:
    BadInput: it is empty or malformed.
  """
  try:
    rows = tables.rows(content)
  except ValueError as error:
    raise BadInput(f"--by: {where} {error}") from error
  if len(rows) < 2 or len(rows[0]) < 2:
    raise BadInput(
      f"--by: {where} needs a line with the names of two or more columns, and a row for each file"
    )
  return rows[0], rows[1:]


def _rows_by_file(
  header: Sequence[str], rows: Sequence[Sequence[str]], column: int, paths: Sequence[str], where: str
) -> tuple[dict[str, str], list[str]]:
  """Returns the value of `column` by the name that a row gives its file, and that name for each path.

  Raises:
    BadInput: no column names files, or two rows give one file different values.
  """
  chosen = _choose(header, rows, column, paths, tails=False) or _choose(
    header, rows, column, paths, tails=True
  )
  if not chosen:
    raise BadInput(
      f"--by: no column of {where} names the images, such as {printable(paths[0])}, by path or by a name that"
      " no other image has"
    )
  key, depth, forms = chosen
  group_of: dict[str, str] = {}
  for row in rows:
    if len(row) <= max(key, column):
      continue
    name, group = _named(row[key], depth), row[column]
    if (other := group_of.setdefault(name, group)) != group:
      raise BadInput(
        f"--by: {where} gives {printable(name)} both {printable(other)} and {printable(group)}; remove the"
        " wrong row"
      )
  return group_of, forms


def _choose(
  header: Sequence[str], rows: Sequence[Sequence[str]], column: int, paths: Sequence[str], *, tails: bool
) -> tuple[int, int | None, list[str]] | None:
  """Returns (number of the column that names most files, parts of its names that count or None for all, name
  of each file in it); None if no column names a file.

  Args:
    tails: whether the names in the table are paths from another place, of which only the end fits.
  """
  sample = paths[:: max(1, len(paths) // _SAMPLE)]
  best, chosen = 0, None
  for i in range(len(header)):
    if i == column:
      continue
    for depth, ending in _forms(paths):
      kept = depth if tails else None
      cells = {_named(row[i], kept) for row in rows if len(row) > i and row[i]}
      names = [_form(path, depth, ending) for path in sample]
      if (count := sum(name in cells for name in names)) > best:
        forms = [_form(path, depth, ending) for path in paths]
        if len(set(forms)) == len(forms):  # otherwise nobody knows which of two files a row is about
          best, chosen = count, (i, kept, forms)
  return chosen


def _named(cell: str, depth: int | None) -> str:
  """Returns the path in a cell, which Windows may have written, or its last `depth` parts."""
  path = cell.replace("\\", "/").removeprefix("./")
  return path if depth is None else "/".join(path.split("/")[-depth:])


def _forms(paths: Sequence[str]) -> Iterator[tuple[int, bool]]:
  """Yields (number of last parts, whether with the ending) of the names that a table may use."""
  deepest = max(path.count("/") for path in paths) + 1
  for depth in range(deepest, 0, -1):
    for ending in (True, False):
      yield depth, ending


def _form(path: str, depth: int, ending: bool) -> str:
  name = "/".join(path.split("/")[-depth:])
  return name if ending else os.path.splitext(name)[0]
