"""The interface of a saved model, in a run's checkpoint or in a model folder."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax


class Saved(Protocol):
  """A trained model on disk; its parameters are read on demand.

  Attributes:
    source: name of the source, for messages.
    config: the resolved config of its run, or the part of it that a model folder keeps.
    shapes: of every parameter, by path.
    step: of the checkpoint; None if it is not a checkpoint.
  """

  source: str
  config: dict[str, Any]
  shapes: dict[str, tuple[int, ...]]
  step: int | None

  def read(self, expected: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Reads parameters by path, with the given dtypes and shardings; the given shapes must be those saved."""
    ...
