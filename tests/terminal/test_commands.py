"""`swin_jax` and `python -m swin_jax` list every command there is, and run each by its short name."""

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
      (command,) = [command for command, module in commands.COMMANDS.items() if module == name]
      (line,) = [line for line in listed.splitlines() if line.startswith(f"  swin_jax {command} ")]
      assert line.endswith(".") and len(line.split()) > 6


@pytest.mark.parametrize(
  "word, advice", [("prepar", "did you mean prepare?"), ("xyz", "swin_jax --help lists all commands")]
)
def test_another_word_is_refused_with_the_command_that_is_near(word, advice, capsys):
  assert commands.main(["swin_jax", word, "--config=x"]) == 2
  line = capsys.readouterr().err
  assert f"'{word}' is not a command of swin_jax; {advice}" in line and line.count("\n") == 1


def test_a_short_name_runs_the_command():
  """With the same arguments and exit code as its module, and without a second line of its own."""
  words = ["--config=quickstart:pretrain"]
  runs = [
    subprocess.run([sys.executable, "-m", *start, *words], cwd=ROOT, capture_output=True, text=True)
    for start in (["swin_jax", "train"], ["swin_jax.main"])
  ]
  assert [run.returncode for run in runs] == [2, 2] and len({(run.stdout, run.stderr) for run in runs}) == 1
  assert "--workdir is missing" in runs[0].stderr


def test_it_needs_no_jax():
  code = "import sys, swin_jax.__main__ as c; c.main(['']); sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.DEVNULL).returncode == 0
