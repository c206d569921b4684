"""Reads tables from text: cells with commas, semicolons or tabs between them."""

import csv
import io


def rows(text: str) -> list[list[str]]:
  """Returns the cells of all lines that are not empty; the first line decides what divides them.

  Raises:
    ValueError: the text is not a table.
  """
  first = next(filter(str.strip, text.splitlines()), "")
  delimiter = max(",;\t", key=first.count)
  try:
    table = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text), delimiter=delimiter)]
  except csv.Error as error:
    raise ValueError(f"is not a table: {error}") from error
  return [row for row in table if any(row)]
