"""What --splits could be for folders whose names begin with a word for a split, such as Trainingsdaten.

They are long enough not to begin common names of classes, such as valves and tests.
"""

from collections.abc import Mapping, Sequence
import unicodedata

from swin_jax.data.read import names
from swin_jax.terminal.lines import listed
from swin_jax.terminal.printable import printable, quoted

# Beginnings of words in common European languages, without accents.
_BEGINNINGS = {
  "train": "train entrain entren trein addestr allena appren aprend lern ubung uebung",
  "val": "valid convalid",
  "test": "test pruf pruef essai ensayo prueba prova proef",
}
_SHOWN = 4  # folders that are left out


def split_of(folder: str) -> str:
  """Returns the split that a word of a folder's name or its beginning names; "" if there is none."""
  plain = "".join(c for c in unicodedata.normalize("NFKD", folder.lower()) if not unicodedata.combining(c))
  begun = (split for split, words in _BEGINNINGS.items() if plain.startswith(tuple(words.split())))
  return names.hinted_split(folder) or next(begun, "")


def flag(folders: Sequence[str], every: Sequence[str]) -> str:
  """Returns the flag --splits for folders by their names, and which of `every` it leaves out.

  A split that training needs and no name says is left open, as in train:…, and gets no other folder.
  """
  chosen: dict[str, str] = {}
  for folder in folders:
    if split := split_of(folder):
      chosen.setdefault(split, folder)
  return written({split: chosen[split] for split in _BEGINNINGS if split in chosen}, every)


def written(chosen: Mapping[str, str], every: Sequence[str]) -> str:
  """Returns the flag --splits for the folder chosen for each split, and which others it leaves out."""
  needed = ("train", "test" if "test" in chosen and "val" not in chosen else "val")
  if not chosen.keys() >= {*needed}:
    pairs = ",".join(f"{split}:{chosen.get(split, '…')}" for split in dict.fromkeys((*needed, *chosen)))
    return f"--splits={printable(pairs)} with a folder in place of each …"
  left = [printable(folder) for folder in every if folder not in chosen.values()]
  without = f", which leaves out {listed(left, _SHOWN)}" if left else ""
  return f"--splits={quoted(','.join(map(':'.join, chosen.items())))}{without}"
