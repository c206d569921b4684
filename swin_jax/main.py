"""Trains, or evaluates, what a config describes.

  python -m swin_jax.main --config=FILE[:kind] --workdir=DIR [--config.group.key=value] [--mode=train|eval]

The same command again continues the run in its workdir. Every config key is in configs/common.py, with its meaning and default.

Several processes: give each the same command. TPU pods, Slurm and Open MPI say by themselves who the others are; elsewhere add
--coordinator=HOST:PORT (of process 0) --num_processes=N --process_id=I. The workdir must be one that all of them see.

Exit codes: 0 done; 2 bad input; 75 stopped by SIGTERM, saved, run me again; 130 stopped by Ctrl-C, saved.
"""

from collections.abc import Sequence
import os
import re
import sys

from absl import flags
from absl import logging
from ml_collections import config_flags

from swin_jax import cli
from swin_jax import preemption
from swin_jax.errors import BadInput

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file and, after a colon, the kind of run.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, pictures.")
_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where nothing else tells it.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes run this command together.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, or evaluate the newest checkpoint and end.")


def main(argv: Sequence[str]) -> int:
  """Runs the command and returns its exit code."""
  preemption.watch()

  def body():
    _parse(argv)
    logging.set_verbosity(logging.WARNING)
    # What was compiled once is not compiled again, by this run when it goes on or by another.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/swin_jax/compiled"))
    from swin_jax import distributed  # pylint: disable=g-import-not-at-top  (jax takes seconds; a typo should not)
    from swin_jax import train  # pylint: disable=g-import-not-at-top

    run = train.train if _MODE.value == "train" else train.evaluate_checkpoint
    with distributed.processes(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value):
      run(_CONFIG.value, _WORKDIR.value)

  return cli.exit_code(body)


def _parse(argv: Sequence[str]) -> None:
  try:
    cli.parse_flags(argv, __doc__, [(_CONFIG, "configs/quickstart.py"), (_WORKDIR, "runs/my_run")])
    _CONFIG.value.task  # a file that cannot be read fails only when its config is used
  except BadInput as error:
    raise BadInput(_clear(str(error), argv)) from error
  except (AttributeError, KeyError, TypeError, ValueError) as error:  # a key or value that the config refuses
    raise BadInput(_clear(str(error), argv)) from error
  except OSError as error:
    path = re.search(r"--?config[= ]([^: ]+)", " ".join(argv))[1]
    raise BadInput(f"--config={path}: there is no such file") from error


def _clear(message: str, argv: Sequence[str]) -> str:
  """What ml_collections says of a key or of an error inside a config, without tracebacks and in one line."""
  message = message.replace("\\n", "\n").replace("\\'", "'")  # a KeyError's text is a quoted repr, also inside another error
  if "Traceback (most recent call last):" in message:
    return message.rpartition("Error: ")[2].strip()
  names = [arg.partition("=")[0].lstrip("-") for arg in argv[1:]]
  key, found, near = message.partition("Did you mean")
  if found:
    name = next((name for name in names if name.startswith("config.") and key.strip("'\" \n") in name.split(".")), None)
    if name:
      return f"there is no config key {name}. Did you mean" + near.rstrip("'")
  name = next((name for name in names if name.startswith("config.") and message.strip("'\" ") in name.split(".")), None)
  return f"there is no config key {name}; configs/common.py lists them all" if name else " ".join(message.split())


if __name__ == "__main__":
  cli.leave(main(sys.argv))
