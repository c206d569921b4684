"""Lists the commands of swin_jax.

python -m swin_jax
"""

import ast
from collections.abc import Sequence
import difflib
import pathlib
import sys

from swin_jax.terminal import cli
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import say

# In the order in which a user meets them.
COMMANDS = ("data.prepare", "main", "predict", "show", "weights", "export", "plan", "run.bench")


def summary(command: str) -> str:
  """Returns the first sentence of a command's own help."""
  folder = pathlib.Path(__file__).parent.joinpath(*command.split("."))
  path = folder / "__main__.py" if folder.is_dir() else folder.with_suffix(".py")
  text = ast.get_docstring(ast.parse(path.read_text()))
  return " ".join(text.partition("\n\n")[0].split())


def main(argv: Sequence[str]) -> int:
  """Runs the command and returns its exit code."""

  def body():
    words = [word for word in argv[1:] if word not in ("--help", "-h")]
    if words:
      near = difflib.get_close_matches(words[0], [name.split(".")[-1] for name in COMMANDS], 1, 0.5)
      names = [name for name in COMMANDS if name.split(".")[-1] in near] or ["…"]
      raise BadInput(
        f"'{words[0]}' is not a command of this form: python -m swin_jax.{names[0]}; python -m swin_jax lists"
        " all commands"
      )
    width = max(map(len, COMMANDS))
    say("The commands of swin_jax; each explains itself with --help:")
    for name in COMMANDS:
      say(f"  python -m swin_jax.{name:<{width}}  {summary(name)}")

  return cli.exit_code(body)


if __name__ == "__main__":
  cli.leave(main(sys.argv))
