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
  if "--help" in argv:
    print(f"{__doc__}\n\nEvery key is in configs/common.py, with its meaning and default.")
    return 0
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
  """Parses the flags; every mistake is a BadInput."""
  try:
    rest = flags.FLAGS(argv)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
    raise BadInput(_one_line(error, argv)) from error
  if len(rest) > 1:
    raise BadInput(f"'{rest[1]}' is no flag; flags are written --name=value")
  for flag, example in ((_CONFIG, "configs/quickstart.py"), (_WORKDIR, "runs/my_run")):
    if flag.value is None:
      raise BadInput(f"--{flag.name} is missing; for example --{flag.name}={example}")
  try:
    _CONFIG.value.task  # a file that cannot be read fails only when its config is used
  except OSError as error:
    path = next(arg.partition("=")[2] for arg in argv if arg.startswith("--config="))
    raise BadInput(f"--config={path}: no config file {path.partition(':')[0]}") from error


def _one_line(error: Exception, argv: list[str]) -> str:
  """What absl and ml_collections say, without tracebacks and newlines."""
  message = str(error).replace("\\n", "\n").replace("\\'", "'")  # a KeyError's text is a quoted repr, also inside another error
  lines = [line.strip() for line in message.strip().splitlines() if line.strip()]
  if "Traceback (most recent call last):" in message:
    return lines[-1].partition(": ")[2]
  if len(lines) == 2 and lines[1].startswith("Did you mean"):
    key = lines[0].strip("'\"")
    names = (arg.partition("=")[0].lstrip("-") for arg in argv[1:])
    name = next((name for name in names if name.startswith("config.") and key in name.split(".")), key)
    return f"there is no config key {name}. " + lines[1].strip("'")
  return " ".join(lines)


if __name__ == "__main__":
  sys.exit(main(sys.argv))
