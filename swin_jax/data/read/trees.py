"""Folders, zip and tar files, read alike."""

from collections import Counter
from collections.abc import Iterator
import contextlib
import itertools
import os
import re
import tarfile
import threading
from typing import NamedTuple, Protocol
import zipfile

from swin_jax.data.read import archives, limits, plain_files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import clean

_DEEPEST, _LONGEST = 64, 1024  # folders around a file in an archive, and characters of its name
_TARS = (".tar", ".tar.gz", ".tgz")
# What macOS, Windows and network storage put between the files of their users, in lower case.
_JUNK = {
  *("__macosx", "icon\r", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "system volume information"),
  *("lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini"),
}


class Tree(Protocol):
  """Folders and files. Paths inside the tree use "/", and "" is its root.

  Attributes:
    name: path of the folder or archive.
    left_out: names of entries that cannot be read because of their names or kinds; empty for a folder.
  """

  name: str
  left_out: list[str]

  def entries(self, folder: str) -> list[tuple[str, bool]]:
    """Returns (name, is a folder) of the entries of a folder, sorted."""

  def read(self, path: str) -> bytes: ...


class Listing(NamedTuple):
  """Everything in a tree.

  Attributes:
    files: paths of all files, sorted folder by folder.
    folders: paths of all folders, with a trailing "/".
    hidden: paths of folders whose names begin with a dot, with a trailing "/"; what is in them is not listed.
    junk: names of files and folders of operating systems that are passed over → how often; all names that
      begin with a dot count as ".*".
  """

  files: list[str]
  folders: list[str]
  hidden: list[str]
  junk: Counter[str]


def open_tree(path: str) -> Tree:
  """Opens a folder, a zip or a tar file.

  Raises:
    BadInput: it is none of these, or is damaged.
  """
  if os.path.isdir(path):
    return Disk(path)
  if path.lower().endswith(_TARS):
    return Tar(path)
  if os.path.isfile(path) and not (path.lower().endswith(".zip") or zipfile.is_zipfile(path)):
    raise BadInput(
      f"{path} is neither a folder, a zip or tar file, nor an image by its ending; give the folder of the"
      " images"
    )
  return Zip(path)


def inside(tree: Tree, file: str) -> str:
  """Returns the path in a tree of a file on disk; "" if it lies elsewhere."""
  path = os.path.relpath(os.path.realpath(file), os.path.realpath(tree.name)) if file else ".."
  return "" if path.startswith("..") else path


def list_all(tree: Tree, folder: str = "") -> Listing:
  """Lists a tree, or one of its folders (with a trailing "/"), reading each folder once."""
  listing = Listing([], [], [], Counter())
  listing.files.extend(_walk(tree, folder, listing))
  return listing


def first_files(tree: Tree, folder: str, count: int) -> list[str]:
  """Returns up to `count` files of a folder and those in it, without following links; stops at a folder that
  cannot be listed.
  """
  paths: list[str] = []
  if not _is_link(tree, folder):
    with contextlib.suppress(BadInput):
      for path in itertools.islice(_walk(tree, folder, Listing([], [], [], Counter()), False), count):
        paths.append(path)
  return paths


def is_junk(name: str) -> bool:
  """Returns whether a name is passed over: a hidden one, or one of an operating system."""
  return name.startswith(".") or name.lower() in _JUNK


def _is_link(tree: Tree, folder: str) -> bool:
  return isinstance(tree, Disk) and os.path.islink(os.path.join(tree.name, folder.rstrip("/")))


def _walk(tree: Tree, folder: str, listing: Listing, follows_links: bool = True) -> Iterator[str]:
  for name, is_folder in tree.entries(folder):
    if is_junk(name):
      listing.junk[".*" if name.startswith(".") else name] += 1
      if is_folder and name.startswith("."):
        listing.hidden.append(f"{folder}{name}/")
    elif is_folder:
      if follows_links or not _is_link(tree, folder + name):
        listing.folders.append(f"{folder}{name}/")
        yield from _walk(tree, listing.folders[-1], listing, follows_links)
    else:
      yield folder + name


class Disk:
  """A folder on disk."""

  left_out: list[str] = []

  def __init__(self, path: str):
    self.name = path

  def entries(self, folder: str) -> list[tuple[str, bool]]:
    try:
      with os.scandir(os.path.join(self.name, folder)) as entries:
        return sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
      raise BadInput(f"{error.filename or self.name} cannot be listed: {error.strerror}") from error

  def read(self, path: str) -> bytes:
    return plain_files.read(os.path.join(self.name, path))


class _Archive:
  """Files in an archive; reads one at a time, because an archive has a single file position.

  Names are cleaned of control characters, and "\\" counts as "/", as some Windows programs write it. A name
  with an absolute path or with ".." is left out, like the second of two entries with the same name.
  """

  def __init__(self, path: str):
    self.name, self.left_out = path, []
    self._lock = threading.Lock()
    self._folders: dict[str, dict[str, bool]] = {"": {}}
    self._members: dict[str, str | tarfile.TarInfo] = {}

  def _add(self, path: str, member: str | tarfile.TarInfo) -> None:
    """Adds an entry to the folders that it lies in."""
    slashed = clean(path).replace("\\", "/")
    *folders, name = slashed.split("/")
    if slashed.startswith("/") or ".." in (*folders, name) or re.match("[A-Za-z]:/", slashed):
      self.left_out.append(path)
      return
    folders = [folder for folder in folders if folder not in ("", ".")]
    if len(folders) > _DEEPEST or len(path) > _LONGEST:
      self.left_out.append(path)
      return
    parent = ""
    for folder in folders:
      if not self._folders[parent].setdefault(folder, True):  # a file has the name of this folder
        self.left_out.append(path)
        return
      parent += folder + "/"
      self._folders.setdefault(parent, {})
    if name and name in self._folders[parent]:
      self.left_out.append(path)
    elif name:
      self._folders[parent][name] = False
      self._members[parent + name] = member

  def entries(self, folder: str) -> list[tuple[str, bool]]:
    return sorted(self._folders[folder and folder.rstrip("/") + "/"].items())


class Zip(_Archive):
  """A zip file."""

  def __init__(self, path: str):
    super().__init__(path)
    try:
      plain_files.check(path)
      self._file = zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
      raise BadInput(f"{path} cannot be opened as a zip file: {error}") from error
    for member in self._file.namelist():
      self._add(member, member)

  def read(self, path: str) -> bytes:
    with self._lock:
      return archives.read(self._file, self._members[path])


class Tar(_Archive):
  """A tar file, also one compressed with gzip. Links, devices and sparse files are left out."""

  def __init__(self, path: str):
    super().__init__(path)
    try:
      plain_files.check(path)
      self._file = tarfile.TarFile(fileobj=archives.unpacked(path))
      members = list(self._file)
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
      raise BadInput(f"{path} cannot be opened as a tar file: {error}") from error
    for member in members:
      if member.isdir():
        self._add(member.name + "/", member)
      elif member.isreg() and not member.issparse():
        self._add(member.name, member)
      else:
        self.left_out.append(member.name)

  def read(self, path: str) -> bytes:
    member = self._members[path]
    limits.check_bytes(member.size)
    with self._lock:
      try:
        return self._file.extractfile(member).read()
      except tarfile.TarError as error:
        raise ValueError(f"cannot be read from the archive: {' '.join(str(error).split())}") from error


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
