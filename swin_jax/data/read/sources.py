"""Sources of examples: name → a random-access source of encoded images."""

import copy
import difflib
import glob
import os
import re
import zipfile

import numpy as np

from swin_jax.data.read import image_files, labelled_files, shards
from swin_jax.data.read.example import Example, Source, no_split
from swin_jax.data.read.targets import Target
from swin_jax.terminal.errors import BadInput

# name → meaning of data.path
_PATHS = {
  "array_record": "a folder that prepare wrote",
  "folder": "a folder of images, FOLDER/train/CLASS/x.jpg, or with maps FOLDER/train/images/x.jpg and"
  " FOLDER/train/labels/x.png",
  "npz": "a pattern like data/cifar10_{split}.npz",
  "tfds": "a TensorFlow Datasets name, like imagenet2012",
}


def open_source(name: str, path: str, split: str, needs: Target = Target.NOTHING) -> Source:
  """Opens a source by its name in the config.

  Args:
    name: "digits", "array_record", "folder", "npz" or "tfds".
    path: see `_PATHS`; "" for digits. TFDS takes its data folder from the environment variable TFDS_DATA_DIR,
      default ~/tensorflow_datasets.
    split: name of an existing split.
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
    if needs.per_pixel and needs is not InkedDigits.targets:
      raise BadInput(
        f"data.source=digits has no {needs} of pixels: give --config.data.source=array_record and"
        " --config.data.path"
      )
    return InkedDigits(split) if needs.per_pixel else Digits(split)
  if name not in _PATHS:
    known = [*_PATHS, "digits"]
    near = difflib.get_close_matches(name, known, 1, 0.4)
    hint = f"did you mean {near[0]}? " if near else ""
    raise BadInput(f"data.source='{name}' is unknown; {hint}There are {', '.join(known)}")
  if not path:
    raise BadInput(f"data.source={name} needs --config.data.path: {_PATHS[name]}")
  if name in ("tfds", "npz"):
    if needs.per_pixel:
      raise BadInput(
        f"data.source={name} has no {needs} of pixels: take a folder of images and maps, or what prepare"
        " made of one"
      )
    return Tfds(path, split) if name == "tfds" else open_npz(path, split)
  check_exists(path)
  if name == "folder":
    return (
      labelled_files.open_folder(path, split, needs)
      if needs.per_pixel
      else image_files.open_folder(path, split)
    )
  prepared = shards.Shards(path, split)
  if needs.per_pixel and prepared.targets is not needs:
    raise BadInput(
      f"{path} holds no {needs} of pixels"
      + f", but {prepared.targets}" * bool(prepared.targets)
      + ": prepare it from a folder with"
      f" SPLIT/images, SPLIT/{needs}" + " and a classes.txt" * needs.has_classes + "; see the README"
    )
  return prepared


def check_exists(path: str) -> None:
  """Raises BadInput, with the closest existing name, if the path does not exist."""
  if os.path.exists(path):
    return
  parent, name = os.path.split(os.path.abspath(path))
  while not os.path.isdir(parent):
    parent, name = os.path.split(parent)
  near = difflib.get_close_matches(name, os.listdir(parent), 1)
  hint = f"; did you mean {os.path.join(parent, near[0])}?" if near else f": {parent} has no '{name}'"
  raise BadInput(f"{path} does not exist{hint}")


class Digits:
  """The handwritten digits that ship with scikit-learn: 1,797 real grey images of 8 × 8 pixels, ten classes.

  A fixed permutation holds out the last fifth (360) as split "val"; the rest is "train".
  """

  targets = Target.NOTHING
  num_classes = 10
  class_names = tuple("0123456789")

  def __init__(self, split: str):
    from sklearn.datasets import load_digits  # slow to import, and few runs need it

    if split not in ("train", "val"):
      raise BadInput(f"digits have no split '{split}'; they have train, val")
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    cut = len(order) - len(order) // 5 - 1
    self._index = order[:cut] if split == "train" else order[cut:]
    self._images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    self._labels = digits.target

  def __len__(self) -> int:
    return len(self._index)

  def __getitem__(self, index: int) -> Example:
    i = int(self._index[index])
    return Example(self._images[i], int(self._labels[i]), f"digits/{i}")


class InkedDigits(Digits):
  """The digits with one label map each: ink where a pixel is above half intensity, else paper."""

  targets = Target.LABELS
  num_classes = 2
  class_names = ("paper", "ink")

  def __getitem__(self, index: int) -> Example:
    example = super().__getitem__(index)
    return example._replace(label=-1, target=(example.image[..., 0] > 127).astype(np.uint8))


def npz_splits(pattern: str) -> dict[str, str]:
  """Returns {split: path} of the files that match a pattern with {split}."""
  head, tail = pattern.split("{split}", 1)
  paths = sorted(glob.glob(f"{glob.escape(head)}*{glob.escape(tail)}"))
  return {
    path[len(head) : len(path) - len(tail)]: path for path in paths if len(path) > len(head) + len(tail)
  }


def open_npz(pattern: str, split: str) -> "Npz":
  """Opens the file of a split.

  Raises:
    BadInput: the pattern does not contain {split} exactly once, or there is no matching file; or see `Npz`.
  """
  if pattern.count("{split}") != 1:
    check_exists(pattern)
    raise BadInput(
      f"{pattern} is one file for one split; write {{split}} where its name has the split, like"
      f" set_{{split}}.npz"
    )
  paths = npz_splits(pattern)
  if not paths:
    check_exists(os.path.dirname(pattern) or ".")
    raise BadInput(f"no file matches {pattern}")
  if split not in paths:
    raise BadInput(no_split(pattern, split, paths))
  return Npz(paths[split])


class Npz:
  """Encoded images in one .npz file, held in memory: for sets of up to a few gigabytes. See `example.Source`.

  Arrays: jpeg uint8, the concatenated files of all images (of any format); offsets int64 [n + 1], where each
  begins; labels int [n] and class_names str [classes], both or neither.
  """

  targets = Target.NOTHING

  def __init__(self, path: str):
    """Reads the file.

    Raises:
      BadInput: the file is damaged, or its arrays are inconsistent.
    """
    self._path, self._name = path, os.path.basename(path)
    try:
      with np.load(path) as arrays:
        if missing := {"jpeg", "offsets"} - set(arrays):
          raise BadInput(f"{path} has no array {' and '.join(sorted(missing))}; it has {', '.join(arrays)}")
        if ("labels" in arrays) != ("class_names" in arrays):
          raise BadInput(f"{path} must hold both labels and class_names, or neither")
        self._bytes, self._offsets = arrays["jpeg"], arrays["offsets"]
        n = len(self._offsets) - 1
        self.labels = arrays["labels"] if "labels" in arrays else np.full(n, -1)
        self.class_names = tuple(map(str, arrays["class_names"])) if "class_names" in arrays else ()
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
      raise BadInput(f"{path} cannot be read as an npz file: {error}") from error
    self.num_classes = len(self.class_names)
    offsets = self._offsets
    if (
      n < 1
      or offsets[0] != 0
      or offsets[-1] != len(self._bytes)
      or np.any(np.diff(offsets) < 0)
      or len(self.labels) != n
    ):
      sizes = f"{len(self._bytes)} bytes, {n} images by its offsets, {len(self.labels)} labels"
      raise BadInput(f"{path} does not fit together: {sizes}")
    outside = (
      np.flatnonzero((self.labels < 0) | (self.labels >= self.num_classes)) if self.num_classes else ()
    )
    if len(outside):
      first = outside[0]
      raise BadInput(
        f"{path} has {self.num_classes} class names, but image {first} has label {self.labels[first]}"
      )

  def __reduce__(self):
    return Npz, (self._path,)  # a worker reads the file itself, which is faster than sending its content

  def __len__(self) -> int:
    return len(self.labels)

  def __getitem__(self, index: int) -> Example:
    image = self._bytes[self._offsets[index] : self._offsets[index + 1]].tobytes()
    return Example(image, int(self.labels[index]), f"{self._name}/{index}")


def open_tfds_builder(name: str):
  """Opens a TFDS builder whose data is stored in a format with random access, which does not need TensorFlow.

  Raises:
    BadInput: the name is unknown, or the data is not prepared or is stored as tfrecord.
  """
  import tensorflow_datasets as tfds  # slow to import, and few runs need it

  if not re.fullmatch(r"\w+([/:][\w.+=,*-]+)*", name):
    raise BadInput(f"tfds: '{name}' is not a name like imagenet2012 or imagenet2012:5.1.0")
  try:
    builder = tfds.builder(name)
  except tfds.core.DatasetNotFoundError:
    near = difflib.get_close_matches(name, tfds.list_builders(with_community_datasets=False), 1)
    raise BadInput(
      f"tfds knows no '{name}', and {tfds.core.constants.DATA_DIR} (TFDS_DATA_DIR) holds none"
      + (f"; did you mean {near[0]}?" if near else "")
    ) from None
  except (ValueError, AssertionError, ImportError) as error:
    raise BadInput(f"tfds cannot open '{name}': {str(error).partition(chr(10))[0]}") from error
  if not builder.info.splits:
    raise BadInput(
      f"tfds has not prepared {name} in {builder.data_path}; set TFDS_DATA_DIR to where it is, or prepare"
      " it once: python -c"
      ' "import tensorflow_datasets as tfds;'
      f" tfds.builder('{name}').download_and_prepare(file_format='array_record')\""
    )
  if not builder.info.available_file_formats() & set(tfds.core.FileFormat.with_random_access()):
    raise BadInput(
      f"{builder.data_path} is stored as {builder.info.file_format.value}, which needs TensorFlow; convert"
      " it once where"
      f" TensorFlow is installed: tfds convert_format --dataset_version_dir={builder.data_path}"
      " --out_file_format=array_record"
    )
  return builder


class Tfds:
  """A split of a TensorFlow Datasets set stored as array_record, read without TensorFlow.

  See `example.Source`.
  """

  targets = Target.NOTHING

  def __init__(self, name: str, split: str):
    """Opens the split.

    Raises:
      BadInput: see `open_tfds_builder`; or no such split, no feature "image", or missing files.
    """
    import tensorflow_datasets as tfds

    builder = open_tfds_builder(name)
    features = builder.info.features
    if "image" not in features or not isinstance(features["image"], tfds.features.Image):
      raise BadInput(f"tfds: {name} has no image called 'image'; it has {', '.join(features)}")
    if split not in builder.info.splits:
      raise BadInput(no_split(f"tfds: {name}", split, builder.info.splits))
    self._data = builder.as_data_source(split, decoders={"image": tfds.decode.SkipDecoding()})
    missing = [path for path in map(str, builder.info.splits[split].filepaths) if not os.path.exists(path)]
    if missing:
      raise BadInput(
        f"tfds: {len(missing)} files of {name} are missing, such as {missing[0]}; prepare it again"
      )
    self._opened_by = name, split
    self._labelled = "label" in features and isinstance(features["label"], tfds.features.ClassLabel)
    self.class_names = tuple(features["label"].names) if self._labelled else ()
    self.num_classes = len(self.class_names)

  def __reduce__(self):
    # TFDS objects refer to the class that built the set, which a worker may not have
    return Tfds, self._opened_by

  def __len__(self) -> int:
    return len(self._data)

  def __getitem__(self, index: int) -> Example:
    try:
      example = self._data[index]
    except RuntimeError as error:
      self._data.data_source = copy.copy(self._data.data_source)
      raise shards.explain(error, f"record {index} of {self._opened_by[0]}") from error
    return Example(
      example["image"],
      int(example["label"]) if self._labelled else -1,
      "/".join((*self._opened_by, str(index))),
    )
