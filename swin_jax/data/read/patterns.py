"""Patterns of paths and folders of splits, as the user gives them; see `roles.Asked`."""

from collections.abc import Callable, Mapping, Sequence
import re
from typing import NamedTuple

from swin_jax.data.read import names


class Match(NamedTuple):
  """What a pattern says about a path that it matches.

  Attributes:
    split, key: see `roles.Picture`; of the path.
    folders: names of the folders that the pattern states.
    precision: (literal characters of the pattern in the name of the file, without the ending; where in the
      path its last folder with literal characters ends). Of two patterns, the more precise one decides.
  """

  split: str
  key: str | None
  folders: set[str]
  precision: tuple[int, int]


def matcher(pattern: str) -> Callable[[str], Match | None] | None:
  """Returns a function path → `Match`, or None if the path does not match; None if there is no pattern."""
  if not pattern:
    return None
  parts = [part for part in pattern.strip("/").split("/") if part not in ("", ".")]
  is_file = bool(parts) and "*" in parts[-1] and parts[-1] != "**"
  literal = [re.sub(r"\*+|\{split\}", "", part) for part in parts]
  last_folder = max((i for i in range(len(parts) - is_file) if literal[i]), default=None)
  expression, groups = "(?:.*/)?", 0
  for i, part in enumerate(parts):
    last = is_file and i == len(parts) - 1
    if part == "**":
      expression += "(?:.*/)?"
      continue
    for piece in re.split(r"(\*+|\{split\})", part):
      if piece == "{split}":
        expression += "(?P=split)" if "(?P<split>" in expression else "(?P<split>[^/]+?)"
      elif piece.startswith("*"):
        groups += last
        expression += f"(?P<key{groups}>[^/]*)" if last else "[^/]*"
      else:
        expression += re.escape(piece)
    expression += "" if last else "/"
    expression += "(?P<folder>)" if i == last_folder else ""
  expression += "" if is_file else ".*"
  compiled = re.compile(expression)
  stated = [part for part in parts if "*" not in part]
  keeps_ending = is_file and parts[-1].endswith("*")
  in_name = len(names.stem_of("*" + literal[-1])) - 1 if is_file else 0

  def match(path: str) -> Match | None:
    if not (matched := compiled.fullmatch(path)):
      return None
    caught = matched.groupdict()
    key = "\0".join(caught[f"key{i}"] for i in range(1, groups + 1)) if groups else None
    if key and keeps_ending:
      key = names.stem_of(key)
    split = caught.get("split") or ""
    depth = 0 if last_folder is None else matched.start("folder")
    return Match(split, key, {part.replace("{split}", split) for part in stated}, (in_name, depth))

  return match


def split_of(parts: Sequence[str], splits: Mapping[str, str]) -> tuple[str, set[int]]:
  """Returns (the split that the user gave a folder, numbers of the parts of its path that say it)."""
  for split, folder in splits.items():
    words = [name for name in folder.split("/") if name]
    for i in range(len(parts) - len(words) + 1):
      if list(parts[i : i + len(words)]) == words:
        return split, set(range(i, i + len(words)))
  return "", set()
