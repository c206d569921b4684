"""Flags that take numbers: what is outside their range is refused in one line, before anything is read."""

import argparse
import importlib

import pytest

from swin_jax.mesh import hardware
from swin_jax.terminal import cli, rules
from swin_jax.terminal.errors import BadInput

CONFIG = "--config=configs/quickstart.py"
NUMBERS = ("nan", "inf", "-inf", "-1", "1e300", "99999999999", "abc", "", "1e3x", "0x10", "1,nan", "9" * 5000)
# (command, words that it needs) → flags that take numbers.
FLAGS = {
  ("weights", "import", "SRC", "DST"): (
    "image_size",
    "window",
    "trained_window",
    "target_norm_window",
  ),
  ("weights", "adapt", "SRC", "DST"): ("image_size", "window", "bands"),
  ("export", "SRC", "DST"): ("image_size", "window"),
  ("show", "reconstruct", "SRC", "IMAGE", "--out=DIR"): (
    "image_size",
    "window",
    "bands",
    "mask_ratio",
    "mask_patch",
    "seed",
  ),
  ("show", "attention", "SRC", "IMAGE", "--out=DIR"): ("stage", "block", "head", "class", "cam_stage", "at"),
  ("plan", CONFIG): ("batch",),
  ("run.bench", CONFIG): ("seconds",),
}


def parse(command, *words):
  return (
    importlib.import_module(f"swin_jax.{command}{'.__main__' * ('.' not in command)}")
    ._parser()
    .parse_args(words)
  )


@pytest.mark.parametrize("words, flag", [(words, flag) for words, flags in FLAGS.items() for flag in flags])
def test_a_number_outside_its_range_is_refused_in_one_line(words, flag):
  for number in NUMBERS:
    with pytest.raises(BadInput, match=f"--{flag}: ") as error:
      parse(*words, f"--{flag}={number}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
  "words, flag, value, parsed",
  [
    (("weights", "import", "SRC", "DST"), "image_size", "32", 32),
    (("weights", "import", "SRC", "DST"), "image_size", "32,48", [32, 48]),
    (("weights", "import", "SRC", "DST"), "window", "8,8,8,7", [8, 8, 8, 7]),
    (("weights", "import", "SRC", "DST"), "trained_window", "0", 0),
    (("weights", "import", "SRC", "DST"), "mean", "-1.5,1e3", [-1.5, 1000.0]),
    (("weights", "import", "SRC", "DST"), "std", "0.5", [0.5]),
    (("weights", "adapt", "SRC", "DST"), "image_size", "4,32,32", [4, 32, 32]),
    (("weights", "adapt", "SRC", "DST"), "bands", "13", 13),
    (("show", "attention", "SRC", "IMAGE", "--out=DIR"), "head", "mean", None),
    (("show", "attention", "SRC", "IMAGE", "--out=DIR"), "at", "0.5,0.25", [(0.5, 0.25)]),
    (("plan", CONFIG), "batch", "0", 0),
  ],
)
def test_a_number_in_its_range_is_parsed(words, flag, value, parsed):
  assert getattr(parse(*words, f"--{flag}={value}"), flag) == parsed


def test_mean_and_deviations_are_finite():
  for number in ("nan", "inf", "-inf", "1e300", "-1e16", "abc", ""):
    with pytest.raises(BadInput, match="--mean: "):
      parse("weights", "import", "SRC", "DST", f"--mean={number}")
  for number in ("0", "-0.0", "1,0", "1e-300"):
    with pytest.raises(BadInput, match="--std: "):
      parse("weights", "import", "SRC", "DST", f"--std={number}")


@pytest.mark.parametrize(
  "topology", ["v5p:0x0x0", "v5p:-1", "h100:²", "h100:" + "9" * 5000, "v5p:4x4x", ":", "h100:0"]
)
def test_a_slice_that_cannot_be_is_one_line(topology):
  with pytest.raises(BadInput) as error:
    hardware.parse(topology)
  assert "\n" not in str(error.value)


def test_counts_of_numbers():
  two = cli.numbers(rules.Whole(1, 9), (2,))
  assert two("1,9") == [1, 9]
  for text, message in (
    ("1", "takes 2 values separated by commas, got 1"),
    ("1,2,3", "takes 2 values separated by commas, got 3"),
    ("1;2", "takes 2 values separated by commas, got 1"),
    ("1,", "'' must be an integer"),
    ("1,10", "'10' must be at least 1 and at most 9"),
  ):
    with pytest.raises(argparse.ArgumentTypeError, match=f"^{message}$"):
      two(text)
  with pytest.raises(argparse.ArgumentTypeError, match="^takes 1 value, got 2$"):
    cli.numbers(rules.Whole(1, 9), (1,))("1,2")
