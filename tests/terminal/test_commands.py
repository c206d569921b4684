"""`python -m swin_jax` lists every command there is."""

import subprocess
import sys

import pytest

from swin_jax import __main__ as commands
from tests.support.paths import ROOT

PACKAGE = ROOT / "swin_jax"


def test_it_lists_every_command_with_its_purpose(capsys):
  assert commands.main(["swin_jax"]) == 0
  listed = capsys.readouterr().out
  for path in PACKAGE.rglob("*.py"):
    if "\n  cli.leave(main(sys.argv))" in path.read_text() and path != PACKAGE / "__main__.py":
      name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
      (line,) = [line for line in listed.splitlines() if f"python -m {name} " in line]
      assert line.endswith(".") and len(line.split()) > 6


@pytest.mark.parametrize("word, near", [("prepar", "swin_jax.data.prepare"), ("train", "swin_jax lists all")])
def test_another_word_is_refused_with_the_command_that_is_near(word, near, capsys):
  assert commands.main(["swin_jax", word]) == 2
  line = capsys.readouterr().err
  assert near in line and line.count("\n") == 1


def test_it_needs_no_jax():
  code = "import sys, swin_jax.__main__ as c; c.main(['']); sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
