"""Files of named tensors: reads .safetensors and torch files, writes .safetensors, one tensor at a time.

This lets a laptop convert a model of 3 B parameters.
"""

from collections.abc import Callable, Iterable, Mapping
import json
import pathlib
import pickle
from typing import Any, NamedTuple

import numpy as np

from swin_jax.saved import hub
from swin_jax.terminal import addresses, files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import Progress

# entries that hold the weights in torch checkpoints: official, DeepSpeed, Lightning
ENTRIES = ("model", "module", "state_dict")
_DTYPES = {np.dtype(np.float32): "F32", np.dtype(np.int64): "I64"}


class Tensors(NamedTuple):
  """The tensors in a file.

  Attributes:
    source: name of the source, for messages.
    shapes: of every tensor, by name.
    read: name → the tensor; float32, or int64 for integers.
    folder: folder that may hold a config.json that describes the file.
  """

  source: str
  shapes: dict[str, tuple[int, ...]]
  read: Callable[[str], np.ndarray]
  folder: pathlib.Path


def open_tensors(source: str, allow_pickle: bool = False) -> Tensors:
  """Opens a file, a folder with model.safetensors or pytorch_model.bin, or hf://owner/name[/file].

  Args:
    source: path or address.
    allow_pickle: also read files that need Python's pickle, which may run code that the file contains.

  Raises:
    BadInput: the source cannot be read.
  """
  if hub.is_address(source):
    path = hub.fetch(source)
  else:
    addresses.check_local("", source)
    path = pathlib.Path(source)
  if path.is_dir():
    names = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    file = next((path / name for name in names if (path / name).exists()), None)
    if file is None:
      raise BadInput(f"{source} holds none of {', '.join(names)}; name the file")
    path = file
  if not path.is_file():
    raise BadInput(f"{source}: no such file")
  if path.suffix == ".json":
    return _open_parts(path, source)
  if path.suffix == ".safetensors":
    return _open_safetensors([path], source)
  return _open_torch(path, source, allow_pickle)


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


def _open_safetensors(paths: Iterable[pathlib.Path], source: str) -> Tensors:
  import safetensors

  files = {}
  for path in paths:
    if not path.is_file():  # opening a pipe would wait for ever
      raise BadInput(f"{source}: {path.name} does not exist or is not a plain file; fetch it again")
    try:
      file = safetensors.safe_open(path, framework="numpy")
    except (safetensors.SafetensorError, OSError) as error:
      raise BadInput(
        f"{source}: {path.name} is not a complete safetensors file ({error}); fetch it again"
      ) from error
    files |= dict.fromkeys(file.keys(), file)
  shapes = {name: tuple(file.get_slice(name).get_shape()) for name, file in files.items()}
  return Tensors(source, shapes, lambda name: _plain(files[name].get_tensor(name)), path.parent)


def _open_parts(index: pathlib.Path, source: str) -> Tensors:
  """Opens a model that Hugging Face's library has split into several files."""
  return _open_safetensors([index.parent / name for name in hub.parts(index)], source)


def _open_torch(path: pathlib.Path, source: str, allow_pickle: bool) -> Tensors:
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
    else:
      why = "is neither a PyTorch nor a .safetensors file, or is truncated"
    raise BadInput(f"{source} {why}") from error
  state = {
    name: tensor for name, tensor in _state(loaded, source).items() if isinstance(tensor, torch.Tensor)
  }
  shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}

  def read(name):
    tensor = state[name].detach()
    return _plain((tensor.float() if tensor.is_floating_point() else tensor).numpy())

  return Tensors(source, shapes, read, path.parent)


def _state(loaded: Any, source: str) -> Mapping[str, Any]:
  """Returns the weights in an object that torch has loaded."""

  def holds_tensors(entry):
    return isinstance(entry, Mapping) and any(hasattr(value, "shape") for value in entry.values())

  if isinstance(loaded, Mapping):
    for entry in ENTRIES:
      if holds_tensors(loaded.get(entry)):
        return loaded[entry]
    if holds_tensors(loaded):
      return loaded
  contents = f"it is a {type(loaded).__name__}"
  if isinstance(loaded, Mapping):
    contents = f"its entries are {', '.join(map(str, list(loaded)[:8])) or 'none'}"
  raise BadInput(
    f"{source} has no entry 'model' with weights (nor {' or '.join(map(repr, ENTRIES[1:]))}); {contents}"
  )


def _plain(value: np.ndarray) -> np.ndarray:
  return value.astype(np.int64 if value.dtype.kind in "iub" else np.float32, copy=False)
