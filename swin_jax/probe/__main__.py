"""Measures how well the frozen features of a model separate the classes of a set, without training.

  python -m swin_jax.probe RUN DATA [--examples=1,5,20] [--seeds=5] [--json=OUT] \\
      [--train_split=train --eval_split=val]

RUN is a run's workdir, WORKDIR/checkpoints/STEP or a model folder, of any task. DATA is the output of
`python -m swin_jax.data.prepare`, a folder with train/CLASS/*.jpg and val/CLASS/*.jpg, an .npz, or digits.

The features are the mean over the tokens of the last stage, of images as evaluation shows them. Two kinds of
classifiers read them: ridge regression in closed form, whose regularisation is chosen on a fifth of the
training images, and the votes of the k nearest training images in cosine similarity, k = 1, 5 and 20. With
--examples they also learn from that many random images of each class. A seed draws these images and that
fifth.

Keys of --json: run, data, features, train, test (numbers), classes, majority_share (accuracy of always
answering the most frequent class), seeds; results: for each number of examples (null for all) and each
classifier top1 of every seed, mean, std, and the strengths of the regularisation.
"""

import argparse
import json
import os
import pathlib
import sys

from swin_jax.terminal import preemption, quiet

if __name__ == "__main__":
  preemption.listen()  # before the slow imports
  quiet.libraries()

from swin_jax.terminal import cli, files, rules
from swin_jax.terminal.addresses import local_path
from swin_jax.terminal.errors import BadInput, cannot_write
from swin_jax.terminal.progress import say, waiting


def _parser() -> cli.Parser:
  parser = cli.Parser(prog="python -m swin_jax.probe", description=__doc__)
  parser.add_argument(
    "run", type=local_path, metavar="RUN", help="workdir, WORKDIR/checkpoints/STEP or model folder"
  )
  parser.add_argument("data", type=local_path, metavar="DATA", help="prepared set, folder, .npz, or digits")
  parser.add_argument(
    "--examples",
    type=cli.numbers(rules.Whole(1, 10**6), range(1, 17)),
    default=(),
    metavar="N,…",
    help="also learn from this many images of each class",
  )
  parser.add_argument(
    "--seeds", type=cli.number(rules.Whole(1, 100)), default=5, metavar="N", help="number of random draws"
  )
  parser.add_argument("--train_split", default="train", metavar="NAME", help="split to learn from")
  parser.add_argument("--eval_split", default="val", metavar="NAME", help="split to classify")
  parser.add_argument("--json", type=local_path, metavar="OUT", help="file to write the results to")
  return parser


def main(argv: list[str]) -> int:
  """Runs the command and returns its exit code."""
  return cli.exit_code(lambda: _run(_parser().parse_args(argv[1:])))


def _run(arguments: argparse.Namespace) -> None:
  out = pathlib.Path(arguments.json) if arguments.json else None
  if out and (out.is_dir() or not os.access(out.parent, os.W_OK | os.X_OK)):
    raise BadInput(f"--json={out} cannot be written: it must be a file in a folder that exists")
  from absl import logging  # late, because importing jax takes seconds
  import numpy as np

  logging.set_verbosity(logging.WARNING)
  from swin_jax.mesh import distributed
  from swin_jax.probe import features, report
  from swin_jax.saved import folder, pretrained
  from swin_jax.weights import converted

  distributed.check_devices()
  splits = arguments.train_split, arguments.eval_split
  with waiting("opening the data"):
    sources = features.open_sources(arguments.data, splits)
  classes = sources[0].class_names
  with waiting(f"reading the weights in {arguments.run}"):
    path = converted.path(arguments.run)
    augment = folder.open_saved(path).config.get("augment", {})
    model, params = pretrained.load(path)
  shown = features.view(model, augment)
  train, test = (
    features.of_source(model, params, source, shown, split, classes)
    for source, split in zip(sources, splits, strict=True)
  )
  summary = {
    "run": arguments.run,
    "data": arguments.data,
    "features": train.values.shape[1],
    "train": len(train.labels),
    "test": len(test.labels),
    "classes": len(classes),
    "majority_share": float(np.bincount(test.labels).max() / len(test.labels)),
    "seeds": arguments.seeds,
  }
  results = report.measure(train, test, len(classes), arguments.examples, arguments.seeds)
  name = model.backbone.summarise(model.description).name
  say(
    f"{name} in {arguments.run}, {summary['features']} features; {arguments.data}: {summary['train']:,}"
    f" images to learn from, {summary['test']:,} to classify, {summary['classes']:,} classes, the most"
    f" frequent {summary['majority_share']:.1%}",
    *report.table(results, arguments.seeds),
  )
  if out:
    try:
      files.write(out, json.dumps(summary | {"results": results}, indent=2) + "\n")
    except OSError as error:
      raise cannot_write(f"--json={out}", error) from error


if __name__ == "__main__":
  cli.leave(main(sys.argv))
