"""The folder of a prediction: what made it, how far it is, and its files, which are whole or absent.

  DIR/predict.json           what made the folder, once it is finished
  DIR/unfinished/state.json  the same, and how far the files next to it have got

Files grow in DIR/unfinished. Every few seconds they are written out, and the state says how much of them
counts. The same command, started again, cuts them to that length and goes on; so the result does not depend
on interruptions. Finished, they move to DIR.
"""

import contextlib
import csv
import fcntl
import io
import json
import os
import pathlib
import shutil
import time
from typing import Any, BinaryIO

from swin_jax.terminal import files, json_files
from swin_jax.terminal.errors import BadInput, cannot_write

SECONDS_BETWEEN_COMMITS = 5
RESULT, STATE, BAD = "predict.json", "state.json", "bad_files.csv"
# What the folder of another prediction differs in, in the order in which it is compared.
_DIFFER = {
  "weights": "of another model, {model}",
  "names": "of other files ({images:,} images)",
  "flags": "made with {flags}",
}
_MADE_BY = {"model": str, "weights": str, "images": int, "names": str, "flags": str}
_STATE = {"made_by": _MADE_BY, "next": int, "rows": int, "bad": int, "sizes": {"*": int}, "is_finished": bool}


def row(*cells: Any) -> str:
  """Returns a line of a table in CSV."""
  text = io.StringIO()
  csv.writer(text, lineterminator="\n").writerow(cells)
  return text.getvalue()


class Ledger:
  """A prediction in progress.

  Attributes:
    next: number of the first image that has no prediction yet.
    rows: images predicted so far.
    bad: images that could not be read so far.
    folder: of the files in progress.
    is_finished: whether nothing is left to predict.
  """

  def __init__(self, out: str, made_by: dict[str, Any], headers: dict[str, str]):
    """Opens the folder: a new one, or one that the same command left unfinished or has finished.

    Args:
      out: the folder.
      made_by: model, weights, images, names and flags, see `_MADE_BY`.
      headers: name of each text file → its first line.

    Raises:
      BadInput: the folder holds something else, cannot be written, or another process is writing there.
    """
    self._out, self._made_by, self._headers = pathlib.Path(out), made_by, headers
    self.folder, self._lines, self._lock = self._out / "unfinished", {}, -1
    self.next = self.rows = self.bad = 0
    self._sizes, self.is_finished = dict.fromkeys(headers, 0), False
    self._committed = time.monotonic()
    try:
      self._is_new_folder = not self._out.exists()
      self._read()
      if not self.is_finished:
        self._open()
    except OSError as error:
      raise cannot_write(f"--out={out}", error, "choose another folder") from error

  def write(self, name: str, text: str) -> None:
    """Appends to a text file."""
    self._lines[name].write(text.encode("utf-8", "backslashreplace"))

  def is_due(self) -> bool:
    """Returns whether the last commit was so long ago that another is due."""
    return time.monotonic() - self._committed >= SECONDS_BETWEEN_COMMITS

  def commit(self) -> None:
    """Makes everything written so far count."""
    for name, file in self._lines.items():
      file.flush()
      os.fsync(file.fileno())
      self._sizes[name] = file.tell()
    self._save()
    self._committed = time.monotonic()

  def finish(self) -> None:
    """Moves the files to their folder."""
    self.commit()
    self.close()
    self.is_finished = True
    self._save()
    self._move()

  def abandon(self) -> None:
    """Removes what was made."""
    self.close()
    shutil.rmtree(self._out if self._is_new_folder else self.folder, ignore_errors=True)

  def close(self) -> None:
    """Closes the files; what has not been committed does not count."""
    for file in self._lines.values():
      file.close()
    if self._lock >= 0:
      os.close(self._lock)
      self._lock = -1

  def _read(self) -> None:
    """Reads how far the folder is.

    Raises:
      BadInput: it holds something else.
    """
    result, state = self._out / RESULT, self.folder / STATE
    if state.exists():
      held = json_files.read(state, _STATE, f"remove {self._out} and start again")
      self._check(held["made_by"])
      self.next, self.rows, self.bad = held["next"], held["rows"], held["bad"]
      self._sizes |= held["sizes"]
      if held["is_finished"]:
        self.is_finished = True
        self._move()
    elif result.exists():
      held = json_files.read(result, {"made_by": _MADE_BY, "rows": int, "bad": int}, "choose another --out")
      self._check(held["made_by"])
      self.rows, self.bad, self.is_finished = held["rows"], held["bad"], True
    elif self._out.is_dir() and any(path != self.folder for path in self._out.iterdir()):
      raise BadInput(f"--out={self._out} holds other files; choose a new or an empty folder")

  def _check(self, held: dict[str, Any]) -> None:
    for key, words in _DIFFER.items():
      if held[key] != self._made_by[key]:
        raise BadInput(
          f"--out={self._out} holds predictions {words.format(**held)}; choose another --out, or remove it"
        )

  def _open(self) -> None:
    self.folder.mkdir(parents=True, exist_ok=True)
    self._lock = os.open(self.folder, os.O_RDONLY)
    try:
      fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise BadInput(f"another process is writing predictions to --out={self._out}") from None
    except OSError:  # the file system has no locks
      pass
    files.remove_dead(self.folder)
    for name, header in self._headers.items():
      self._lines[name] = file = _open(self.folder / name)
      file.truncate(self._sizes[name])
      file.seek(0, os.SEEK_END)
      if not file.tell():
        self.write(name, header)
    self.commit()

  def _save(self) -> None:
    counts = {"next": self.next, "rows": self.rows, "bad": self.bad, "sizes": self._sizes}
    state = {"made_by": self._made_by, **counts, "is_finished": self.is_finished}
    files.write(self.folder / STATE, json.dumps(state, indent=2) + "\n")

  def _move(self) -> None:
    if not self.bad:
      (self.folder / BAD).unlink(missing_ok=True)
    for path in sorted(self.folder.iterdir()):
      if path.name != STATE:
        os.replace(path, self._out / path.name)
    result = {"made_by": self._made_by, "rows": self.rows, "bad": self.bad}
    files.write(self._out / RESULT, json.dumps(result, indent=2) + "\n")
    with contextlib.suppress(FileNotFoundError):
      (self.folder / STATE).unlink()
      self.folder.rmdir()


def _open(path: pathlib.Path) -> BinaryIO:
  path.touch()
  return open(path, "r+b")
