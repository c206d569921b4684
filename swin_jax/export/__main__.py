"""A trained model → a folder that runs it without this program.

  python -m swin_jax.export SRC DST [--image_size= --window=] [--dtype=bfloat16] [--features] [--weights=beside]

SRC is a run's workdir, one WORKDIR/checkpoints/STEP, or a model folder. DST is made, whole or not at all, with

  model.stablehlo    the forward pass by `jax.export`, for CPU, CUDA and TPU in one: any batch size, one image size
  config.json        the model; under "data" what its images must be, under "export" what goes in and what comes out
  load.py            runs it; needs only jax, flatbuffers and numpy: `python DST/load.py` tries it with zeros
  model.safetensors  with --weights=beside: the weights, which are else inside model.stablehlo; DST is then a model folder too

Images go in and logits come out; of a backbone without head, pooled features; of a masked-image model, which takes images and mask,
the reconstruction; with --features the pyramid, the output of every stage. There is no gradient in it.

jax promises that it runs where jax is up to six months newer, or three weeks older, than where it was made.
"""

import sys

from swin_jax import cli


def _parser() -> cli.Parser:
  parser = cli.Parser(prog="python -m swin_jax.export", description=__doc__)
  parser.add_argument("source", metavar="SRC", help="workdir, WORKDIR/checkpoints/STEP or model folder")
  parser.add_argument("destination", metavar="DST", help="the folder to make")
  parser.add_argument("--image_size", type=cli.size, help="pixels, or HEIGHT,WIDTH")
  parser.add_argument("--window", type=cli.size, help="tokens, or HEIGHT,WIDTH, for all stages")
  parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the matrix products")
  parser.add_argument("--features", action="store_true", help="the output of every stage instead of the logits")
  parser.add_argument("--weights", default="inside", choices=("inside", "beside"), help="inside the program, up to 2 GB, or beside it")
  return parser


def main(argv: list[str]) -> int:
  """Runs the command and returns its exit code."""

  def body():
    arguments = _parser().parse_args(argv[1:])
    from swin_jax.export import stablehlo  # pylint: disable=g-import-not-at-top  (jax takes seconds; a typo should not)

    for line in stablehlo.export(**vars(arguments)):
      print(line)

  return cli.exit_code(body)


if __name__ == "__main__":
  cli.leave(main(sys.argv))
