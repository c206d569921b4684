"""Table of the tasks, and look-up of the task that a config or a model description names."""

from typing import Any

from swin_jax.tasks import classification, masked_pixels, pixel_regression, segmentation
from swin_jax.tasks.task import TaskKind
from swin_jax.terminal.errors import BadInput

# Value of `config.task` → kind. To add a task, import its file and add a line here.
KINDS = {
  "classification": classification.KIND,
  "masked_pixels": masked_pixels.KIND,
  "segmentation": segmentation.KIND,
  "pixel_regression": pixel_regression.KIND,
}


def kind_of(settings: Any) -> TaskKind:
  """Returns the kind of task that a config or a model description names under `task`.

  Raises:
    BadInput: no task has this name.
  """
  task = settings["task"]
  if task not in KINDS:
    raise BadInput(f"config.task = {task!r}: choose one of {', '.join(map(repr, KINDS))}")
  return KINDS[task]
