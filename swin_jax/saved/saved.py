"""What a saved model is to whoever reads it, whether it lies in a run's checkpoint or in a model folder."""

from collections.abc import Mapping
from typing import Any, Protocol

import jax


class Saved(Protocol):
  """A trained model on disk; its parameters are read when they are asked for.

  Attributes:
    source: what to call it in messages.
    config: the resolved config of its run, or the part of it that a model folder keeps.
    shapes: of every parameter, by path.
    step: of the checkpoint; None where there is none.
  """

  source: str
  config: dict[str, Any]
  shapes: dict[str, tuple[int, ...]]
  step: int | None

  def read(self, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, jax.Array]:
    """Reads the parameters of these paths into these shardings; shapes are the saved ones."""
    ...
