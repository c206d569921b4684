"""Text from strangers, such as names of files and classes, in a form that cannot act on a terminal or log."""

import re
import shlex

# Control characters, marks that change the direction of text, line separators, and bytes of file names that
# are not UTF-8, which Python holds as surrogates and cannot print.
_UNPRINTABLE = re.compile(
  "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: object) -> str:
  """Returns a text as one line in which unprintable characters are escaped, like \\x1b."""
  return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), str(text))


def quoted(text: object) -> str:
  """Returns a text as one word of a shell, printable; in quotes where it needs them."""
  return shlex.quote(printable(text))


def clean(text: str) -> str:
  """Returns a text without its unprintable characters."""
  return _UNPRINTABLE.sub("", text)
