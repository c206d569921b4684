"""How lines for the terminal are laid out."""

from collections.abc import Sequence
import textwrap

WIDTH = 109  # of a line in characters


def listed(items: Sequence[str], most: int = 5) -> str:
  """Returns the first items of a list, and the number of the others: "a, b and 3 more"."""
  more = f" and {len(items) - most:,} more" if len(items) > most else ""
  return ", ".join(items[:most]) + more


def wrapped(line: str) -> list[str]:
  """Returns a text in lines, those after the first indented."""
  return textwrap.wrap(line, WIDTH, subsequent_indent="  ")
