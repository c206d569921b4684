"""Checks a prepared set against its manifest, which holds the size and SHA-256 of every file of the set.

{path}/manifest.json   the group `digests` of `terminal.digests`; written once all parts of a split are
                       complete, by `data.prepare.sealing`
"""

import functools
import os

from swin_jax.terminal import digests, json_files
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import say

NAME = "manifest.json"


def path_of(path: str) -> str:
  return os.path.join(path, NAME)


def read(path: str) -> dict[str, digests.Digest] | None:
  """Returns the digest of every file of a set, by name; None if the set has no manifest.

  Raises:
    BadInput: the manifest is damaged.
  """
  if not os.path.lexists(path_of(path)):
    return None
  advice = "restore it, or delete it and run the same prepare command again"
  document = json_files.read(path_of(path), {digests.GROUP: dict}, advice)
  try:
    return digests.read(document, NAME)
  except ValueError as error:
    raise BadInput(f"{path_of(path)} is damaged: it {error}; {advice}") from error


def check(path: str, name: str, listed: bool = True) -> None:
  """Checks the whole content of a file of a set that has a manifest.

  Args:
    path: of the set.
    name: of the file.
    listed: whether the manifest must list the file.

  Raises:
    BadInput: the file has changed, or the manifest is damaged.
  """
  known = read(path)
  if known is None or (name not in known and not listed):
    return
  damage = _damage(path, name, known, whole=True)
  if damage:
    raise BadInput(
      f"{os.path.join(path, name)} {damage}; run the same prepare command again, or if you changed it"
      f" yourself, delete {NAME}"
    )


def find_damage(path: str, names: list[str]) -> dict[str, str]:
  """Describes the damage to files of a set that their sizes show, by name; files that the manifest does not
  list count as damaged. Says so if the set has no manifest.

  Raises:
    BadInput: the manifest is damaged.
  """
  known = read(path)
  if known is None:
    _say_undetected(path)
    return {}
  damage = {name: _damage(path, name, known, whole=False) for name in names}
  return {name: why for name, why in damage.items() if why}


def _damage(path: str, name: str, known: dict[str, digests.Digest], whole: bool) -> str:
  if name not in known:
    return f"is not listed in {NAME}"
  return digests.find_damage(os.path.join(path, name), known[name], read=whole)


@functools.cache  # once for each set: a run opens two splits of it
def _say_undetected(path: str) -> None:
  say(
    f"{path} has no {NAME}, so damage to it cannot be detected; run the command that prepared it again to"
    " write one"
  )
