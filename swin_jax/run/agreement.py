"""Checks at the start that all processes of a run have the same code, libraries, config and data.

Otherwise they would train on, each by its own numbers, to a model that nobody described.
"""

from collections.abc import Callable, Mapping
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

import flax
import jax
from ml_collections import ConfigDict

from swin_jax.data.feed import pipeline
from swin_jax.data.read import manifest
from swin_jax.data.read.example import Example, Source
from swin_jax.mesh import distributed
from swin_jax.terminal import digests
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed

CODE = pathlib.Path(__file__).parents[1]
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "pillow")
# How fast and from where a process reads may differ; `check_data` compares what it reads.
MAY_DIFFER = ("data.num_threads", "data.num_workers", "data.path")


def check_program() -> None:
  """Checks that all processes run the same code with the same libraries.

  Raises:
    BadInput: they do not; the message names the first difference. All processes raise it.
  """
  _check(_program, "install the same versions on all hosts")


def check_config(config: ConfigDict) -> None:
  """Checks that all processes were given the same config. See `check_program`."""
  _check(lambda: _keys(config), "give all processes the same config and flags")


def check_data(data: pipeline.Input, config: ConfigDict) -> None:
  """Checks that all processes see the same data. See `check_program`."""
  _check(
    lambda: _describe(data, config.data.path),
    f"all hosts must have the same data, here at data.path={config.data.path}",
  )


def _check(describe: Callable[[], Mapping[str, Any]], advice: str) -> None:
  """Compares what `describe` returns, name → value, between the processes."""
  if jax.process_count() == 1:
    return
  values = {name: str(value) for name, value in describe().items()}
  text = json.dumps(values, sort_keys=True)
  if len(set(distributed.gather(digests.of_bytes(text.encode())["sha256"]))) == 1:
    return
  each = [json.loads(text) for text in distributed.gather(text)]  # long, so only if they differ
  raise BadInput(f"{difference(each)}; {advice}")


def difference(processes: list[Mapping[str, str]]) -> str:
  """Returns what differs between processes and between which, for a message; "" if they are equal.

  Args:
    processes: name → value, of each process.
  """
  names = sorted(set().union(*processes))
  differing = [name for name in names if len({values.get(name) for values in processes}) > 1]
  if not differing:
    return ""
  name, holders = differing[0], {}
  for index, values in enumerate(processes):
    holders.setdefault(values.get(name, "absent"), []).append(index)
  shown = [f"{_short(value)} in {_numbers(indices)}" for value, indices in holders.items()]
  more = f", and so do {', '.join(differing[1:4])}" + " …" * (len(differing) > 4) if differing[1:] else ""
  return f"{name} differs between the processes: " + " but ".join(shown[:3]) + more


def _numbers(indices: list[int]) -> str:
  return f"process{'es' * (len(indices) > 1)} {listed(list(map(str, indices)))}"


def _short(value: str) -> str:
  return value if len(value) <= 60 else f"{value[:60]}…"


def _keys(config: ConfigDict) -> dict[str, Any]:
  flat = flax.traverse_util.flatten_dict(json.loads(json.dumps(config.to_dict())), sep=".")
  return {f"config.{key}": value for key, value in flat.items() if key not in MAY_DIFFER}


def _program() -> dict[str, str]:
  versions = {f"the version of {name}": _version(name) for name in LIBRARIES}
  return versions | {
    "the version of Python": ".".join(platform.python_version_tuple()[:2]),
    "the code of swin_jax (a digest)": _digest_of_code(),
  }


def _version(library: str) -> str:
  try:
    return importlib.metadata.version(library)
  except importlib.metadata.PackageNotFoundError:
    return "absent"


@functools.cache
def _digest_of_code() -> str:
  digest = hashlib.sha256()
  for path in sorted(CODE.rglob("*.py")):
    digest.update(f"{path.relative_to(CODE).as_posix()}\0".encode() + path.read_bytes() + b"\0")
  return digest.hexdigest()[:12]


def _describe(data: pipeline.Input, path: str) -> dict[str, Any]:
  """Returns what tells a set from another: its sizes, classes, names, and checksums or some examples."""
  about = {}
  for split, source in (("training", data.train_source), ("evaluation", data.eval_source)):
    about[f"the number of {split} examples"] = len(source)
    about[f"the number of classes of the {split} data"] = source.num_classes
    about[f"the class names of the {split} data"] = ", ".join(source.class_names)
    about[f"the content of the {split} data (a digest)"] = _digest_of_examples(source)
  if path and os.path.isfile(manifest.path_of(path)):
    about[f"{manifest.NAME} (a digest)"] = digests.of_file(manifest.path_of(path))["sha256"][:12]
  return about


def _digest_of_examples(source: Source) -> str:
  digest = hashlib.sha256(source.listing)
  for index in sorted({0, len(source) // 2, len(source) - 1}):
    try:
      example = source[index]
    except (ValueError, RuntimeError, OSError):  # the pipeline reports damage
      example = Example(b"damaged", -1, "")
    for value in (example.image, example.target):
      digest.update(value if isinstance(value, bytes) else value.tobytes() if value is not None else b"")
    digest.update(f"\0{example.label}\0".encode())
  return digest.hexdigest()[:12]
