"""The command: `python -m swin_jax.main --config=FILE[:kind] --workdir=DIR [--config.group.key=value] [--mode=train|eval]`."""

import sys

from absl import flags
from absl import logging
from ml_collections import config_flags

from swin_jax.errors import BadInput

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file and, after a colon, the kind of run.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, pictures. The same command continues it.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, or evaluate the newest checkpoint and end.")


def main(argv: list[str]) -> int:
  """Parses flags, runs, and returns the exit code: 0, or 2 for bad input, said in one line."""
  try:
    _parse(argv)
    logging.set_verbosity(logging.WARNING)
    from swin_jax import train  # pylint: disable=g-import-not-at-top  (jax takes seconds; a typo should not)

    run = train.train if _MODE.value == "train" else train.evaluate_checkpoint
    run(_CONFIG.value, _WORKDIR.value)
  except BadInput as error:
    print(f"swin_jax: {error}", file=sys.stderr)
    return 2
  return 0


def _parse(argv: list[str]) -> None:
  """Parses the flags; every mistake is a BadInput with the nearest name."""
  try:
    rest = flags.FLAGS(argv)
    if len(rest) > 1:
      raise BadInput(f"'{rest[1]}' is no flag; flags are written --name=value")
    for flag, example in ((_CONFIG, "configs/quickstart.py"), (_WORKDIR, "runs/my_run")):
      if flag.value is None:
        raise BadInput(f"--{flag.name} is missing; for example --{flag.name}={example}")
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError, SyntaxError, ImportError) as error:
    raise BadInput(_explain(argv, error)) from error


def _explain(argv: list[str], error: Exception) -> str:
  message = " ".join(str(error).split())
  return message


if __name__ == "__main__":
  sys.exit(main(sys.argv))
