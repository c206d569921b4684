"""The table of tasks, and how a config or a description of a model finds its own."""

from typing import Any

from swin_jax.tasks import classification, masked_pixels, pixel_regression, segmentation
from swin_jax.tasks.task import TaskKind
from swin_jax.terminal.errors import BadInput

# The value of `config.task` → the kind; a new task is a line here.
KINDS = {
  "classification": classification.KIND,
  "masked_pixels": masked_pixels.KIND,
  "segmentation": segmentation.KIND,
  "pixel_regression": pixel_regression.KIND,
}


def kind_of(settings: Any) -> TaskKind:
  """Returns the kind that `task` of a config, or of the description of a model, names.

  Raises:
    BadInput: there is no such task.
  """
  task = settings["task"]
  if task not in KINDS:
    raise BadInput(f"config.task = {task!r}: there are {', '.join(map(repr, KINDS))}")
  return KINDS[task]
