"""Text from strangers cannot act on a terminal."""

import shlex

import pytest

from swin_jax.terminal import cli, progress
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import clean, printable, quoted


@pytest.mark.parametrize(
  "text, escaped, cleaned",
  [
    ("plain Ä 文 × 2", "plain Ä 文 × 2", "plain Ä 文 × 2"),
    ("\x1b[31mred\x07", "\\x1b[31mred\\x07", "[31mred"),
    ("a\r\nb\t\0", "a\\r\\nb\\t\\x00", "ab"),
    ("\x9b31m", "\\x9b31m", "31m"),  # the escape sequence of one byte
    ("\u202egpj.exe", "\\u202egpj.exe", "gpj.exe"),  # reads as exe.jpg
    ("\u2028", "\\u2028", ""),
    ("\udc80", "\\udc80", ""),  # a byte of a file name
  ],
)
def test_unprintable_characters(text, escaped, cleaned):
  assert printable(text) == escaped and clean(text) == cleaned


@pytest.mark.parametrize("text", ["", "a b", "it's", "~/x", "$(rm)", "grün", "a/b:c,d=1.0", "x\x1by"])
def test_quoted_text_is_one_word_of_a_shell(text):
  assert shlex.split(quoted(text)) == [printable(text)]


def test_every_way_to_the_terminal_escapes(capfd):
  def refuse():
    raise BadInput("x\x1b[2J\ny\udc80")

  assert cli.exit_code(refuse) == 2
  progress.warn("w\x1b\n")
  progress.say("s\x1b\nforged", "second line")
  out, error = capfd.readouterr()
  assert error == "swin_jax: x\\x1b[2J\\ny\\udc80\nswin_jax: w\\x1b\\n\n"
  assert out == "s\\x1b\\nforged\nsecond line\n"
