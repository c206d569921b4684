"""Trains, or evaluates, what a config describes.

  python -m swin_jax.main --config=FILE[:kind] --workdir=DIR [--config.group.key=value] [--mode=train|eval]

The same command again continues the run in its workdir. Every config key is in configs/common.py, with its
meaning and default.

Several processes: give each the same command. TPU pods, Slurm and Open MPI say by themselves who the others
are; elsewhere add --coordinator=HOST:PORT (of process 0) --num_processes=N --process_id=I. The workdir must
be one that all of them see.

Exit codes: 0 done; 2 bad input; 74 storage, a save or a process failed; 75 stopped by SIGTERM, saved, run me
again; 130 stopped by Ctrl-C, saved.
"""

from collections.abc import Sequence
import os
import sys

from swin_jax.terminal import host_memory

if __name__ == "__main__":
  host_memory.restart_on_large_pages("swin_jax.main")  # before the rest, which takes time to import

from absl import flags, logging
from ml_collections import config_flags

from swin_jax.terminal import cli, preemption

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Config file and, after a colon, the kind of run.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, pictures.")
_COORDINATOR = flags.DEFINE_string(
  "coordinator", None, "HOST:PORT of process 0, where nothing else tells it."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many processes run this command together.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")
_MODE = flags.DEFINE_enum(
  "mode", "train", ["train", "eval"], "Train, or evaluate the newest checkpoint and end."
)


def main(argv: Sequence[str]) -> int:
  """Runs the command and returns its exit code."""
  preemption.watch()

  def body():
    cli.parse_config_flags(argv, __doc__, _CONFIG, [(_WORKDIR, "runs/my_run")])
    logging.set_verbosity(logging.WARNING)
    # What was compiled once is not compiled again, by this run when it goes on or by another.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/swin_jax/compiled"))
    from swin_jax.mesh import distributed  # jax takes seconds; a typo should not
    from swin_jax.run import reads, train

    reads.check_flags(_CONFIG.value, config_flags.get_override_values(flags.FLAGS["config"]))
    run = train.train if _MODE.value == "train" else train.evaluate_checkpoint
    with distributed.processes(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value):
      distributed.check_devices()
      run(_CONFIG.value, _WORKDIR.value)

  return cli.exit_code(body)


if __name__ == "__main__":
  cli.leave(main(sys.argv))
