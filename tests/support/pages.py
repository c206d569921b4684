"""The README and the pages of docs/: their sections, and the commands, lines of Python and output in them."""

import dataclasses
import functools
import importlib
import re
import shlex

from swin_jax.__main__ import COMMANDS
from tests.support.paths import ROOT

PAGES = ("README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")))
# What a test cannot have; <!-- needs: WORD --> before a block says that its commands are only parsed.
NEEDS = ("hub", "TPU compiler")
_BLOCK = re.compile(r"^(?:<!-- needs: ([^>]*) -->\n)?```(\w*)\n(.*?)^```$", re.M | re.S)


@dataclasses.dataclass(frozen=True)
class Block:
  """A fenced block: of commands (language "" or "sh"), of Python, or of output (text)."""

  page: str
  heading: str
  language: str
  lines: tuple[str, ...]
  needs: str | None

  @property
  def commands(self) -> list[list[str]]:
    """The words of each command; a line may join several by &&."""
    words = [shlex.split(part) for line in self.lines for part in line.split(" && ")]
    return words if self.language in ("", "sh") else []


@functools.cache
def text(page: str) -> str:
  return (ROOT / page).read_text()


@functools.cache
def blocks() -> tuple[Block, ...]:
  """Returns the blocks of all pages, in order."""
  result = []
  for page in PAGES:
    for heading, body in re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", text(page), re.M | re.S):
      for needs, language, lines in _BLOCK.findall(body):
        result.append(Block(page, heading, language, tuple(lines.strip("\n").splitlines()), needs or None))
  return tuple(result)


def block(page: str, heading: str, language: str = "") -> Block:
  """Returns the only block of a section in this language that needs nothing special."""
  (only,) = (
    block
    for block in blocks()
    if (block.page, block.heading, block.language, block.needs) == (page, heading, language, None)
  )
  return only


def module_of(command: str):
  """Returns the module that runs a command, which has `main` and `_parser`."""
  module = importlib.import_module(COMMANDS[command])
  return module if hasattr(module, "main") else importlib.import_module(f"{module.__name__}.__main__")
