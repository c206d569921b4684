"""Trains or evaluates the model that a config describes.

  python -m swin_jax.main --config=FILE[:kind] --workdir=DIR [--config.group.key=value] [--mode=train|eval]

The same command, given again, continues the run in its workdir. Every config key is in configs/common.py,
with its meaning and default.

Compiled programs are cached for later runs, in the folder that --compile_cache=FOLDER names.

Several processes: give each the same command. On TPU pods and with Slurm and Open MPI, the processes find
each other; elsewhere add --coordinator=HOST:PORT (of process 0) --num_processes=N --process_id=I. All
processes must share the workdir.

Exit codes: 0 success; 2 bad input; 74 storage, a save or a process failed; 75 stopped by SIGTERM or SIGHUP
and saved, run the same command again; 130 stopped by Ctrl-C and saved.
"""

from collections.abc import Sequence
import sys

from swin_jax.terminal import host_memory, preemption

if __name__ == "__main__":  # before the slow imports
  host_memory.restart_on_large_pages("swin_jax.main")
  preemption.listen()  # only now: a signal between the two would be lost

from swin_jax.terminal import cli, rules
from swin_jax.terminal.addresses import local_path

_MOST_PROCESSES = 65_536


def _parser() -> cli.ConfigParser:
  parser = cli.ConfigParser(prog="python -m swin_jax.main", description=__doc__)
  parser.add_argument(
    "--workdir",
    type=local_path,
    metavar="DIR",
    help="folder of the run, for checkpoints, metrics and pictures",
  )
  parser.add_argument(
    "--mode",
    default="train",
    choices=("train", "eval"),
    help="train, or evaluate the newest checkpoint and exit",
  )
  parser.add_argument(
    "--compile_cache",
    metavar="FOLDER",
    help="folder that caches compiled programs for later runs; empty for no cache. Default:"
    " $JAX_COMPILATION_CACHE_DIR, or ~/.cache/swin_jax/compiled",
  )
  parser.add_argument(
    "--coordinator",
    metavar="HOST:PORT",
    help="address of process 0, where the environment does not provide it",
  )
  parser.add_argument(
    "--num_processes",
    type=cli.number(rules.Whole(1, _MOST_PROCESSES)),
    metavar="N",
    help="number of processes that run this command together",
  )
  parser.add_argument(
    "--process_id",
    type=cli.number(rules.Whole(0, _MOST_PROCESSES - 1)),
    metavar="I",
    help="index of this process, from 0",
  )
  return parser


def main(argv: Sequence[str]) -> int:
  """Runs the command and returns its exit code."""

  def body():
    arguments = _parser().parse_args(argv[1:])
    cli.require(arguments, workdir="runs/my_run")
    from absl import logging  # late, because importing jax takes seconds

    from swin_jax.mesh import distributed
    from swin_jax.run import agreement, compilation, evaluate, reads, train

    logging.set_verbosity(logging.WARNING)
    reads.check_flags(arguments.config, cli.given_keys(argv))
    run = train.train if arguments.mode == "train" else evaluate.evaluate_checkpoint
    join = distributed.processes(arguments.coordinator, arguments.num_processes, arguments.process_id)
    with join, compilation.cached_in(arguments.compile_cache):
      distributed.check_devices()
      agreement.check_program()
      run(arguments.config, arguments.workdir)

  return cli.exit_code(body)


if __name__ == "__main__":
  cli.leave(main(sys.argv))
