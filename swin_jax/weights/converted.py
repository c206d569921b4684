"""Public weights used directly: converted once into a model folder in a cache.

The cache is $SWIN_JAX_CACHE, or swin_jax in $XDG_CACHE_HOME, which is ~/.cache by default. What is downloaded
stays in Hugging Face's own cache.
"""

from collections.abc import Iterator
import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re

from swin_jax.saved import description as descriptions
from swin_jax.saved import folder, hub, tensors
from swin_jax.terminal import addresses, json_files, leftovers
from swin_jax.terminal.errors import BadInput, cannot_write
from swin_jax.terminal.progress import say, waiting, warn
from swin_jax.weights import importer, inference

CACHE = "SWIN_JAX_CACHE"  # environment variable
_REVISION = 1  # of the conversion; another one makes other entries
_SETTINGS = ("config.json", "preprocessor_config.json")  # next to the weights, see `config_file`


def path(source: str) -> str:
  """Returns a path that `folder.open_saved` opens, for all that `swin_jax.load` and config.init_from take.

  The path of a run or of a model folder is returned as it is. Other weights, at a path or on the hub, are
  converted as by `python -m swin_jax.weights import`, unless an intact conversion of the same files is in the
  cache.

  Raises:
    BadInput: the weights cannot be imported, or the cache cannot be written.
  """
  source = str(source)
  place = str(hub.fetch(source)) if hub.is_address(source) else source
  if not _is_foreign(place):
    return place
  opened = tensors.open_tensors(place)._replace(source=source)
  cache = _cache()
  entry = cache / f"{_stem(source)}-{_key(opened)}"
  if _is_intact(entry):  # also in a cache that cannot be written
    return str(entry)
  plan = _plan(opened)
  try:
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / ".lock"):
      if not _is_intact(entry):
        leftovers.remove(entry)
        with waiting(f"converting {source}"):
          folder.write(str(entry), plan.description, plan.shapes, plan.read)
        say(f"converted {source} into {entry}")
  except OSError as error:
    advice = f"set {CACHE} to a folder that can be written, or import {source} into a folder of your own"
    raise cannot_write(f"the cache {cache}", error, advice) from error
  return str(entry)


def _is_foreign(source: str) -> bool:
  """Returns whether a path has to be converted: it is a file, or a folder of other weights."""
  addresses.check_local("", source)
  if not os.path.isdir(source):
    return os.path.isfile(source)
  known = [name for name in tensors.IN_FOLDERS if os.path.isfile(os.path.join(source, name))]
  if known[:1] != [folder.WEIGHTS]:
    return bool(known)
  config = os.path.join(source, folder.CONFIG)
  return os.path.isfile(config) and "model" not in json_files.read(config, dict, "it must describe the model")


def _cache() -> pathlib.Path:
  if given := os.environ.get(CACHE):
    return pathlib.Path(given).absolute()
  return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "swin_jax"


def _stem(source: str) -> str:
  """Returns a readable beginning for the name of an entry: the last two parts of the source."""
  parts = pathlib.PurePath(source.removeprefix(hub.SCHEME)).with_suffix("").parts[-2:]
  return re.sub(r"[^A-Za-z0-9._-]+", "_", "--".join(parts)).strip("._")[-80:]


def _key(opened: tensors.Tensors) -> str:
  """Returns what distinguishes the files of a source from all others, by place, size and time of change."""
  files = [*opened.files, *(opened.folder / name for name in _SETTINGS)]
  facts = [_REVISION, pathlib.PurePath(opened.source).name]
  for file in map(os.path.realpath, files):  # in Hugging Face's cache, a link to a file named by its content
    status = os.stat(file) if os.path.exists(file) else None
    facts.append([file, status and [status.st_size, status.st_mtime_ns]])
  return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _is_intact(entry: pathlib.Path) -> bool:
  """Returns whether an entry is a complete model folder; says so if it is damaged."""
  if not os.path.lexists(entry):
    return False
  try:
    folder.SavedFolder(str(entry))
  except BadInput as error:
    warn(f"a conversion in the cache is damaged and will be made again: {error}")
    return False
  return True


def _plan(opened: tensors.Tensors) -> importer.Import:
  try:
    plan = importer.plan(opened, inference.Hints())
  except BadInput as error:
    flags = f"; to give flags: python -m swin_jax.weights import {opened.source} DST, then use DST"
    raise BadInput(f"{error}{flags if '--' in str(error) else ''}") from error
  first, *_ = descriptions.summary(plan.description, plan.shapes)
  say(f"{opened.source}: {first}; {'; '.join(plan.notes)}")
  return plan


@contextlib.contextmanager
def _locked(lock: pathlib.Path) -> Iterator[None]:
  """Lets one process at a time write; on a file system without locks, all may."""
  with open(lock, "a") as file:
    with contextlib.suppress(OSError), waiting("waiting for another process that converts weights"):
      fcntl.flock(file, fcntl.LOCK_EX)
    yield
