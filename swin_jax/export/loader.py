"""Runs the exported model in this folder. Needs jax, flatbuffers and numpy.

The model is a program, so load it only if you trust its source.

  import load
  run, config = load.load()
  logits = run(images)    # float32 [batch, height, width, bands]: (pixels / 255 - mean) / std

config["data"] has mean, std and image size, config["export"] the inputs and outputs. `python load.py` runs
the model on zeros.
"""

import functools
import hashlib
import json
import pathlib
import sys

import jax
from jax import export
import numpy as np


def load(folder=pathlib.Path(__file__).parent):
  """Returns the model as a function, compiled at its first call with each batch size, and its config.json.

  Raises:
    ValueError: a file has changed since the export.
  """
  folder = pathlib.Path(folder)
  try:
    config = json.loads((folder / "config.json").read_text("utf-8"))
  except ValueError:
    config = None
  check(folder, config)
  run = jax.jit(export.deserialize(bytearray((folder / "model.stablehlo").read_bytes())).call)
  if config["export"]["weights"] == "beside":
    run = functools.partial(run, jax.device_put(read_weights(folder / "model.safetensors")))
  return run, config


def check(folder, config):
  """Checks config.json and the files that `load` reads against the SHA-256 of each, which config.json holds.

  Raises:
    ValueError: a file has changed since the export; the message names it.
  """
  if not _is_intact(config):
    raise ValueError(f"{folder / 'config.json'} has changed since the export; copy it again")
  known = config["digests"]
  for name in ("model.stablehlo", "model.safetensors"):
    if name in known and _sha256(folder / name) != known[name]["sha256"]:
      raise ValueError(f"{folder / name} is missing or has changed since the export; copy it again")


def _is_intact(config):
  """Returns whether config.json has the content whose SHA-256 it holds."""
  try:
    known, sha256 = config["digests"], config["digests"]["config.json"]["sha256"]
  except (KeyError, TypeError):
    return False
  rest = config | {"digests": {name: known[name] for name in known if name != "config.json"}}
  text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
  return hashlib.sha256(text.encode()).hexdigest() == sha256


def _sha256(path):
  if not path.is_file():  # a pipe would block
    return None
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def read_weights(path):
  """Reads the arrays of a safetensors file, all float32: the header's length, the header, and the data."""
  data = np.memmap(path, np.uint8, "r")
  start = 8 + int.from_bytes(data[:8].tobytes(), "little")
  header = json.loads(data[8:start].tobytes())
  header.pop("__metadata__", None)
  flat = {
    name: data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]
    for name, entry in header.items()
  }
  return {name: flat[name].view("<f4").reshape(entry["shape"]) for name, entry in header.items()}


if __name__ == "__main__":
  try:
    model, about = load()
  except (OSError, ValueError) as error:
    sys.exit(f"load.py: {error}")
  zeros = [np.zeros([1, *entry["shape"][1:]], entry["dtype"]) for entry in about["export"]["inputs"]]
  for entry, result in zip(about["export"]["outputs"], jax.tree.leaves(model(*zeros)), strict=True):
    print(entry["name"], result.shape, result.dtype)
