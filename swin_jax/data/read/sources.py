"""Opens a source of examples by its name; sources give random access to encoded images."""

from collections.abc import Sequence
import difflib
import glob
import os

from swin_jax.data.read import digits, image_files, labelled_files, layouts, npz, shards, tfds, trees
from swin_jax.data.read.example import Source, check_exists, no_split
from swin_jax.data.read.targets import Target
from swin_jax.terminal import addresses
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.progress import say, warn

# name → meaning of data.path
_PATHS = {
  "array_record": "a folder that prepare wrote",
  "folder": "a folder of images, FOLDER/train/CLASS/x.jpg, or with maps FOLDER/train/images/x.jpg and"
  " FOLDER/train/labels/x.png",
  "npz": "a pattern like data/cifar10_{split}.npz",
  "tfds": "a TensorFlow Datasets name, like imagenet2012",
}


def open_sources(
  name: str, path: str, splits: Sequence[str], needs: Target = Target.NOTHING
) -> Sequence[Source]:
  """Opens splits of a source by its name in the config. Prints what is understood of a folder.

  Args:
    name: "digits", "array_record", "folder", "npz" or "tfds".
    path: see `_PATHS`; "" for digits. TFDS takes its data folder from the environment variable TFDS_DATA_DIR,
      default ~/tensorflow_datasets.
    splits: names of existing splits.
    needs: target that the examples must carry. Maps must exist; the class of an image may be missing.

  Raises:
    BadInput: the name is unknown, the maps, path or split are missing, or the set is damaged, incomplete or
      wrongly labelled.
  """
  if name == "digits":
    if path:
      raise BadInput(
        f"data.path={path} is set, but data.source=digits reads no files; set data.source to"
        f" {' or '.join(_PATHS)}"
      )
    if needs.per_pixel and needs is not digits.InkedDigits.targets:
      raise BadInput(
        f"data.source=digits has no {needs} of pixels: give --config.data.source=array_record and"
        " --config.data.path"
      )
    return [digits.InkedDigits(split) if needs.per_pixel else digits.Digits(split) for split in splits]
  if name not in _PATHS:
    known = [*_PATHS, "digits"]
    near = difflib.get_close_matches(name, known, 1, 0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise BadInput(f"data.source='{name}' is unknown; {hint}There are {', '.join(known)}")
  addresses.check_local("data.path", path)
  if not path:
    raise BadInput(f"data.source={name} needs --config.data.path: {_PATHS[name]}")
  if name in ("tfds", "npz"):
    if needs.per_pixel:
      raise BadInput(
        f"data.source={name} has no {needs} of pixels: use a folder of images and maps, or a set that "
        "prepare wrote from one"
      )
    return [tfds.Tfds(path, split) if name == "tfds" else npz.open_split(path, split) for split in splits]
  check_exists(path)
  if name == "folder":
    return _open_folder(path, splits, needs)
  return [_open_prepared(path, split, needs) for split in splits]


def _open_prepared(path: str, split: str, needs: Target) -> Source:
  """Opens a split of a prepared set.

  Raises:
    BadInput: the set has no such split, or no maps of the kind.
  """
  prepared = shards.Shards(path, split)
  if needs.per_pixel and prepared.targets is not needs:
    raise BadInput(
      f"{path} holds no {needs} of pixels"
      + f", but {prepared.targets}" * bool(prepared.targets)
      + ": prepare it from a folder with"
      f" SPLIT/images, SPLIT/{needs}" + " and a classes.txt" * needs.has_classes + "; see the README"
    )
  return prepared


def _open_folder(path: str, names: Sequence[str], needs: Target) -> Sequence[Source]:
  """Opens splits of a folder of image files, with their maps if the task needs them.

  Raises:
    BadInput: the folder has no such split, or no maps of the kind.
  """
  if not os.path.isdir(path):
    raise BadInput(
      f"{path} is a file, not a folder; python -m swin_jax.data.prepare reads archives and npz files"
    )
  if glob.glob(os.path.join(glob.escape(path), "*.array_record")):
    raise BadInput(f"{path} was written by prepare: read it with --config.data.source=array_record")
  tree = trees.Disk(path)
  layout = layouts.understand(tree)
  splits = layout.splits
  if "" in splits:
    if not layout.has_maps:
      raise BadInput(
        f"{path} has images but no splits: python -m swin_jax.data.prepare {path} FOLDER --hold_out=0.1 makes"
        " some"
      )
    splits = {"train": splits[""]}
  first = names[0]
  if needs.per_pixel and not layout.has_maps:
    raise BadInput(
      f"{path} holds no maps: there must be {first}/{labelled_files.IMAGES} and {first}/{needs}, or"
      f" {labelled_files.IMAGES}/{first} and {needs}/{first}"
    )
  if missing := [name for name in names if name not in splits]:
    raise BadInput(no_split(path, missing[0], splits))
  for line in layout.notes:
    say(line)
  for line in layout.warnings:
    warn(line)
  if not needs.per_pixel:
    return [image_files.ImageFiles(tree, splits[name]) for name in names]
  layout = layout._replace(splits=splits)
  maps = labelled_files.find(tree, layout, void_by="prepare the folder with --no_class")
  if maps[first].targets is not needs:
    raise BadInput(
      f"{path} holds {maps[first].targets} of pixels, and the task needs {needs}: there must be"
      f" {first}/{needs}"
    )
  return [labelled_files.LabelledFiles(tree, maps[name]) for name in names]
