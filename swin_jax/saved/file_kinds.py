"""Recognises files that hold no plain tensors, so that a refusal can say what they are and what to do."""

from collections.abc import Iterator
import io
import pathlib
import pickletools
import zipfile

from swin_jax.terminal.printable import printable

_BEGINNINGS = (
  (b"version https://git-lfs", "is a Git LFS pointer, not the weights: fetch them with git lfs pull"),
  (b"\x89HDF", "is an HDF5 file, as Keras writes; only .safetensors and PyTorch files can be imported"),
  (b"\x1f\x8b", "is compressed with gzip; unpack it first"),
  (b"\x93NUMPY", "is a NumPy file of one array; weights are .safetensors or PyTorch files"),
)
_WEB_PAGES = (b"<!doctype html", b"<html")
_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C  # the first pickle in a file of torch's older format
_BETWEEN = 2  # pickles between that number and the object
_MOST = 2**16  # bytes of a pickle that are read: the class of an object stands at its beginning


def what_is_wrong(path: pathlib.Path, allow_modules: bool = False) -> str:
  """Returns what a file is and how to get weights from it; "" if it may hold weights.

  The file is not loaded: nothing in it is executed.

  Args:
    path: the file.
    allow_modules: whether a whole module is accepted.
  """
  with open(path, "rb") as file:
    start = file.read(64)
  for beginning, said in _BEGINNINGS:
    if start.startswith(beginning):
      return said
  if start.lstrip().lower().startswith(_WEB_PAGES):
    return "is a web page, not the weights: download the file itself"
  try:
    if start.startswith(b"PK"):
      return _wrong_archive(path, allow_modules)
    if start.startswith(b"\x80") and not allow_modules:
      return _wrong_object(path, _opcodes(path))
  except (ValueError, OSError, zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError):
    pass  # damaged: reported by the reader
  return ""


def _wrong_archive(path: pathlib.Path, allow_modules: bool) -> str:
  with zipfile.ZipFile(path) as archive:
    names = archive.namelist()
    pickles = [name for name in names if name.endswith("data.pkl")]
    if any(name.endswith("/constants.pkl") for name in names):
      return f"is a TorchScript program; save its weights first: {_save(path, 'jit.load(FILE)')}"
    if pickles and allow_modules:
      return ""
    if pickles:
      with archive.open(pickles[0]) as file:
        return _wrong_object(path, pickletools.genops(file.read(_MOST)))
  if names and all(name.endswith(".npy") for name in names):
    return (
      'is a NumPy archive (.npz); if its names are those of PyTorch, convert it: python -c "import numpy,'
      f" safetensors.numpy as s; s.save_file(dict(numpy.load('{path.name}')), '{path.stem}.safetensors')\""
    )
  return "is a ZIP archive without weights of PyTorch; if it contains a file of weights, unpack it first"


def _opcodes(path: pathlib.Path) -> Iterator:
  """Yields the first opcodes of the object in a file of torch's older format, or in a plain pickle."""
  with open(path, "rb") as file:
    start = io.BytesIO(file.read(_MOST))
  if any(argument == _MAGIC_NUMBER for _, argument, _ in list(pickletools.genops(start))):
    for _ in range(_BETWEEN):
      list(pickletools.genops(start))
  else:
    start.seek(0)
  return pickletools.genops(start)


def _wrong_object(path: pathlib.Path, opcodes: Iterator) -> str:
  """Returns what is wrong with a pickle whose object has a class of its own, as a module does."""
  strings = []
  for opcode, argument, _ in opcodes:
    if "UNICODE" in opcode.name:  # STACK_GLOBAL takes its names from the stack
      strings.append(argument)
    elif opcode.name in ("GLOBAL", "STACK_GLOBAL"):
      name = argument if opcode.name == "GLOBAL" else " ".join(strings[-2:])
      if name.startswith(("collections ", "torch._utils ")):  # an OrderedDict, or a tensor
        return ""
      return (
        f"is an object of the class {printable(name.replace(' ', '.'))}, pickled whole, not its state_dict();"
        " if you trust it and can import its class here: --allow_pickle; or save its weights:"
        f" {_save(path, 'load(FILE, weights_only=False)')}"
      )
    elif opcode.name not in ("PROTO", "FRAME", "MEMOIZE", "BINPUT", "MARK"):
      return ""
  return ""


def _save(path: pathlib.Path, load: str) -> str:
  """Returns a command that saves the state dict of the module that `torch.LOAD` returns for FILE."""
  load = load.replace("FILE", f"'{path.name}'")
  return f"python -c \"import torch; torch.save(torch.{load}.state_dict(), '{path.stem}_weights.pth')\""
