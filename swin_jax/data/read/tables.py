"""Reads tables and other text files of users: cells with commas, semicolons or tabs between them."""

import codecs
import csv
import io


def text_of(content: bytes, errors: str = "strict") -> str:
  """Returns the text of a file in UTF-8, or in UTF-16 with a byte order mark, as Excel writes it.

  Args:
    content: of the file.
    errors: "replace" to read what has another encoding as far as it goes.

  Raises:
    ValueError: it has another encoding.
  """
  is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
  try:
    return content.decode("utf-16" if is_utf16 else "utf-8-sig", errors)
  except UnicodeDecodeError:
    raise ValueError("it is not text in UTF-8; save it as UTF-8, in Excel as 'CSV UTF-8'") from None


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
