"""What the data of a run hold, in a few lines, as `prepare` counted it."""

import os

from ml_collections import ConfigDict

from swin_jax.data.read import facts, manifest, strange
from swin_jax.terminal.lines import WIDTH


def describe(config: ConfigDict) -> list[str]:
  """Returns a line for each split that the run reads, with the shares of its classes, and a line for each
  thing that is strange; none if the data are not a prepared set.

  Raises:
    BadInput: the facts of the set are damaged.
  """
  path = config.data.path
  if config.data.source != "array_record":
    return []
  counted = facts.read(path)
  if counted is None:  # a set without a manifest has a line of its own, with the same advice
    advice = (
      f"{path} has no {facts.NAME}, so its classes are not shown; the command that prepared it counts them"
    )
    return [advice] if os.path.exists(manifest.path_of(path)) else []
  shown = [
    _line(split)
    for split in counted.splits
    if split.name in (config.data.train_split, config.data.eval_split)
  ]
  return [f"{path} holds", *shown, *strange.shown(counted)]


def largest_image(config: ConfigDict) -> tuple[int, int] | None:
  """Returns (height, width) of the training image with the most pixels; None where it was not counted.

  Raises:
    BadInput: the facts of the set are damaged.
  """
  counted = facts.read(config.data.path) if config.data.source == "array_record" else None
  for split in counted.splits if counted else ():
    if split.name == config.data.train_split and "largest" in split.counts:
      return tuple(split.counts["largest"])
  return None


def _line(split: facts.Split) -> str:
  """Returns "  train: 85 images; dog (51.8 %), cat (47.1 %), …", the most frequent classes first."""
  text = f"  {split.name}: {split.counts['images']:,} images"
  counts, total = strange.per_class(split), sum(strange.per_class(split).values())
  shares = [(counts.get(label, 0), name) for label, name in enumerate(split.class_names)]
  shares.sort(key=lambda pair: -pair[0])
  if without := strange.unlabelled(split) * bool(split.class_names):
    shares.insert(0, (without, "no class"))
  for i, (count, name) in enumerate(shares if total else ()):
    more = f"{', ' if i else '; '}{name} ({strange.percent(count / total)})"
    rest = f" and {len(shares) - i:,} more"  # without this class
    if len(text + more) + len(rest) * (i < len(shares) - 1) > WIDTH:
      return text + rest
    text += more
  return text
