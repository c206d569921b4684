"""Which saved class each class of a model takes its weights from: by name, or by a file."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from swin_jax.data.read import class_names
from swin_jax.saved.saved import Saved
from swin_jax.tasks import kind_of
from swin_jax.terminal import addresses, files
from swin_jax.terminal.errors import BadInput


class Rows(NamedTuple):
  """The saved class of each class.

  Attributes:
    of: for each class, by label; `class_names.ABSENT` for a class that is newly initialised.
    how: how they were chosen, for the report.
    file: that holds them; "" if they go by name.
  """

  of: np.ndarray
  how: str
  file: str = ""

  @property
  def known(self) -> np.ndarray:
    """Which classes have a saved class, bool [classes]."""
    return self.of != class_names.ABSENT

  def take(self, x: Any) -> Any:
    """Returns an array [..., saved classes] as [..., classes]; 0 for a class that is newly initialised."""
    return np.where(self.known, x[..., np.maximum(self.of, 0)], 0)

  def check(self, saved: int, classes: int) -> None:
    """Checks the rows against the numbers of classes.

    Raises:
      BadInput: they do not fit.
    """
    if len(self.of) != classes:
      raise BadInput(f"{self.file or 'the data'} has {len(self.of)} classes, but the model has {classes}")
    if (wrong := self.of[self.of >= saved]).size:
      raise BadInput(f"{self.file} names class {wrong[0]}, but the saved head has classes 0 to {saved - 1}")


def choose(saved: Saved, class_map: str, names: Sequence[str]) -> Rows | None:
  """Returns the rows that a model takes; None if classes keep their numbers.

  They do if a side has no names, or if both have the same names.

  Args:
    saved: the saved model.
    class_map: see `transfer.Rules`.
    names: of the classes of the model, by label; () if it has none.

  Raises:
    BadInput: the file is not a class map.
  """
  if class_map:
    return Rows(read_class_map(class_map), f"the classes of {class_map}", class_map)
  of_saved = saved.config["data"].get("class_names", ())
  if not of_saved or not names or tuple(of_saved) == tuple(names):
    return None
  rows = np.asarray(class_names.match(names, of_saved))
  return Rows(rows, f"{np.sum(rows >= 0):,} of {len(names):,} classes by name")


def is_of_classes(path: str, saved: Saved) -> bool:
  """Returns whether the last axis of a parameter of a saved model is its classes."""
  return path.rpartition("/")[0] in kind_of(saved.config).class_layers


def read_class_map(path: str) -> np.ndarray:
  """Reads the saved class for each new class, by label: int [classes].

  Raises:
    BadInput: the file is not a class map.
  """
  addresses.check_local("transfer.class_map", path)
  try:
    with files.open_regular(path) as file:
      lines = file.read().decode().splitlines()
  except (OSError, ValueError) as error:
    raise BadInput(f"the class map {path} cannot be read: {error}") from error
  if not lines or not all(line.strip().isdecimal() for line in lines):
    wrong = next((i for i, line in enumerate(lines) if not line.strip().isdecimal()), 0)
    raise BadInput(
      f"the class map {path} needs one line per class with the number, from 0, of a saved class; line "
      f"{wrong + 1} has none"
    )
  return np.array([int(line) for line in lines])
