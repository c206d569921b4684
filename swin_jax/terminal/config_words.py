"""The words of a command line that set config keys."""

from collections.abc import Sequence
import itertools
import re

from swin_jax.terminal.errors import BadInput

KEY = re.compile(r"--?(?:no)?config\.([^=]*)")  # --noconfig.group.key sets a key to False


def given(words: Sequence[str]) -> list[tuple[str, str, str | None]]:
  """Returns the flags that set keys, each as it is written, its key, and what it gives; None for nothing.

  Raises:
    BadInput: two flags set the same key: absl would take the last, or join tuples.
  """
  flags: dict[str, tuple[str, str, str | None]] = {}
  for word, after in itertools.pairwise([*words, "--"]):
    if match := KEY.match(word):
      _, equals, text = word.partition("=")
      if not equals and not after.startswith("--"):
        word, equals, text = f"{word}={after}", "=", after
      if match[1] in flags:
        raise BadInput(f"{flags[match[1]][0]} and {word} set the same key; give it once")
      flags[match[1]] = (word, match[1], text if equals else None)
  return list(flags.values())
