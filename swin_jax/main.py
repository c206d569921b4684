"""Trains, evaluates or applies the model that a config describes.

  python -m swin_jax.main --config=NAME[:KIND] --workdir=DIR [--config.group.key=value]
                          [--mode=train|eval|predict]

NAME is a config that ships with swin_jax, listed below, or the path of a config file. --help_config prints
every key with its value and its meaning.

The same command, given again, continues the run in its workdir. --mode=eval --workdir=DIR alone evaluates a
run with its own config, as --mode=predict does.

Compiled programs are cached for later runs, in the folder that --compile_cache=FOLDER names.

Several processes: give each the same command. On TPU pods and with Slurm and Open MPI, the processes find
each other; elsewhere add --coordinator=HOST:PORT (of process 0) --num_processes=N --process_id=I. All
processes must share the workdir.

Exit codes: 0 success; 2 bad input; 74 storage, a save or a process failed; 75 stopped by SIGTERM or SIGHUP
and saved, run the same command again; 130 stopped by Ctrl-C and saved.
"""

import argparse
from collections.abc import Sequence
import sys
from typing import Any

from swin_jax.terminal import host_memory, preemption, quiet

if __name__ == "__main__":  # before the slow imports
  host_memory.restart_on_large_pages("swin_jax.main")
  preemption.listen()  # only now: a signal between the two would be lost
  quiet.libraries()

from swin_jax.terminal import cli, progress, rules
from swin_jax.terminal.addresses import local_path

_MOST_PROCESSES = 65_536


def _config_of_run(arguments: argparse.Namespace) -> Any:
  """Returns the config of the run to evaluate or apply; None for a run to train."""
  if arguments.mode == "train" or not arguments.workdir:
    return None
  progress.say(f"reading the config of the run in {arguments.workdir} ...")
  from swin_jax.run import stored  # late, because importing jax takes seconds

  return stored.config_of(arguments.workdir)


def _parser() -> cli.ConfigParser:
  parser = cli.ConfigParser(_config_of_run, prog="python -m swin_jax.main", description=__doc__)
  parser.add_argument(
    "--workdir",
    type=local_path,
    metavar="DIR",
    help="folder of the run, for checkpoints, metrics and pictures",
  )
  parser.add_argument(
    "--mode",
    default="train",
    choices=("train", "eval", "predict"),
    help="train; evaluate the newest checkpoint; or write the class that it predicts for each image of"
    " data.eval_split, which needs no labels, to a table",
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
    if not arguments.process_id:  # the first, or the only one
      progress.say(f"{arguments.mode} in {arguments.workdir}: starting ...")
    with progress.waiting("starting"):
      _run(arguments, cli.given_keys(argv))

  return cli.exit_code(body)


def _run(arguments: argparse.Namespace, given: Sequence[str]) -> None:
  from absl import logging  # late, because importing jax takes seconds

  from swin_jax.mesh import distributed
  from swin_jax.run import agreement, compilation, evaluate, predict, reads, train

  logging.set_verbosity(logging.WARNING)
  reads.check_flags(arguments.config, given)
  modes = {"train": train.train, "eval": evaluate.evaluate_checkpoint, "predict": predict.predict}
  join = distributed.processes(arguments.coordinator, arguments.num_processes, arguments.process_id)
  with join, compilation.cached_in(arguments.compile_cache):
    distributed.check_devices()
    agreement.check_program()
    modes[arguments.mode](arguments.config, arguments.workdir, given)


if __name__ == "__main__":
  cli.leave(main(sys.argv))
