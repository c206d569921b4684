"""Draws pictures of what a model does, as PNG files.

  python -m swin_jax.show reconstruct SRC IMAGES… --out=DIR [--mask_ratio= --mask_patch= --seed= --bands=]
  python -m swin_jax.show attention SRC IMAGES… --out=DIR \\
      [--stage= --block= --head= --at= --class= --cam_stage= --bands=]
  python -m swin_jax.show features SRC IMAGES… --out=DIR [--bands=]
  python -m swin_jax.show segment SRC IMAGES… --out=DIR [--labels=FOLDER] [--maps=DIR] [--bands=]
  python -m swin_jax.show regress SRC IMAGES… --out=DIR [--values=FOLDER] [--maps=DIR] [--bands=]
  python -m swin_jax.show curves RUN… --out=DIR

SRC is a run's workdir, WORKDIR/checkpoints/STEP or a model folder. IMAGES are image files, folders of them,
or .npy and .npz arrays [height, width, bands] or [n, height, width, bands] with any number of bands: uint8,
or float as in the model's training, 0..1. For a model trained on floats (data.dtype) arrays may have any
type, and image files are read as rasters, GeoTIFF for instance. The largest central box with the model's
aspect ratio is resized to the model's size.

`reconstruct` masks images and shows the reconstruction by a masked-image model: original, masked,
reconstructed, pasted.

`attention` shows where tokens attend in one block, correctly across shifted windows, how much attention each
token receives, and, for a classifier, the evidence for a class (Grad-CAM).

`features` shows the first three principal components of each stage's features as colours, which have the same
meaning in all images.

`segment` shows the class that a segmentation model predicts for every pixel of whole images and, if --labels
has a label map of the same name, the errors, in magenta. `regress` does the same for the values of pixel
regression: errors are blue where the prediction is too low, red where it is too high. --maps also writes the
predicted classes or values, in files named like the images: georeferenced GeoTIFFs if the image is
georeferenced, otherwise PNGs of classes, together with a classes.txt, or TIFFs of values.

`curves` shows loss, learning rate and the metrics of the evaluations of one or several runs, each in a
workdir.
"""

import argparse
from collections.abc import Iterator
import functools
import sys
from typing import Any

from swin_jax.terminal import preemption, quiet

if __name__ == "__main__":
  preemption.listen()  # before the slow imports
  quiet.libraries()

from swin_jax.show import curves, output
from swin_jax.tasks import KINDS
from swin_jax.terminal import cli, files, rules
from swin_jax.terminal.addresses import local_path
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import Progress, say

# Command → its task, for tasks with a prediction for every pixel.
_TASKS = {kind.pixels.command: task for task, kind in KINDS.items() if kind.pixels}


def _place(text: str) -> tuple[float, ...]:
  """Parses ROW,COLUMN, in pixels or, with a decimal point, fractions of the image."""
  try:
    numbers = tuple(float(part) if "." in part else int(part) for part in text.split(","))
  except ValueError:
    numbers = ()
  if len(numbers) != 2 or any(rules.Real(0, rules.SIDE.high).problem(number) for number in numbers):
    raise argparse.ArgumentTypeError(f"{rules.shown(text)} must be like 0.5,0.5 or 112,112")
  return numbers


def _head(text: str) -> int | None:
  if text != "mean" and not (text.isdecimal() and len(text) < 6):
    raise argparse.ArgumentTypeError(f"'{text}' must be mean, or the number of a head")
  return None if text == "mean" else int(text)


def _parser() -> cli.Parser:
  out = cli.Parser(add_help=False)
  out.add_argument("--out", type=local_path, required=True, metavar="DIR", help="folder for the pictures")
  common = cli.Parser(add_help=False, parents=[out])
  common.add_argument(
    "source",
    metavar="SRC",
    help="workdir, WORKDIR/checkpoints/STEP, model folder, or public weights as for swin_jax.load",
  )
  common.add_argument(
    "images",
    type=local_path,
    metavar="IMAGES",
    nargs="+",
    help="image files, folders of them, .npy, .npz",
  )
  common.add_argument(
    "--window",
    type=cli.sizes((1, 2)),
    help="tokens, or HEIGHT,WIDTH, for all stages, as in swin_jax.load",
  )
  common.add_argument(
    "--image_size",
    type=cli.sizes((1, 2)),
    help="pixels, or HEIGHT,WIDTH, as in swin_jax.load",
  )
  common.add_argument(
    "--bands",
    type=cli.numbers(rules.Whole(0, rules.BANDS.high - 1), (1, 3)),
    default=(),
    help="bands shown as red, green, blue, or one as grey; from 0",
  )

  parser = cli.Parser(prog="python -m swin_jax.show", description=__doc__)
  commands = parser.add_subparsers(
    dest="command",
    required=True,
    metavar="|".join(("reconstruct", "attention", "features", *_TASKS, "curves")),
  )

  command = commands.add_parser(
    "reconstruct", parents=[common], help="original, masked, reconstructed, pasted"
  )
  command.add_argument(
    "--mask_ratio", type=cli.number(rules.Real(0, 1)), default=0.6, help="masked fraction of the image"
  )
  command.add_argument(
    "--mask_patch",
    type=cli.number(rules.SIDE),
    help="side of a masked cell in pixels; default: that of a token of the last stage",
  )
  command.add_argument(
    "--seed",
    type=cli.number(rules.Whole(0, 2**32 - 1)),
    default=0,
    help="random seed of the first image's mask; it increases by 1 with each image",
  )

  index = cli.number(rules.Whole(0, 10**6))
  command = commands.add_parser("attention", parents=[common], help="attention of a block, and Grad-CAM")
  command.add_argument("--stage", type=index, help="from 0; default: the second to last")
  command.add_argument("--block", type=index, help="block of the stage, from 0; default: its last")
  command.add_argument("--head", type=_head, help="head of the block, from 0, or mean")
  command.add_argument(
    "--at",
    type=_place,
    action="append",
    help="ROW,COLUMN of the query whose attention is shown, in pixels or, with a decimal point, fractions of"
    " the image; may be repeated",
  )
  command.add_argument(
    "--class", type=index, dest="label", help="class for Grad-CAM, from 0; default: the predicted one"
  )
  command.add_argument("--cam_stage", type=index, help="stage for Grad-CAM, from 0; default: the last")

  commands.add_parser("features", parents=[common], help="principal components of the stages")

  for name, task in _TASKS.items():
    maps = KINDS[task].needs
    command = commands.add_parser(
      name, parents=[common], help=f"the {KINDS[task].pixels.answer} of every pixel"
    )
    command.add_argument(
      f"--{maps}",
      type=local_path,
      metavar="FOLDER",
      dest="truth",
      help=f"maps of {maps}, named like their images",
    )
    command.add_argument("--maps", type=local_path, metavar="DIR", help="folder for the predicted maps")

  command = commands.add_parser("curves", parents=[out], help="metrics of runs")
  command.add_argument("runs", type=local_path, metavar="RUN", nargs="+", help="workdirs of runs")
  return parser


def main(argv: list[str]) -> int:
  """Runs the command and returns its exit code."""

  def body():
    arguments = _parser().parse_args(argv[1:])
    if arguments.command == "curves":
      _save(curves.picture(arguments.runs), "curves", ".png", arguments)
    else:
      _run(arguments)

  return cli.exit_code(body)


def _save(picture: Any, name: str, ending: str, arguments: argparse.Namespace) -> None:
  """Writes a picture to the folder of the pictures, see `output.new_file`."""
  folder = output.folder("--out", arguments.out)  # late, so that refused input leaves nothing behind
  path = output.new_file(folder, name, ending)
  with files.replacing(path) as partial:
    picture.save(partial, "PNG")
  say(f"wrote {path}")


def _run(arguments: argparse.Namespace) -> None:
  from swin_jax.drawing import panels
  from swin_jax.predict import whole_images
  from swin_jax.saved import pretrained  # late, because importing jax takes seconds
  from swin_jax.show import images
  from swin_jax.show import truth as truth_maps
  from swin_jax.weights import converted

  image_files = [file for path in arguments.images for file in images.find(path)]
  model, params = pretrained.load(
    converted.path(arguments.source), window=arguments.window, image_size=arguments.image_size
  )
  task, truth = _TASKS.get(arguments.command), None
  if task and model.kind is not KINDS[task]:
    raise BadInput(
      f"{arguments.source} is a model of task={model.description['task']}; `show {arguments.command}` is"
      f" for task={task}"
    )
  if task:
    panels.check_bands(arguments.bands, len(model.mean))
  if task and arguments.truth:
    names = model.description["data"]["class_names"]
    truth = truth_maps.Truth(
      f"--{model.kind.needs}", arguments.truth, len(model.class_names), names, image_files
    )
  progress = Progress("reading", len(image_files), "files")
  refused, drawn = [], 0

  def read() -> Iterator[tuple[str, Any]]:
    for file in image_files:
      try:
        if task:
          for image in whole_images.read(model, file):
            yield image.name, (image, truth and truth.of(image))
        else:
          yield from images.read(model, file)
      except BadInput as error:  # one bad file must not prevent the pictures of the others
        refused.append(str(error))
      progress.step()

  for name, picture in _pictures(model, params, read(), arguments):
    _save(picture, name, f"-{arguments.command}.png", arguments)
    drawn += 1
  if refused:
    others, more = len(refused) - 1, ""
    if others:
      more += f"; {others} other{'s were' if others > 1 else ' was'} refused too"
    if drawn:
      more += f"; {drawn} picture{'s' * (drawn > 1)} of the others {'were' if drawn > 1 else 'was'} written"
    raise BadInput(refused[0] + more)


def _pictures(
  model: Any, params: Any, named_images: Iterator[tuple[str, Any]], arguments: argparse.Namespace
) -> Iterator[tuple[str, Any]]:
  """Yields (name, picture) for each (name, image)."""
  from swin_jax.show import attention, features, reconstruction

  bands = arguments.bands
  if arguments.command == "reconstruct":
    ratio, patch = arguments.mask_ratio, arguments.mask_patch
    for seed, (name, image) in enumerate(named_images, arguments.seed):
      yield (
        name,
        reconstruction.picture(
          model, params, image, mask_ratio=ratio, mask_patch=patch, seed=seed, bands=bands
        ),
      )
  elif arguments.command == "attention":
    keys = ("stage", "block", "head", "label", "cam_stage", "bands")
    chosen = {key: getattr(arguments, key) for key in keys} | {"at": arguments.at or attention.QUERIES}
    for name, image in named_images:
      yield name, attention.picture(model, params, image, **chosen)
  elif arguments.command in _TASKS:
    yield from _answers(model, params, named_images, arguments)
  else:
    if together := list(named_images):
      names, images = zip(*together, strict=True)
      yield from zip(names, features.pictures(model, params, images, bands=bands), strict=True)


def _answers(
  model: Any, params: Any, examples: Iterator[tuple[str, Any]], arguments: argparse.Namespace
) -> Iterator[tuple[str, Any]]:
  """Yields (name, picture) for each (name, (image, truth)); writes the maps if they are requested."""
  from swin_jax.predict import whole_images
  from swin_jax.predict.maps import Maps
  from swin_jax.show.whole_images import picture as picture_of

  maps = None
  for name, (image, truth) in examples:
    if arguments.maps and not maps:
      output.folder("--out", arguments.out)
      folder = output.folder("--maps", arguments.maps)
      maps = Maps(folder, model.class_names)
    predictions = whole_images.predict(model, params, image)
    picture = picture_of(model, image, predictions, truth, arguments.bands)
    if maps:
      say(f"wrote {maps.write(image, predictions, functools.partial(output.new_file, folder, name))}")
    yield name, picture


if __name__ == "__main__":
  cli.leave(main(sys.argv))
