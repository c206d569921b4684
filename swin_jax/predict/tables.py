"""Answers for whole images, as a table (CSV) and as JSON lines: classes with probabilities, or values."""

from collections.abc import Sequence
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.predict.answer import Answer
from swin_jax.predict.ledger import Ledger, row
from swin_jax.saved.pretrained import Model
from swin_jax.terminal.printable import printable

TABLE, LINES = "predictions.csv", "predictions.jsonl"
_DIGITS = 6  # of a probability


class Classes(Answer):
  """The most probable classes of each image."""

  def __init__(self, model: Model, top: int):
    self._model, self._count = model, min(top, len(model.class_names))
    self._names = model.class_names
    numbered = [
      ("class", "probability"),
      *((f"class_{i}", f"probability_{i}") for i in range(2, self._count + 1)),
    ]
    self.headers = {TABLE: row("path", *(name for pair in numbered for name in pair)), LINES: ""}

  def function(self, params: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns (probabilities, labels) [B, top] of images that are not normalised, the most probable first."""
    logits = self._model.apply(params, self._model.normalise(images))
    return jax.lax.top_k(jax.nn.softmax(logits), self._count)

  def write(self, ledger: Ledger, names: Sequence[str], outputs: Any) -> None:
    """Writes the answers for the images of these names."""
    table, lines = [], []
    for name, numbers, labels in zip(names, *(array.tolist() for array in outputs), strict=True):
      classes = [self._names[label] for label in labels]
      numbers = [round(number, _DIGITS) for number in numbers]
      pairs = zip(classes, (f"{number:.{_DIGITS}f}" for number in numbers), strict=True)
      table.append(row(printable(name), *(cell for pair in pairs for cell in pair)))
      lines.append(_object(path=printable(name), classes=classes, probabilities=numbers))
    ledger.write(TABLE, "".join(table))
    ledger.write(LINES, "".join(lines))


class Values(Answer):
  """The numbers that a task predicts for each image."""

  def __init__(self, model: Model, params: Any):
    self._model = model
    images = jax.ShapeDtypeStruct((1, *model.image_size, len(model.mean)), jnp.float32)
    count = jax.eval_shape(self.function, params, images).shape[-1]
    name = model.kind.outputs(model.description).name
    self.headers = {
      TABLE: row("path", *([name] if count == 1 else (f"{name}_{i}" for i in range(1, count + 1)))),
      LINES: "",
    }

  def function(self, params: Any, images: jax.Array) -> jax.Array:
    """Returns the values [B, n] of images that are not normalised."""
    values = self._model.apply(params, self._model.normalise(images))
    return values.reshape(len(values), -1)

  def write(self, ledger: Ledger, names: Sequence[str], outputs: np.ndarray) -> None:
    """Writes the answers for the images of these names."""
    for name, values in zip(names, outputs.astype(np.float64).tolist(), strict=True):
      values = [float(f"{value:.9g}") for value in values]
      ledger.write(TABLE, row(printable(name), *values))
      ledger.write(LINES, _object(path=printable(name), values=values))


def _object(**entries: Any) -> str:
  return json.dumps(entries, ensure_ascii=False) + "\n"
