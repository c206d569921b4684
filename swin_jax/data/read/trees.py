"""Folders and zip files, read alike."""

import os
import threading
from typing import Protocol
import zipfile

from swin_jax.data.read import archives, plain_files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import clean

_DEEPEST, _LONGEST = 64, 1024  # folders around a file in a zip, and characters of its name


class Tree(Protocol):
  """Folders and files. Paths inside the tree use "/", and "" is its root.

  Attributes:
    name: path of the folder or zip.
    left_out: names of entries that cannot be read because of their names; empty for a folder.
  """

  name: str
  left_out: list[str]

  def entries(self, folder: str) -> list[tuple[str, bool]]:
    """Returns (name, is a folder) of the entries of a folder, sorted, without hidden names."""

  def read(self, path: str) -> bytes: ...


def open_tree(path: str) -> Tree:
  """Opens a folder or a zip.

  Raises:
    BadInput: it is neither.
  """
  return Disk(path) if os.path.isdir(path) else Zip(path)


class Disk:
  """A folder on disk."""

  left_out: list[str] = []

  def __init__(self, path: str):
    self.name = path

  def entries(self, folder: str) -> list[tuple[str, bool]]:
    try:
      with os.scandir(os.path.join(self.name, folder)) as entries:
        return sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
      raise BadInput(f"{error.filename or self.name} cannot be listed: {error.strerror}") from error

  def read(self, path: str) -> bytes:
    return plain_files.read(os.path.join(self.name, path))


class Zip:
  """A zip file; reads one member at a time, because a zip handle has a single file position.

  Names are cleaned of control characters. A name with an absolute path or with ".." is left out, like the
  second of two entries with the same name.
  """

  def __init__(self, path: str):
    self.name, self.left_out = path, []
    self._lock = threading.Lock()
    try:
      plain_files.check(path)
      self._file = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
      raise BadInput(f"{path} cannot be opened as a zip file: {error}") from error
    self._folders: dict[str, dict[str, bool]] = {"": {}}
    self._members: dict[str, str] = {}
    for member in self._file.namelist():
      self._add(member)

  def _add(self, member: str) -> None:
    """Adds an entry to the folders that it lies in."""
    *folders, name = clean(member).split("/")
    if member.startswith("/") or ".." in (*folders, name):
      self.left_out.append(member)
      return
    folders = [folder for folder in folders if folder not in ("", ".")]
    if "__MACOSX" in folders or any(part.startswith(".") for part in (*folders, name)):
      return
    if len(folders) > _DEEPEST or len(member) > _LONGEST:
      self.left_out.append(member)
      return
    parent = ""
    for folder in folders:
      if not self._folders[parent].setdefault(folder, True):  # a file has the name of this folder
        self.left_out.append(member)
        return
      parent += folder + "/"
      self._folders.setdefault(parent, {})
    if name and name in self._folders[parent]:
      self.left_out.append(member)
    elif name:
      self._folders[parent][name] = False
      self._members[parent + name] = member

  def entries(self, folder: str) -> list[tuple[str, bool]]:
    return sorted(self._folders[folder and folder.rstrip("/") + "/"].items())

  def read(self, path: str) -> bytes:
    with self._lock:
      return archives.read(self._file, self._members[path])


def read_named(tree: Tree, path: str) -> bytes:
  """Returns the content of a file of a tree.

  Raises:
    OSError: the storage failed.
    ValueError: the file cannot be read; the message names it.
  """
  try:
    return tree.read(path)
  except ValueError as error:
    raise ValueError(f"{path}: {error}") from error


def folders(tree: Tree, folder: str) -> list[str]:
  """Returns the sorted names of the folders in a folder."""
  return [name for name, is_folder in tree.entries(folder) if is_folder]
