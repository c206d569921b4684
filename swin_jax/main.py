"""Trains, or evaluates, what a config describes.

  python -m swin_jax.main --config=FILE[:kind] --workdir=DIR [--config.group.key=value] [--mode=train|eval]

The same command again continues the run in its workdir. Every config key is in configs/common.py, with its meaning and default.
"""

from collections.abc import Sequence
import sys

from absl import flags
from absl import logging
from ml_collections import config_flags

from swin_jax import cli

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file and, after a colon, the kind of run.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, pictures.")
_MODE = flags.DEFINE_enum("mode", "train", ["train", "eval"], "Train, or evaluate the newest checkpoint and end.")


def main(argv: Sequence[str]) -> int:
  """Runs the command and returns its exit code."""

  def body():
    cli.parse_config_flags(argv, __doc__, _CONFIG, [(_WORKDIR, "runs/my_run")])
    logging.set_verbosity(logging.WARNING)
    from swin_jax import train  # pylint: disable=g-import-not-at-top  (jax takes seconds; a typo should not)

    run = train.train if _MODE.value == "train" else train.evaluate_checkpoint
    run(_CONFIG.value, _WORKDIR.value)

  return cli.exit_code(body)


if __name__ == "__main__":
  cli.leave(main(sys.argv))
