"""Digests of files, their size and SHA-256, by which damage is detected before a file is used.

A sealed folder keeps them in one of its JSON files, in the group `digests`: name → {"size": bytes, "sha256":
hexadecimal digits} of every other file, and under the JSON file's own name those of the rest of its content,
written in one fixed way. So whoever reformats the file changes nothing, and a changed digit is detected.
"""

from collections.abc import Callable, Mapping
import hashlib
import json
import os
import pathlib
import stat
from typing import Any

from swin_jax.terminal import json_files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.files import is_plain_name, open_regular
from swin_jax.terminal.progress import Progress, say

GROUP = "digests"
_CHUNK = 2**20

Digest = dict[str, Any]  # {"size": int, "sha256": str}


def of_file(path: str | os.PathLike, tick: Callable[[int], None] = lambda _: None) -> Digest:
  """Returns the digest of a file; `tick` is called with the number of bytes after each piece."""
  sha256, size, buffer = hashlib.sha256(), 0, memoryview(bytearray(_CHUNK))
  with open_regular(path) as file:
    while count := file.readinto(buffer):
      sha256.update(buffer[:count])
      size += count
      tick(count)
  return {"size": size, "sha256": sha256.hexdigest()}


def of_bytes(content: bytes) -> Digest:
  """Returns the digest of a file with this content."""
  return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def find_damage(
  path: str | os.PathLike, digest: Digest, read: bool = True, tick: Callable[[int], None] = lambda _: None
) -> str:
  """Describes how a file differs from its digest, as the end of a sentence; returns "" if it does not.

  Args:
    path: of the file.
    digest: what `of_file` returned.
    read: also compare the content; otherwise only the size.
    tick: see `of_file`.
  """
  try:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):
      return "is not a file"
    if status.st_size != digest["size"]:
      return f"has {status.st_size:,} bytes, not {digest['size']:,}"
    if read and of_file(path, tick) != digest:
      return "has changed: its content has another SHA-256"
  except (FileNotFoundError, NotADirectoryError):
    return "is missing"
  except OSError as error:
    return f"cannot be read: {error.strerror or error}"
  return ""


def seal(document: Mapping[str, Any], name: str, files: Mapping[str, Digest]) -> dict[str, Any]:
  """Returns the content of a folder's JSON file with the group `digests`.

  Args:
    document: the content.
    name: of the JSON file.
    files: digest of every other file, by name.
  """
  # The digest is that of what will be read: tuples become lists, and keys become strings.
  sealed = json.loads(json.dumps(dict(document) | {GROUP: dict(sorted(files.items()))}))
  sealed[GROUP][name] = _of_document(sealed, name)
  return sealed


def read(document: Mapping[str, Any], name: str) -> dict[str, Digest] | None:
  """Returns the digests of the other files of a folder, by name; None if the folder has none.

  Args:
    document: the content of its JSON file.
    name: of the JSON file.

  Raises:
    ValueError: the JSON file has changed since it was sealed; the message is the end of a sentence.
  """
  if GROUP not in document:
    return None
  group = document[GROUP]
  if not isinstance(group, dict) or group.get(name) != _of_document(document, name):
    raise ValueError(f"has changed since it was written (its {GROUP} do not match)")
  files = {file: digest for file, digest in group.items() if file != name}
  for file, digest in files.items():
    if not is_plain_name(file) or not _is_digest(digest):
      raise ValueError(f"has an entry {ascii(file)} in {GROUP} that is not a file of its folder")
  return files


def verify(folder: str, name: str, advice: str) -> None:
  """Checks every file of a sealed folder, and prints those that are damaged, missing or unexpected.

  Args:
    folder: the folder.
    name: of its JSON file.
    advice: what to do about damage, as the end of a sentence.

  Raises:
    BadInput: a file is damaged or missing, or the folder has no digests.
  """
  path = pathlib.Path(folder)
  if not (path / name).is_file():
    raise BadInput(f"{folder} holds no file {name}, which has the digests of its files")
  try:
    files = read(json_files.read(path / name, dict, advice), name)
  except ValueError as error:
    raise BadInput(f"{path / name} is damaged: it {error}; {advice}") from error
  if files is None:
    raise BadInput(f"{path / name} has no {GROUP}: it is of an older version, or of another kind of folder")
  progress = Progress(f"verifying {folder}", sum(digest["size"] for digest in files.values()) / 1e6, "MB")
  damaged = 0
  for file, digest in files.items():
    if damage := find_damage(path / file, digest, tick=lambda count: progress.step(count / 1e6)):
      damaged += 1
      say(f"{file} {damage}")
  for file in sorted(set(os.listdir(path)) - {name, *files}):
    say(f"{file} is unexpected: {name} does not list it")
  if damaged:
    raise BadInput(
      f"{folder}: {damaged} of {len(files)} files are damaged or missing, as named above; {advice}"
    )
  progress.finish(f"; {len(files)} files are as they were written")


def _of_document(document: Mapping[str, Any], name: str) -> Digest:
  """Returns the digest of a JSON file's content without the entry that will hold this digest."""
  rest = {file: digest for file, digest in document[GROUP].items() if file != name}
  text = json.dumps(dict(document) | {GROUP: rest}, sort_keys=True, separators=(",", ":"))
  return of_bytes(text.encode())


def _is_digest(value: Any) -> bool:
  return (
    isinstance(value, dict)
    and value.keys() == {"size", "sha256"}
    and type(value["size"]) is int
    and isinstance(value["sha256"], str)
  )
