"""Exports a trained model to a folder that can be run without swin_jax.

  python -m swin_jax.export SRC DST [--image_size= --window=] [--dtype=bfloat16] [--features] \\
      [--weights=beside]
  python -m swin_jax.export SRC DST --format=onnx [--image_size= --window=] [--features]

SRC is a run's workdir, one WORKDIR/checkpoints/STEP, or a model folder. DST is created, complete or not at
all, with

  model.stablehlo    the forward pass by `jax.export`, for CPU, CUDA and TPU in one file: any batch size, one
                     image size
  load.py            runs it; needs only jax, flatbuffers and numpy: `python DST/load.py` runs it on zeros
  model.safetensors  with --weights=beside: the weights, which are otherwise inside model.stablehlo; DST is
                     then also a model folder
  config.json        describes the model: "data" gives the properties of its images, "export" the inputs and
                     outputs

or, instead of the first three, model.onnx for ONNX Runtime. That format needs jax2onnx, in an environment of
its own (pip install 'swin_jax[onnx]'), and an image size that requires no padding.

The input is images and the output is logits. For a backbone without a head, the output is pooled features.
For a masked-image model, the input is images and mask and the output is the reconstruction. With --features,
the input is images alone and the output is the feature pyramid, the output of every stage. Gradients are not
exported.

jax guarantees that model.stablehlo runs with a jax version up to six months newer, or three weeks older, than
the one that exported it.
"""

import sys

from swin_jax.terminal import preemption, quiet

if __name__ == "__main__":
  preemption.listen()  # before the slow imports
  quiet.libraries()

from swin_jax.terminal import cli, files
from swin_jax.terminal.addresses import local_path
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import say

# limit of weights in one file: flatbuffers and protobuf use 31-bit sizes, and the program needs room
LARGEST_BYTES = 2**31 - 2**26


def _parser() -> cli.Parser:
  parser = cli.Parser(prog="python -m swin_jax.export", description=__doc__)
  parser.add_argument(
    "source",
    metavar="SRC",
    help="workdir, WORKDIR/checkpoints/STEP, model folder, or public weights as for swin_jax.load",
  )
  parser.add_argument("destination", type=local_path, metavar="DST", help="folder to create")
  parser.add_argument(
    "--format", default="stablehlo", choices=("stablehlo", "onnx"), help="format of the exported program"
  )
  parser.add_argument("--image_size", type=cli.sizes((1, 2, 3)), help="pixels, or HEIGHT,WIDTH")
  parser.add_argument("--window", type=cli.sizes((1, 2, 3)), help="tokens, or HEIGHT,WIDTH, for all stages")
  parser.add_argument(
    "--dtype", default="float32", choices=("float32", "bfloat16"), help="precision of the matrix products"
  )
  parser.add_argument(
    "--features", action="store_true", help="the output of every stage instead of the logits"
  )
  parser.add_argument(
    "--weights",
    default="inside",
    choices=("inside", "beside"),
    help="inside the program, up to 2 GB, or in a separate file next to it",
  )
  return parser


def main(argv: list[str]) -> int:
  """Runs the command and returns its exit code."""
  return cli.exit_code(lambda: _export(_parser().parse_args(argv[1:])))


def _export(arguments) -> None:
  beside = arguments.weights == "beside"
  if arguments.format == "onnx" and (beside or arguments.dtype != "float32"):
    raise BadInput(
      "--format=onnx has float32 products and contains its weights; leave out --dtype and --weights"
    )

  import jax  # late, because importing jax takes seconds

  from swin_jax.export import forward as forwards
  from swin_jax.export import onnx, stablehlo
  from swin_jax.saved import description as descriptions
  from swin_jax.saved import folder, pretrained
  from swin_jax.weights import converted

  files.check_free(arguments.destination)
  model, params = pretrained.load(
    converted.path(arguments.source),
    window=arguments.window,
    image_size=arguments.image_size,
    dtype=arguments.dtype,
    kernel="xla",
  )
  if arguments.format == "onnx" and model.backbone.pads(model.description):
    raise BadInput(
      "--format=onnx: windows or patches extend beyond the image, and jax2onnx cannot pad; give --image_size"
      " or --window"
    )
  forward = forwards.make(model, params, arguments.features)
  size = sum(leaf.nbytes for leaf in forward.weights.values())
  if not beside and size > LARGEST_BYTES:
    raise BadInput(
      f"{arguments.source} has {size / 1e9:.1f} GB of weights, but one file holds at most 2: give "
      "--weights=beside, which ONNX does not support"
    )
  shapes = {path: leaf.shape for path, leaf in forward.weights.items()}
  first, *others = descriptions.summary(model.description, shapes)
  say(f"{arguments.source}: {first}", *others)

  about = (
    forward.describe()
    | {key: getattr(arguments, key) for key in ("format", "weights", "dtype")}
    | {"jax": jax.__version__}
  )
  with folder.new(arguments.destination) as path:
    if arguments.format == "onnx":
      about |= onnx.write(path, forward)
    else:
      about |= stablehlo.write(path, forward, beside)
    folder.write_config(path, model.description | {"export": about})
    sizes = {file.name: file.stat().st_size for file in sorted(path.iterdir())}
  for kind in ("inputs", "outputs"):
    say(
      f"{kind}: "
      + ", ".join(
        f"{array['name']} {' × '.join(map(str, array['shape']))} {array['dtype']}" for array in about[kind]
      )
    )
  say(
    f"wrote {arguments.destination}: "
    + ", ".join(f"{name} {size / 1e3:,.0f} kB" for name, size in sizes.items())
  )


if __name__ == "__main__":
  cli.leave(main(sys.argv))
