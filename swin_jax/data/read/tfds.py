"""Data sets prepared by TensorFlow Datasets, read without TensorFlow."""

import copy
import difflib
import os
import re

from swin_jax.data.read import shards
from swin_jax.data.read.example import Example, no_split
from swin_jax.data.read.targets import Target
from swin_jax.terminal import extras
from swin_jax.terminal.errors import BadInput


def open_builder(name: str):
  """Opens a TFDS builder whose data is stored in a format with random access, which does not need TensorFlow.

  Raises:
    BadInput: the name is unknown, the data is not prepared or is stored as tfrecord, or tensorflow-datasets
      is not installed.
  """
  try:
    import tensorflow_datasets as tfds  # slow to import, and few runs need it
  except ImportError as error:
    raise extras.missing("tfds", "sets of TFDS need tensorflow-datasets", error) from error

  if not re.fullmatch(r"\w+([/:][\w.+=,*-]+)*", name) or ".." in name:
    raise BadInput(f"tfds: '{name}' is not a name like imagenet2012 or imagenet2012:5.1.0")
  try:
    builder = tfds.builder(name)
  except tfds.core.DatasetNotFoundError:
    near = difflib.get_close_matches(name, tfds.list_builders(with_community_datasets=False), 1)
    raise BadInput(
      f"tfds has no data set '{name}', and {tfds.core.constants.DATA_DIR} (TFDS_DATA_DIR) holds none"
      + (f"; did you mean {near[0]}?" if near else "")
    ) from None
  except (ValueError, AssertionError, ImportError) as error:
    raise BadInput(f"tfds cannot open '{name}': {str(error).partition(chr(10))[0]}") from error
  if not builder.info.splits:
    raise BadInput(
      f"tfds has not prepared {name} in {builder.data_path}; set TFDS_DATA_DIR to its folder, or prepare"
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
  labels, listing, files = (), b"", ()

  def __init__(self, name: str, split: str):
    """Opens the split.

    Raises:
      BadInput: see `open_builder`; or no such split, no feature "image", or missing files.
    """
    builder = open_builder(name)
    import tensorflow_datasets as tfds

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
