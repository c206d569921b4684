"""Patterns of paths and folders of splits, as the user gives them; see `roles.Asked`."""

from collections.abc import Callable, Mapping, Sequence
import re

from swin_jax.data.read import names


def matcher(pattern: str) -> Callable[[str], tuple[str, str | None, set[str]] | None] | None:
  """Returns a function path → (split, key, names of the folders that the pattern states), or None if the path
  does not match; None if there is no pattern.
  """
  if not pattern:
    return None
  parts = [part for part in pattern.strip("/").split("/") if part not in ("", ".")]
  is_file = bool(parts) and "*" in parts[-1] and parts[-1] != "**"
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
  expression += "" if is_file else ".*"
  compiled = re.compile(expression)
  stated = [part for part in parts if "*" not in part]
  keeps_ending = is_file and parts[-1].endswith("*")

  def match(path: str) -> tuple[str, str | None, set[str]] | None:
    if not (matched := compiled.fullmatch(path)):
      return None
    caught = matched.groupdict()
    key = "\0".join(caught[f"key{i}"] for i in range(1, groups + 1)) if groups else None
    if key and keeps_ending:
      key = names.stem_of(key)
    split = caught.get("split") or ""
    return split, key, {part.replace("{split}", split) for part in stated}

  return match


def split_of(parts: Sequence[str], splits: Mapping[str, str]) -> tuple[str, set[int]]:
  """Returns (the split that the user gave a folder, numbers of the parts of its path that say it)."""
  for split, folder in splits.items():
    words = [name for name in folder.split("/") if name]
    for i in range(len(parts) - len(words) + 1):
      if list(parts[i : i + len(words)]) == words:
        return split, set(range(i, i + len(words)))
  return "", set()
