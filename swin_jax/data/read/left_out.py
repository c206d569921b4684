"""What a layout passes over, in words: pictures that are not used, folders without files, hidden folders, and
junk of operating systems.
"""

from collections import Counter
from collections.abc import Sequence
import os

from swin_jax.data.read import formats, image_files, names, strange, trees
from swin_jax.terminal.lines import listed
from swin_jax.terminal.printable import printable

_LOOKED_AT = 10_000  # files in a hidden folder


def folders_around(paths: Sequence[str]) -> set[str]:
  """Returns all folders around files, with a trailing "/"."""
  around: set[str] = set()
  for folder in {path.rpartition("/")[0] for path in paths}:
    while folder and folder + "/" not in around:
      around.add(folder + "/")
      folder = folder.rpartition("/")[0]
  return around


def notes(left: Sequence[str], listing: trees.Listing, used: set[str], base: str) -> list[str]:
  """Returns notes on what is passed over: pictures that are not used, folders without files, and junk."""
  lines = []
  if left:
    folders = Counter(path.removeprefix(base).rpartition("/")[0] or "the top folder" for path in left)
    lines.append(f"image files that are not used: {some(folders)}")
  around = folders_around(listing.files)
  if empty := [folder for folder in listing.folders if folder not in around]:
    lines.append(f"folders without files: {some(Counter(each.rstrip('/') for each in empty), False)}")
  with_pictures = folders_around([path for path in used])
  siblings = {os.path.dirname(folder.rstrip("/")) for folder in with_pictures}
  bare = [
    folder.rstrip("/")
    for folder in listing.folders
    if folder in around and folder not in with_pictures and os.path.dirname(folder.rstrip("/")) in siblings
  ]
  if bare and not left:
    lines.append(f"folders without images: {some(Counter(bare), False)}")
  if listing.junk:
    shown = {"names that begin with a dot" if name == ".*" else name: n for name, n in listing.junk.items()}
    lines.append(f"passed over: {some(Counter(shown))}")
  return lines


def hidden(tree: trees.Tree, listing: trees.Listing, endings: tuple[str, ...]) -> list[str]:
  """Returns a line on hidden folders that hold images, such as a class called ".5 mm".

  Args:
    endings: of the names of images.
  """
  counts, at_least = Counter(), ""
  for folder in listing.hidden:
    paths = trees.first_files(tree, folder, _LOOKED_AT)
    at_least = "at least " if len(paths) == _LOOKED_AT else at_least
    images = sum(path.lower().endswith(endings) for path in paths)
    counts.update({folder.rstrip("/"): images} if images else {})
  if not counts:
    return []
  return [
    f"folders whose names begin with a dot are passed over, with {at_least}{sum(counts.values()):,} images:"
    f" {some(counts)}; rename those that belong to the set"
  ]


def no_image(tree: trees.Tree, listing: trees.Listing) -> str:
  """Returns the message for a tree without images."""
  counts = Counter(names.ending_of(path) or "no ending" for path in listing.files)
  lines = [f"{tree.name} holds no image ({' '.join(image_files.EXTENSIONS)})"]
  if counts:
    lines.append(f"it holds {some(counts)}")
  heif = counts.keys() & {".heic", ".heif"}
  if heif and not formats.HAS_HEIF:
    lines.append(f"to read {' and '.join(sorted(heif))} files, pip install pillow-heif")
  if counts.keys() - heif - {"no ending", *strange.BESIDE}:
    lines.append("convert images of other formats to PNG or TIFF")
  return "; ".join(lines)


def some(counts: Counter[str], counted: bool = True) -> str:
  """Returns the most frequent names with their counts."""
  shown = [printable(name) + (f" ({count:,})" if counted else "") for name, count in counts.most_common()]
  return listed(shown)
