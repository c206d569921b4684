"""Addresses of remote storage, which flags and config keys that name files do not accept."""

import re

from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.printable import printable

# With one slash, a path that a program has normalised; a single letter may be a drive.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?:://|(?<=..):/)")
# Scheme → documentation of mounting such storage as a folder.
_MOUNTS = {"gs": "https://cloud.google.com/storage/docs/cloud-storage-fuse/overview"}


def _scheme_of(path: object) -> str:
  """Returns the scheme of an address, like "gs" for gs://bucket/x; "" for a path of a file system."""
  match = _SCHEME.match(str(path))
  return match[1].lower() if match else ""


def local_path(text: str) -> str:
  """Returns the value of a flag that names a file or folder; raises as `check_local`."""
  check_local("", text)
  return text


def check_local(what: str, path: object) -> None:
  """Checks that a path is one of a file system.

  Every path that the user gives passes through here, except the folder of compiled programs: jax can keep
  those in a bucket.

  Args:
    what: what names the path, for the message: a flag like "--out", a config key, or "".
    path: the given path.

  Raises:
    BadInput: it is an address, or has control characters, which some libraries cannot open.
  """
  if any(ord(character) < 32 for character in str(path)):
    raise BadInput(f"{what}{'=' * bool(what)}{printable(path)} has control characters; rename it")
  if not (scheme := _scheme_of(path)):
    return
  page = f" ({_MOUNTS[scheme]})" if scheme in _MOUNTS else ""
  raise BadInput(
    f"{what}{'=' * bool(what)}{path} is an address, but must be a path on this machine: mount the bucket"
    f"{page} or copy the files, and give the path of the folder"
  )
