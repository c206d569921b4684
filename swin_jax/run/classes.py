"""Matches the classes of the evaluation data with those of a model, by name."""

from collections.abc import Sequence
import dataclasses

from swin_jax.data.feed import pipeline
from swin_jax.data.read import class_names
from swin_jax.data.read.example import Source
from swin_jax.data.view.renumbered import Renumbered
from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.lines import listed
from swin_jax.terminal.progress import Progress, say


def match_evaluation(data: pipeline.Input, of_model: Sequence[str], model: str) -> pipeline.Input:
  """Returns an input pipeline whose evaluation data has the labels of a model; reports classes without a
  match.

  Images and pixels of a class that the model does not know are left out of the evaluation.

  Args:
    data: the input pipeline.
    of_model: names of the classes of the model, by label.
    model: name of the model, for messages.

  Raises:
    BadInput: the data has no labels, or no class in common with the model.
  """
  source = data.eval_source
  of_data = source.class_names
  if not of_data:
    raise BadInput(
      "the evaluation data has no labels (a folder needs one folder per class), so there is nothing to score:"
      " choose another --config.data.eval_split, or write the predictions with --mode=predict"
    )
  if tuple(of_data) == tuple(of_model):
    return data
  label_of = class_names.match(of_data, of_model)
  unknown = [name for name, label in zip(of_data, label_of, strict=True) if label < 0]
  if len(unknown) == len(of_data):
    raise BadInput(
      f"none of the classes of the evaluation data ({listed(of_data)}) is one of {model}"
      f" ({listed(of_model)}): use data with the same names; or, where the names differ but mean"
      " the same, evaluate with --config.transfer.class_map=FILE, one line per class of the data with the"
      " number, from 0, of the class of the model"
    )
  known = len(of_data) - len(unknown)
  say(f"classes by name: {known:,} of {len(of_data):,} of the data are known to {model} ({len(of_model):,})")
  if unknown:
    left_out = "their pixels"
    if not source.targets:
      count = _count_unknown(source, label_of)
      if count == len(source):
        raise BadInput(
          f"all {count:,} images of the evaluation data are of classes that {model} does not know:"
          f" {listed(unknown)}; use data with the same classes"
        )
      left_out = f"their {count:,} of {len(source):,} images"
    say(f"not known to {model}: {listed(unknown)}; {left_out} are left out of the evaluation")
  return dataclasses.replace(data, eval_view=Renumbered(data.eval_view, label_of))


def _count_unknown(source: Source, label_of: Sequence[int]) -> int:
  """Returns the number of images of classes without a label; reads all where labels are not listed."""
  if len(source.labels):
    return sum(label >= 0 and label_of[label] < 0 for label in source.labels)
  progress, count = Progress("counting images by class", len(source), "images"), 0
  for index in range(len(source)):
    try:
      label = source[index].label
      count += label >= 0 and label_of[label] < 0
    except (ValueError, RuntimeError, OSError):  # the pipeline reports damage
      pass
    progress.step()
  return count
