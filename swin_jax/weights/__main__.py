"""Imports, adapts and exports weights.

  python -m swin_jax.weights import SRC DST [--layout=auto] [--image_size= --window= --trained_window=]
                                            [--encoder_only] [--ignore=REGEX] [--entry=NAME]
  python -m swin_jax.weights adapt SRC DST [--window= --image_size= --bands= --class_map=]
                                           [--padding= --clamp_windows=]
  python -m swin_jax.weights export SRC DST.safetensors --layout=official|timm|hf|torchvision|openmmlab
  python -m swin_jax.weights verify DIR

`import` creates a model folder from a public checkpoint: of the official code (supervised, 22K to 1K,
SimMIM), timm, Hugging Face, torchvision, OpenMMLab, SatVision or Satlas, V1 or V2, or from a UPerNet
(semantic segmentation) of transformers, the official code or mmsegmentation. SRC is a .safetensors or .pth
file, a folder with one, or hf://OWNER/NAME[/FILE]. Every tensor must be used and every parameter filled;
otherwise the command fails and reports the mismatch. --encoder_only takes the encoder of a larger model, such
as a detector; --ignore leaves out what a regular expression finds; --entry chooses an entry of a PyTorch
file, such as model_ema.

`adapt` creates a model folder from a run's workdir or from another model folder: unchanged, or for another
window, image size, bands or classes, or with another treatment of maps that windows do not divide
(--padding=masked|attended, --clamp_windows=true|false).

`export` writes a workdir or a model folder for the official code, timm, transformers, torchvision or
OpenMMLab. UPerNet goes to transformers, the official code and mmsegmentation (openmmlab), if its norm is
"batch".

`verify` reads every file of a model folder, or of a folder that swin_jax.export wrote, and compares it with
its SHA-256 in config.json. It names each file that is damaged, missing or unexpected; if any is damaged or
missing, it ends with exit code 2.

A model folder is a valid input of --config.init_from, --mode=eval --workdir, `swin_jax.load`,
`swin_jax.export` and `swin_jax.show`. All of these except --mode=eval also take SRC of `import` itself, and
convert it once into the cache: $SWIN_JAX_CACHE, or swin_jax in $XDG_CACHE_HOME or ~/.cache.
"""

import argparse
import re
import sys

from swin_jax.terminal import preemption, quiet

if __name__ == "__main__":
  preemption.listen()  # before the slow imports
  quiet.libraries()

from swin_jax.saved import choices
from swin_jax.terminal import cli, digests, files, rules
from swin_jax.terminal.addresses import local_path
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import say

_SWITCH = {"true": True, "false": False}


def _parser() -> cli.Parser:
  parser = cli.Parser(prog="python -m swin_jax.weights", description=__doc__)
  counts = range(1, rules.BANDS.high + 1)
  commands = parser.add_subparsers(dest="command", required=True, metavar="import|adapt|export|verify")

  command = commands.add_parser("import", help="a public checkpoint → a model folder")
  command.add_argument("source", metavar="SRC", help="file, folder or hf://OWNER/NAME[/FILE]")
  command.add_argument("destination", type=local_path, metavar="DST", help="model folder to create")
  command.add_argument(
    "--layout", default="auto", choices=("auto", *choices.LAYOUTS), help="required naming scheme"
  )
  command.add_argument(
    "--image_size",
    type=cli.sizes((1, 2)),
    help="pixels, or HEIGHT,WIDTH; needed if the file does not determine it",
  )
  command.add_argument(
    "--window",
    type=cli.sizes(range(1, 9)),
    help="tokens, or one number per stage; needed if the file does not determine it",
  )
  command.add_argument(
    "--trained_window",
    type=cli.sizes(range(1, 9), least=0),
    help="V2: windows of pre-training, one per stage; 0 if same as --window",
  )
  command.add_argument(
    "--mean",
    type=cli.numbers(rules.MEAN, counts),
    help="mean of the images per band, for pixels in 0..1; overrides the mean read or assumed",
  )
  command.add_argument(
    "--std", type=cli.numbers(rules.STD, counts), help="standard deviation per band, as for --mean"
  )
  command.add_argument(
    "--target_norm_window",
    type=cli.number(rules.Whole(0, 9999)),
    help="SimMIM with normalised targets: window in pixels (47 in the V2 recipe); 0 if not normalised",
  )
  command.add_argument(
    "--allow_pickle",
    action="store_true",
    help="also read files that could run code; use only for files from a source you trust",
  )

  command.add_argument("--entry", default="", help="entry of a PyTorch file with the weights, as model_ema")
  command.add_argument(
    "--encoder_only", action="store_true", help="leave out heads, decoders and whatever is not the encoder"
  )
  command.add_argument(
    "--ignore", type=_pattern, metavar="REGEX", help="leave out tensors whose names contain a match"
  )

  command = commands.add_parser(
    "adapt", help="a run or a model folder → a model folder, unchanged or for other windows, bands, classes"
  )
  command.add_argument(
    "source",
    type=local_path,
    metavar="SRC",
    help="workdir, WORKDIR/checkpoints/STEP or model folder",
  )
  command.add_argument("destination", type=local_path, metavar="DST", help="model folder to create")
  command.add_argument("--image_size", type=cli.sizes((1, 2, 3)), help="pixels, or HEIGHT,WIDTH")
  command.add_argument("--window", type=cli.sizes((1, 2, 3)), help="tokens, or HEIGHT,WIDTH, for all stages")
  command.add_argument(
    "--bias_tables",
    choices=choices.BIAS_TABLES,
    help="interpolation of V1 bias tables for another window; default geometric",
  )
  command.add_argument("--padding", choices=choices.PADDING, help="attention to padding, as model.padding")
  command.add_argument(
    "--clamp_windows", choices=[*_SWITCH], help="whether windows shrink to small maps, as model.clamp_windows"
  )
  command.add_argument("--bands", type=cli.number(rules.BANDS), help="number of image bands")
  command.add_argument("--band_rule", choices=choices.BANDS, help="how new bands are derived; default repeat")
  command.add_argument(
    "--class_map",
    type=local_path,
    default="",
    help="file: line k is the class of SRC that becomes class k",
  )

  command = commands.add_parser("export", help="a run or a model folder → a file for other programs")
  command.add_argument(
    "source",
    type=local_path,
    metavar="SRC",
    help="workdir, WORKDIR/checkpoints/STEP or model folder",
  )
  command.add_argument(
    "destination",
    type=local_path,
    metavar="DST.safetensors",
    help="file to create; for hf, a config.json is created in the same folder",
  )
  command.add_argument("--layout", required=True, choices=choices.LAYOUTS, help="naming scheme")

  command = commands.add_parser("verify", help="compares every file of a model folder with its SHA-256")
  command.add_argument(
    "folder", type=local_path, metavar="DIR", help="model folder, or a folder that swin_jax.export wrote"
  )
  return parser


def _pattern(text: str) -> re.Pattern:
  try:
    return re.compile(text)
  except re.error as error:
    raise argparse.ArgumentTypeError(f"{text} is not a regular expression: {error}") from error


def main(argv: list[str]) -> int:
  """Runs the command and returns its exit code."""

  def body():
    arguments = _parser().parse_args(argv[1:])
    run = {"import": _import, "adapt": _adapt, "export": _export, "verify": _verify}[arguments.command]
    run(arguments)

  return cli.exit_code(body)


def _import(arguments) -> None:
  from swin_jax.saved import tensors

  files.check_free(arguments.destination)
  opened = tensors.open_tensors(arguments.source, arguments.allow_pickle, arguments.entry)
  # late, because importing jax takes seconds, in which a hub that does not answer is already reported
  from swin_jax.saved import description, folder
  from swin_jax.weights import importer, inference

  if arguments.ignore:
    opened = opened.without(arguments.ignore)
  hints = inference.Hints(**{name: getattr(arguments, name) for name in inference.Hints._fields})
  plan = importer.plan(opened, hints, arguments.layout)
  first, *others = description.summary(plan.description, plan.shapes)
  say(f"{arguments.source}: {first}", *others)
  say(f"names of {plan.layout.name}; {'; '.join(plan.notes)}")
  folder.write(arguments.destination, plan.description, plan.shapes, plan.read)
  say(f"wrote {arguments.destination}")


def _adapt(arguments) -> None:
  import jax
  import numpy as np

  from swin_jax.saved import class_rows, folder, transfer
  from swin_jax.saved import description as descriptions
  from swin_jax.tasks import kind_of

  files.check_free(arguments.destination)
  saved = folder.open_saved(arguments.source)
  if arguments.bands is None and arguments.band_rule:
    raise BadInput("--band_rule says how --bands are derived; give both")
  if arguments.bias_tables and not any(path.endswith("bias_table") for path in saved.shapes):
    raise BadInput(f"{arguments.source} has no bias tables, which only Swin V1 has; leave out --bias_tables")
  band_rule = arguments.band_rule or "repeat"
  rules = transfer.Rules(arguments.bias_tables or "geometric", band_rule, arguments.class_map)
  classes = class_rows.read_class_map(arguments.class_map) if arguments.class_map else None
  before = descriptions.describe(saved.config, saved.source)
  description = descriptions.adapt(
    before, arguments.window, arguments.image_size, arguments.bands, band_rule, classes
  )
  changes = {"padding": arguments.padding, "clamp_windows": _SWITCH.get(arguments.clamp_windows)}
  changes = {
    key: value for key, value in changes.items() if value not in (None, description["model"].get(key))
  }
  if changes and not changes.keys() <= description["model"].keys():
    raise BadInput(f"{arguments.source} has no windows; leave out --padding and --clamp_windows")
  description["model"] |= changes
  drawn = "mask" in kind_of(description).inputs(description, description["data"]["image_size"])
  if drawn and len(description["data"]["mean"]) != len(before["data"]["mean"]):
    raise BadInput(
      f"{arguments.source} reconstructs the bands it was trained with; to pre-train on others:"
      f" --config.init_from={arguments.source}"
    )
  shapes = descriptions.parameter_shapes(description)
  adapt, report = transfer.plan(saved, shapes, rules)
  transfer.check_whole(saved, shapes, report)
  here = jax.sharding.SingleDeviceSharding(jax.local_devices(backend="cpu")[0])

  def read(path):
    array = saved.read({path: jax.ShapeDtypeStruct(saved.shapes[path], np.float32, sharding=here)})[path]
    return adapt.get(path, lambda x: x)(np.asarray(array)).astype(np.float32, copy=False)

  folder.write(arguments.destination, description, shapes, read)
  first, *others = descriptions.summary(description, shapes)
  say(f"wrote {arguments.destination}: {first}", *others)
  for key, value in changes.items():
    say(
      f"model.{key} was {before['model'][key]} and is {value}: on maps that windows do not divide or exceed,"
      " outputs differ from those of the source"
    )
  if arguments.bands:
    say(
      "; ".join(
        f"{name} " + ", ".join(f"{x:g}" for x in description["data"][name]) for name in ("mean", "std")
      )
    )
  say(*(line for line in report.lines() if not line.startswith("  loaded")))


def _export(arguments) -> None:
  from swin_jax.saved import folder
  from swin_jax.weights import exporter

  for line in exporter.export(folder.open_saved(arguments.source), arguments.destination, arguments.layout):
    say(line)


def _verify(arguments) -> None:
  from swin_jax.saved import folder

  digests.verify(arguments.folder, folder.CONFIG, "restore what is damaged, or write the folder again")


if __name__ == "__main__":
  cli.leave(main(sys.argv))
