"""Every key of a config with its meaning, the comment at its definition in `configs/common.py`."""

import ast
from collections.abc import Iterator
import io
import textwrap
import tokenize
from typing import Any, NamedTuple

from swin_jax.terminal import config_keys, shipped

_WIDTH = 106


class _Meaning(NamedTuple):
  """A key, or a group of keys, as `base` defines it."""

  name: str  # "optim.lr"
  comment: str  # "" if it shares the comment of the key before it


def lines(config: Any) -> list[str]:
  """Returns the lines that describe every key: flags with their values, and below them what they mean."""
  values, defaults = (config_keys.values(c) for c in (config, shipped.module("common").base()))
  paragraphs: list[tuple[list[str], str]] = []
  for name, comment in _meanings():
    is_group = name not in values
    if is_group or comment:
      paragraphs.append(([], comment))
    if is_group:
      line = f"# {name}"
    else:
      line = f"--config.{name}={values[name]!r}"
      line += f"   (default: {defaults[name]!r})" * (values[name] != defaults[name])
    paragraphs[-1][0].append(line)
  return [line for flags, comment in paragraphs for line in (*flags, *_indented(comment), "")]


def _indented(comment: str) -> list[str]:
  indent = dict(initial_indent="    ", subsequent_indent="    ")
  return [line for part in comment.splitlines() for line in textwrap.wrap(part, _WIDTH, **indent)]


def _meanings() -> Iterator[_Meaning]:
  """Yields the keys and groups of `common.base` in the order of the file."""
  common = shipped.module("common")
  text = (shipped.folder() / "common.py").read_text()
  comments = _Comments(text)
  functions = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}
  for node in functions["base"].body:
    if not (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute)):
      continue
    name, of_node = node.targets[0].attr, comments.at(node)
    yield _Meaning(name, of_node)
    for key in _keywords(node.value):
      if key.arg:
        yield _Meaning(f"{name}.{key.arg}", comments.at(key) if key.lineno != node.lineno else "")
      else:  # **TABLE["row"]
        row = getattr(common, key.value.value.id)[key.value.slice.value]
        for i, each in enumerate(row):
          yield _Meaning(f"{name}.{each}", "" if i else comments.at(key))


def _keywords(value: ast.expr) -> list[ast.keyword]:
  """Returns the keywords of ConfigDict(dict(...)); none for a key outside of any group."""
  if isinstance(value, ast.Call) and isinstance(value.args[0], ast.Call):
    return value.args[0].keywords
  return []


class _Comments:
  """The comments of a text, by line."""

  def __init__(self, text: str):
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    self._texts = {
      token.start[0]: token.string.removeprefix("#").strip()
      for token in tokens
      if token.type == tokenize.COMMENT
    }
    self._alone = {number for number in self._texts if text.splitlines()[number - 1].lstrip()[0] == "#"}

  def at(self, node: ast.AST) -> str:
    """Returns the comment above a definition and, on another line, the one at the end of its first line."""
    first = node.lineno
    while first - 1 in self._alone:
      first -= 1
    above = " ".join(self._texts[number] for number in range(first, node.lineno))
    opening = [node.lineno]
    if isinstance(node, ast.Assign) and _keywords(node.value):
      opening = sorted({node.lineno, node.value.args[0].lineno})  # of ConfigDict( and dict(
    return "\n".join(filter(None, [above, *(self._texts.get(number) for number in opening)]))
