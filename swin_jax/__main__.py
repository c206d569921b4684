"""Runs a command of swin_jax by its short name, and lists all of them.

  swin_jax COMMAND [ARGUMENTS …]
  python -m swin_jax COMMAND [ARGUMENTS …]

Both are the same program, and the same as python -m MODULE [ARGUMENTS …] with the module of the command.
"""

import ast
from collections.abc import Sequence
import difflib
import pathlib
import runpy
import sys
from typing import NoReturn

from swin_jax.terminal import cli
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import say

# Command → its module, in the order in which a user meets them.
COMMANDS = {
  "prepare": "swin_jax.data.prepare",
  "train": "swin_jax.main",
  "probe": "swin_jax.probe",
  "show": "swin_jax.show",
  "weights": "swin_jax.weights",
  "export": "swin_jax.export",
  "plan": "swin_jax.plan",
  "bench": "swin_jax.run.bench",
}


def run() -> NoReturn:
  """Runs the command that the command line names, as `python -m` would run its module."""
  command = sys.argv[1] if len(sys.argv) > 1 else ""
  if command not in COMMANDS:
    cli.leave(main(sys.argv))
  sys.argv = [f"{sys.argv[0]} {command}", *sys.argv[2:]]
  runpy.run_module(COMMANDS[command], run_name="__main__")
  sys.exit(0)


def main(argv: Sequence[str]) -> int:
  """Lists the commands, or refuses one that does not exist; returns the exit code."""

  def body():
    words = [word for word in argv[1:] if word not in ("--help", "-h")]
    if words:
      near = difflib.get_close_matches(words[0], COMMANDS, 1)
      advice = f"did you mean {near[0]}?" if near else "swin_jax --help lists all commands"
      raise BadInput(f"'{words[0]}' is not a command of swin_jax; {advice}")
    width = max(map(len, COMMANDS))
    say("The commands; each explains itself with --help. python -m swin_jax is the same as swin_jax:")
    for command, module in COMMANDS.items():
      say(f"  swin_jax {command:<{width}}  {summary(module)}")

  return cli.exit_code(body)


def summary(module: str) -> str:
  """Returns the first sentence of a command's own help."""
  folder = pathlib.Path(__file__).parent.joinpath(*module.split(".")[1:])
  path = folder / "__main__.py" if folder.is_dir() else folder.with_suffix(".py")
  text = ast.get_docstring(ast.parse(path.read_text()))
  return " ".join(text.partition("\n\n")[0].split())


if __name__ == "__main__":
  run()
