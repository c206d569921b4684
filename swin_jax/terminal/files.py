"""Files that are whole or not there."""

import os
import pathlib


def umask() -> int:
  """Of this process: temporary files are for their owner alone until they are what they are to be."""
  mask = os.umask(0)
  os.umask(mask)
  return mask


def write(path: pathlib.Path, text: str) -> None:
  """Writes a file so that nobody, not even after a crash, sees a part of it."""
  partial = path.with_name(path.name + ".partial")
  partial.write_text(text)
  os.replace(partial, path)
