"""Writes what a trained model answers for files: classes, label or value maps, or features.

  python -m swin_jax.predict RUN PATH… --out=DIR [--top=5] [--features=pooled|stage1|stage2|…]

RUN is a run's workdir (its newest intact checkpoint), WORKDIR/checkpoints/STEP or a model folder. PATH is an
image file, a raster, a .npy or .npz array, a folder of these with all folders below it, or a folder that
prepare wrote. Images are cropped, resized and normalised exactly as evaluation does it.

A classifier writes predictions.csv and predictions.jsonl: for each image its relative path and the --top most
probable classes with their probabilities. A model that predicts pixels writes a map for each image, in
maps/ under the path of the image: a georeferenced GeoTIFF if the image is georeferenced, otherwise a PNG of
classes or a TIFF of values, and maps.csv. --features writes features.npy, float32 with a row for each image,
and features.csv, which names the rows: pooled features [n, channels], or the output of a stage
[n, height, width, channels].

Any number of images: they are read in threads, and computed in batches on all devices. The same command,
started again after an interruption, goes on where it stopped, and the result is the same to the byte. Until
the files are complete they lie in DIR/unfinished.

Exit codes: 0 success; 2 bad input, also if some images could not be read: then bad_files.csv names them, and
all others have their answers; 74 storage failed; 75 stopped by SIGTERM or SIGHUP, 130 by Ctrl-C.
"""

import argparse
import os
import sys

from swin_jax.terminal import host_memory, preemption, quiet

if __name__ == "__main__":  # before the slow imports
  host_memory.restart_on_large_pages("swin_jax.predict")
  preemption.listen()  # only now: a signal between the two would be lost
  quiet.libraries()

from swin_jax.terminal import cli, rules
from swin_jax.terminal.addresses import local_path
from swin_jax.terminal.progress import say, waiting


def _parser() -> cli.Parser:
  parser = cli.Parser(prog="python -m swin_jax.predict", description=__doc__)
  parser.add_argument(
    "run", type=local_path, metavar="RUN", help="workdir, WORKDIR/checkpoints/STEP or model folder"
  )
  parser.add_argument(
    "paths", type=local_path, metavar="PATH", nargs="+", help="image files, folders or prepared sets"
  )
  parser.add_argument("--out", type=local_path, required=True, metavar="DIR", help="folder for the answers")
  parser.add_argument(
    "--top",
    type=cli.number(rules.Whole(1, 1000)),
    default=5,
    help="number of classes of each image, the most probable first; default 5",
  )
  parser.add_argument(
    "--features", default="", metavar="WHICH", help="pooled, or the output of a stage: stage1, stage2, …"
  )
  parser.add_argument(
    "--batch_size",
    type=cli.number(rules.Whole(1, 65_536)),
    default=64,
    help="images at once, over all devices; default 64; of whole images, one on each device",
  )
  parser.add_argument(
    "--num_threads",
    type=cli.number(rules.Whole(1, 1024)),
    default=os.cpu_count(),
    help="threads that read; default: one per core",
  )
  return parser


def main(argv: list[str]) -> int:
  """Runs the command and returns its exit code."""

  def body():
    arguments = _parser().parse_args(argv[1:])
    with waiting("starting"):
      _run(arguments)

  return cli.exit_code(body)


def _run(arguments: argparse.Namespace) -> None:
  from swin_jax.mesh import distributed  # late, because importing jax takes seconds
  from swin_jax.predict import inputs, predicting
  from swin_jax.saved import folder, pretrained
  from swin_jax.weights import converted

  with waiting("listing the files"):
    images = inputs.find(arguments.paths)
  distributed.check_devices()
  saved = folder.open_saved(converted.path(arguments.run))
  dtype = saved.config["model"].get("dtype", "float32")  # evaluation computes in that of the run
  model, params = pretrained.open_model(saved, dtype=dtype)
  say(*images.notes, f"predicting {len(images):,} image{'s' * (len(images) != 1)} with {saved.source}")
  keys = ("top", "features", "batch_size")
  flags = " ".join(f"--{key}={getattr(arguments, key)}" for key in keys if getattr(arguments, key))
  request = predicting.Request(
    **{key: getattr(arguments, key) for key in keys}, num_threads=arguments.num_threads, flags=flags
  )
  with waiting("predicting"):
    predicting.predict(model, params, saved.source, images, request, arguments.out)


if __name__ == "__main__":
  cli.leave(main(sys.argv))
