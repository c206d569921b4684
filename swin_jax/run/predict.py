"""Writes the class that a saved classifier predicts for every image of a split, labelled or not."""

from collections.abc import Collection
import csv
import io
import os
import pathlib

import jax
from ml_collections import ConfigDict
import numpy as np

from swin_jax.mesh import sharding
from swin_jax.run import compilation
from swin_jax.run.evaluate import open_checkpoint
from swin_jax.tasks import kind_of
from swin_jax.terminal import files, preemption
from swin_jax.terminal.errors import BadInput, Preempted, cannot_write
from swin_jax.terminal.printable import printable
from swin_jax.terminal.progress import Progress, say


def predict(config: ConfigDict, workdir: str, given: Collection[str] = ()) -> pathlib.Path:
  """Writes a table with the name, the predicted class and its probability, for each readable image of
  `data.eval_split`.

  Args:
    config, given: see `evaluate.open_checkpoint`.
    workdir: of a run, or a model folder; the table is written to its predictions-SPLIT.csv.

  Raises:
    BadInput: the model does not classify images, or see `evaluate.open_checkpoint`.
    Preempted: the prediction was asked to stop.
  """
  _check(config, workdir)
  config, program, data, state = open_checkpoint(config, workdir, given, scored=False)
  logits: dict[int, np.ndarray] = {}
  progress = Progress("predicting", -(-len(data.eval_source) // data.eval_batch_size), "batches")
  with sharding.trace_on(program.mesh, program.rules):
    for host_batch, batch in data.evaluation(program.eval_batch_sharding):
      if preemption.requested():
        raise Preempted("stopped while predicting; the same command starts again")
      with compilation.reported("prediction"):
        rows = np.asarray(program.eval_step(state.eval_params, batch).rows["logits"])
      # padding, and what replaces an unreadable record, are other records of the split
      logits |= zip(host_batch["index"].tolist(), rows, strict=True)
      progress.step()
  path = pathlib.Path(workdir) / f"predictions-{config.data.eval_split}.csv"
  lines = [("name", "prediction", "probability")]
  listed = data.eval_source.files
  for index in sorted(logits):
    probabilities = np.exp(logits[index] - logits[index].max())
    label = int(probabilities.argmax())
    name = listed[index] if len(listed) else data.eval_source[index].name
    names = config.data.class_names
    lines.append(
      (
        printable(name),
        names[label] if label < len(names) else label,
        f"{probabilities[label] / probabilities.sum():.4f}",
      )
    )
  text = io.StringIO()
  csv.writer(text, lineterminator="\n").writerows(lines)
  try:
    files.write(path, text.getvalue())
  except OSError as error:
    raise cannot_write(path, error, "then the same command works") from error
  unreadable = len(data.eval_source) - len(logits)
  left_out = f"; {unreadable:,} unreadable images are left out" if unreadable else ""
  say(f"wrote {path}: {len(logits):,} predictions{left_out}")
  return path


def _check(config: ConfigDict, workdir: str) -> None:
  """Checks that the task classifies images, by the classes of the model, in one process.

  Raises:
    BadInput: it does not.
  """
  kind = kind_of(config)
  if kind.pixels:
    raise BadInput(
      f"--mode=predict is for classes of images; for task={config.task}:"
      f" python -m swin_jax.show {kind.pixels.command} {workdir} IMAGES --out=DIR --maps=DIR"
    )
  if not kind.needs.has_classes:
    raise BadInput(f"--mode=predict needs a classifier; task={config.task} predicts no classes")
  if config.transfer.class_map:
    raise BadInput("--mode=predict predicts the classes of the model: leave out config.transfer.class_map")
  if jax.process_count() > 1:
    raise BadInput("--mode=predict runs in one process")
  if os.path.basename(config.data.eval_split) != config.data.eval_split:
    raise BadInput(f"config.data.eval_split = {config.data.eval_split} must be a name, not a path")
