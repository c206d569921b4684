"""Names in swin_jax say what a value is: the syntax trees hold none of a few words that fit any value."""

import ast

import pytest

from tests.support.paths import ROOT

PACKAGE = ROOT / "swin_jax"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))
FORBIDDEN = {"found", "there", "wanted", "made", "seen"}
# Of a variable; a parameter, passed or declared; an attribute; a function, class, caught error or captured
# pattern; an import; the rest of a matched mapping.
FIELDS = ("id", "arg", "attr", "name", "asname", "rest")


def forbidden(text):
  """Returns the forbidden names in the text of a module."""
  names = (getattr(node, field, None) for node in ast.walk(ast.parse(text)) for field in FIELDS)
  return [name for name in names if isinstance(name, str) and name.strip("_") in FORBIDDEN]


@pytest.mark.parametrize("file", FILES)
def test_no_name_fits_any_value(file):
  assert not forbidden((PACKAGE / file).read_text())


@pytest.mark.parametrize(
  "text",
  [
    "found = 1",
    "for i, seen in x: pass",
    "f(wanted=1)",
    "def f(*, there): pass",
    "def made(): pass",
    "self._seen = 1",
    "import x as found",
    "match x:\n  case {**found}: pass",
  ],
)
def test_each_kind_of_name_is_noticed(text):
  assert forbidden(text)


def test_words_in_texts_and_longer_names_are_allowed():
  assert not forbidden('"""What is found there."""\nfound_by_hand = "wanted"')
