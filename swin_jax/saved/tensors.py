"""Files of named tensors: reads .safetensors and torch files, writes .safetensors, one tensor at a time.

This lets a laptop convert a model of 3 B parameters.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import json
import pathlib
import pickle
import re
from typing import Any, NamedTuple

import numpy as np

from swin_jax.saved import file_kinds, hub
from swin_jax.terminal import addresses, files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed
from swin_jax.terminal.progress import Progress

# Entries that hold the weights in torch checkpoints: official, DeepSpeed, Lightning.
ENTRIES = ("model", "module", "state_dict")
IN_FOLDERS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")  # the first is read
_DTYPES = {np.dtype(np.float32): "F32", np.dtype(np.int64): "I64"}


class Tensors(NamedTuple):
  """The tensors in a file.

  Attributes:
    source: name of the source, for messages.
    shapes: of every tensor, by name.
    read: name → the tensor; float32, or int64 for integers.
    files: that hold them.
    notes: what was chosen or left out while opening, for the user.
    class_names: those that the file states; empty if it states none.
  """

  source: str
  shapes: dict[str, tuple[int, ...]]
  read: Callable[[str], np.ndarray]
  files: tuple[pathlib.Path, ...]
  notes: tuple[str, ...] = ()
  class_names: tuple[str, ...] = ()

  @property
  def folder(self) -> pathlib.Path:
    """The folder that may hold a config.json that describes the files."""
    return self.files[0].parent

  def without(self, pattern: re.Pattern) -> "Tensors":
    """Returns the tensors whose names do not contain a match of a regular expression.

    Raises:
      BadInput: no tensor is left out, or none is left.
    """
    left_out = [name for name in self.shapes if pattern.search(name)]
    if not left_out or len(left_out) == len(self.shapes):
      which = "all tensors" if left_out else "no tensor"
      raise BadInput(
        f"--ignore={pattern.pattern} matches {which} of {self.source}; its first are"
        f" {', '.join(sorted(self.shapes)[:3])}"
      )
    shapes = {name: shape for name, shape in self.shapes.items() if name not in left_out}
    note = f"--ignore leaves out {len(left_out)} tensor{'s' * (len(left_out) > 1)}: {listed(left_out, 8)}"
    return self._replace(shapes=shapes, notes=(*self.notes, note))


def open_tensors(source: str, allow_pickle: bool = False, entry: str = "") -> Tensors:
  """Opens a file, a folder with model.safetensors or pytorch_model.bin, or hf://owner/name[/file].

  Args:
    source: path or address.
    allow_pickle: also read files that need Python's pickle, which may run code that the file contains.
    entry: the entry of a torch file that holds the weights; "" for the first of `ENTRIES`.

  Raises:
    BadInput: the source cannot be read.
  """
  if hub.is_address(source):
    path = hub.fetch(source)
  else:
    addresses.check_local("", source)
    path = pathlib.Path(source)
  if path.is_dir():
    file = next((path / name for name in IN_FOLDERS if (path / name).exists()), None)
    if file is None:
      raise BadInput(f"{source} holds none of {', '.join(IN_FOLDERS)}; name the file")
    path = file
  if not path.is_file():
    raise BadInput(f"{source}: no such file")
  if path.suffix in (".json", ".safetensors"):
    if entry:
      raise BadInput(f"{source} has no entries, as torch files have; leave out --entry")
    return _open_parts(path, source) if path.suffix == ".json" else _open_safetensors([path], source)
  return _open_torch(path, source, allow_pickle, entry)


def write(
  path: pathlib.Path,
  tensors: Iterable[tuple[str, tuple[int, ...], np.dtype]],
  read: Callable[[str], np.ndarray],
) -> None:
  """Writes a .safetensors file, complete or not at all, one tensor at a time.

  The library's own writer needs all tensors in memory, twice.

  Args:
    path: path of the file.
    tensors: (name, shape, dtype) of each tensor; dtypes are float32 or int64.
    read: name → the tensor.

  Raises:
    ValueError: a tensor that was read does not have the stated shape and dtype.
  """
  header, end = {"__metadata__": {"format": "pt"}}, 0  # required by the readers of Hugging Face and torch
  for name, shape, dtype in tensors:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    header[name] = {"dtype": _DTYPES[dtype], "shape": list(shape), "data_offsets": [end, end + size]}
    end += size
  text = json.dumps(header).encode()
  text += b" " * (-len(text) % 8)
  progress = Progress(f"writing {path.name}", end / 1e6, "MB")
  with files.replacing(path) as partial, open(partial, "wb") as file:
    file.write(len(text).to_bytes(8, "little") + text)
    for name, entry in header.items():
      if name != "__metadata__":
        value = np.asarray(read(name), order="C")
        if (_DTYPES[value.dtype], list(value.shape)) != (entry["dtype"], entry["shape"]):
          raise ValueError(f"{name} is {value.dtype} {value.shape}, not {entry['dtype']} {entry['shape']}")
        file.write(memoryview(value.reshape(-1)).cast("B"))
        progress.step(value.nbytes / 1e6)


def _open_safetensors(paths: Sequence[pathlib.Path], source: str) -> Tensors:
  import safetensors

  files = {}
  for path in paths:
    if not path.is_file():  # opening a pipe would wait for ever
      raise BadInput(f"{source}: {path.name} does not exist or is not a plain file; fetch it again")
    if wrong := file_kinds.what_is_wrong(path):
      raise BadInput(f"{path} {wrong}")
    try:
      file = safetensors.safe_open(path, framework="numpy")
    except (safetensors.SafetensorError, OSError) as error:
      raise BadInput(
        f"{source}: {path.name} is not a complete safetensors file ({error}); fetch it again"
      ) from error
    files |= dict.fromkeys(file.keys(), file)
  shapes = {name: tuple(file.get_slice(name).get_shape()) for name, file in files.items()}
  return Tensors(source, shapes, lambda name: _plain(files[name].get_tensor(name)), tuple(paths))


def _open_parts(index: pathlib.Path, source: str) -> Tensors:
  """Opens a model that Hugging Face's library has split into several files."""
  return _open_safetensors([index.parent / name for name in hub.parts(index)], source)


def _open_torch(path: pathlib.Path, source: str, allow_pickle: bool, entry: str) -> Tensors:
  if wrong := file_kinds.what_is_wrong(path, allow_modules=allow_pickle):
    raise BadInput(f"{path} {wrong}")
  try:
    import torch
  except ImportError as error:
    raise BadInput(
      f"{source} is a PyTorch file, and PyTorch is not installed: pip install torch, or convert it where "
      "PyTorch is installed: python -c"
      f' "import torch, safetensors.torch as s; s.save_file({{k: v.contiguous().clone() for k, v in'
      f" torch.load('{path.name}',"
      f" map_location='cpu', weights_only=True)['model'].items()}}, '{path.stem}.safetensors')\""
    ) from error
  with open(path, "rb") as file:
    start = file.read(20)
  zipped = start.startswith(b"PK")
  # the older format, which cannot be read a tensor at a time
  if not zipped and not start.startswith(b"\x80"):
    raise BadInput(f"{source} is neither a PyTorch nor a .safetensors file: it begins with {start!r}")
  try:
    loaded = torch.load(path, map_location="cpu", weights_only=not allow_pickle, mmap=zipped)
  except MemoryError:
    raise
  except Exception as error:  # torch's readers raise exceptions of many types
    if (
      not allow_pickle
      and isinstance(error, pickle.UnpicklingError)
      and "Weights only load failed" in str(error)
    ):
      raise BadInput(
        f"{source} holds more than tensors, and reading it could run its author's code; if you trust them: "
        "--allow_pickle"
      ) from error
    if isinstance(error, ModuleNotFoundError):
      why = f"needs {error.name} to be read: pip install {error.name}"
    elif isinstance(error, AttributeError):
      why = f"needs a class that cannot be imported here: {error}"
    else:
      why = "is neither a PyTorch nor a .safetensors file, or is truncated"
    raise BadInput(f"{source} {why}") from error
  held, notes = _state(loaded, source, entry)
  state = {name: tensor for name, tensor in held.items() if isinstance(tensor, torch.Tensor)}
  shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}

  def read(name):
    tensor = state[name].detach()
    return _plain((tensor.float() if tensor.is_floating_point() else tensor).numpy())

  return Tensors(source, shapes, read, (path,), notes, _class_names(loaded))


def _class_names(loaded: Any) -> tuple[str, ...]:
  """Returns the names of the classes in the metadata of OpenMMLab's files, old and new; () without any."""
  meta = loaded.get("meta") if isinstance(loaded, Mapping) else None
  meta = meta if isinstance(meta, Mapping) else {}
  new = meta.get("dataset_meta")
  names = meta.get("CLASSES") or (new.get("classes") if isinstance(new, Mapping) else None)
  known = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
  return tuple(names) if known else ()


def _state(loaded: Any, source: str, entry: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
  """Returns the weights in an object that torch has loaded, and notes on the entry that they are from.

  Raises:
    BadInput: there are no weights, or not in that entry; the message names the entries that have some.
  """
  if not isinstance(loaded, Mapping) and hasattr(loaded, "state_dict"):  # a module, pickled whole
    loaded = loaded.state_dict()
  if not isinstance(loaded, Mapping):
    raise BadInput(f"{source} has no weights by name: it is a {type(loaded).__name__}")
  counts = {name: _count_tensors(value) for name, value in loaded.items()}
  counts = {str(name): count for name, count in counts.items() if count}
  chosen = entry or next((name for name in ENTRIES if name in counts), "")
  if chosen in counts:
    # an optimizer's or a scheduler's few tensors are no weights
    others = [name for name, count in counts.items() if name != chosen and 2 * count >= counts[chosen]]
    also = f"; the file has weights also in {_entries(others)}" if others else ""
    return _mapping(loaded[chosen]), ((f"weights from the entry '{chosen}'{also}",) if also else ())
  if not entry and _count_tensors(loaded):
    return loaded, ()
  looked_for = f"'{entry}'" if entry else f"'model' with weights (nor {' or '.join(map(repr, ENTRIES[1:]))})"
  contents = f"its entries are {', '.join(map(str, list(loaded)[:8])) or 'none'}"
  weights = f"; there are weights in {_entries(counts)}" if counts else ""
  raise BadInput(f"{source} has no entry {looked_for}; {contents}{weights}")


def _entries(names: Iterable[str]) -> str:
  return " and ".join(f"'{name}' (--entry={name})" for name in names)


def _mapping(entry: Any) -> Mapping[str, Any]:
  """Returns the names and values in an entry: a state dict, or a module pickled whole."""
  if not isinstance(entry, Mapping) and callable(getattr(entry, "state_dict", None)):
    entry = entry.state_dict()
  return entry if isinstance(entry, Mapping) else {}


def _count_tensors(entry: Any) -> int:
  return sum(hasattr(value, "shape") for value in _mapping(entry).values())


def _plain(value: np.ndarray) -> np.ndarray:
  return value.astype(np.int64 if value.dtype.kind in "iub" else np.float32, copy=False)
