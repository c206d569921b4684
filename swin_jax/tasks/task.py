"""What a task is: to the training loop, `Task`; to what handles configs and trained models, `TaskKind`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from ml_collections import ConfigDict
import numpy as np

from swin_jax.data.read.targets import Target
from swin_jax.models.backbone import Losses, Settings
from swin_jax.ops import mixing

# Metric name → (sum, count), added up over batches and hosts, divided once; [classes] each where every class
# has its own.
Sums = dict[str, tuple[jax.Array, jax.Array]]
# Name → shape and dtype of one example's part of a batch.
Fields = dict[str, tuple[tuple[int, ...], Any]]


class Task(NamedTuple):
  """A model with its objective, settings bound. Batches are dicts of device arrays as `data.pipeline` makes
  them.

  Attributes:
    model: the linen module; `model.encoder` is the backbone.
    init: (rng, batch) → boxed parameters.
    prepare: (training batch, rng) → what `loss` makes of the batch before the model sees it, with the random
      numbers it draws for that.
    loss: (params, batch, rng) → scalar mean loss of a training batch, `Sums` to log, and the losses of the
      backbone, see `backbone.Features`, which the step adds.
    eval_sums: (params, batch) → `Sums` over the examples of an evaluation batch, by their "weight".
    pictures: (params, batch, bands) → uint8 [B, views, height, width, 1 or 3] to look at, or None where there
      is nothing to see. The bands are one, or three as red, green, blue; () for the first three, or the first
      where there are fewer.
    best: the evaluation metric that ranks checkpoints, and whether more is better.
    flops: (image_size, bands) → of one image's forward pass.
    pictures_show: what is to be seen in them, which names their files.
    legend: (picture, class names) → the picture with what its colours mean under it, where they mean
      anything.
  """

  model: Any
  init: Callable[[jax.Array, dict], Any]
  prepare: Callable[[dict, jax.Array], dict]
  loss: Callable[[Any, dict, jax.Array], tuple[jax.Array, Sums, Losses]]
  eval_sums: Callable[[Any, dict], Sums]
  pictures: Callable[[Any, dict, tuple[int, ...]], jax.Array] | None
  best: tuple[str, bool]
  flops: Callable[[tuple[int, int], int], int]
  pictures_show: str = ""
  legend: Callable[[np.ndarray, Sequence[str]], np.ndarray] = lambda picture, class_names: picture


def normalised(mean: Sequence[float], std: Sequence[float]) -> Callable[[dict, jax.Array], dict]:
  """Returns `Task.prepare` of a task that only normalises images."""
  return lambda batch, rng: batch | {"image": mixing.normalise(batch["image"], mean, std)}


class Evaluation(NamedTuple):
  """What an evaluation shows to the model.

  Attributes:
    size: (height, width) in pixels that the model sees at once.
    note: goes on after that size in a sentence, to say how images come to it.
    sizes: all sizes that the backbone sees, where test-time augmentation has several.
  """

  size: tuple[int, int]
  note: str = ""
  sizes: tuple[tuple[int, int], ...] = ()


class Outputs(NamedTuple):
  """What a trained model puts out.

  Attributes:
    name: of the array.
    finish: module's output → what the user gets, such as numbers back in their unit.
  """

  name: str
  finish: Callable[[jax.Array], jax.Array] = lambda output: output


class Drawing(NamedTuple):
  """Answers for every pixel of an image, drawn.

  Attributes:
    views: uint8 [4, height, width, 3]: image, truth, answers and errors.
    errors: how large they are, in words; None where there is no truth.
    legend: picture → the picture with what its colours mean under it.
  """

  views: np.ndarray
  errors: str | None
  legend: Callable[[np.ndarray], np.ndarray]


class PixelAnswers(NamedTuple):
  """What `python -m swin_jax.show` must know of a task with an answer for every pixel.

  Attributes:
    command: its word on the command line.
    answer: what each pixel is given, in a word for help texts.
    to_map: scores float32 [height, width, outputs], as `Outputs.finish` leaves them → a map (`targets.py`).
    draw: (settings, class names, pixels float32 [1, height, width, 3] of 0..1, map, true map or None) → a
      picture of them.
  """

  command: str
  answer: str
  to_map: Callable[[np.ndarray], np.ndarray]
  draw: Callable[[Settings, Sequence[str], jax.Array, np.ndarray, np.ndarray | None], Drawing]


class TaskKind(NamedTuple):
  """Everything that is said about a task outside the training loop.

  A kind that has classes (`needs.has_classes`) has a key `num_classes` in its group: 0 for those of the data.

  Attributes:
    needs: what an example must carry.
    group: its group in the config, called as the task.
    reads: groups, or single keys as "group.key", of the config that not every task reads and this one does.
    fields: config → what a training batch holds; an evaluation adds "weight", float32.
    views: config → (training, evaluation) view, each (decoded example, rng) → the fields of one example.
    check: config → None; raises BadInput for what contradicts itself, without data or devices.
    module: (backbone, settings) → the linen module.
    make: (backbone, config) → the `Task`.
    describe: group → the keys that a model folder keeps, besides those of the backbone and the data. Those
      of its own group give the weights their meaning; the others say how images are shown to them.
    outputs: settings → what a trained model puts out.
    summarise: settings → the model in a few words.
    augment: config → (training batch, rng) → the batch, on the device, before `Task.loss`; None for nothing.
    inputs: (settings, image size) → what the module takes besides images.
    fill: (config, trained, read) → None; fills keys of its group that the config leaves to the data: from the
      config of trained weights of this task, where such are evaluated, else from the statistics of a prepared
      set, which `read(path)` gives.
    evaluation: config → what an evaluation shows to the model.
    pixels: of a task with an answer for every pixel, how `show` draws it; else None.
  """

  needs: Target
  group: str
  reads: tuple[str, ...]
  fields: Callable[[ConfigDict], Fields]
  views: Callable[[ConfigDict], tuple[Callable, Callable]]
  check: Callable[[ConfigDict], None]
  module: Callable[[Any, Settings], nn.Module]
  make: Callable[[Any, ConfigDict], Task]
  describe: Mapping[str, tuple[str, ...]]
  outputs: Callable[[Settings], Outputs]
  summarise: Callable[[Settings], str]
  augment: Callable[[ConfigDict], Callable[[dict, jax.Array], dict] | None] = lambda config: None
  inputs: Callable[[Settings, tuple[int, int]], Fields] = lambda settings, image_size: {}
  fill: Callable[[ConfigDict, Settings | None, Callable[[str], dict]], None] = lambda config, trained, read: (
    None
  )
  evaluation: Callable[[ConfigDict], Evaluation] = lambda config: Evaluation(tuple(config.data.image_size))
  pixels: PixelAnswers | None = None

  def num_classes(self, settings: Settings) -> int:
    """Returns how many classes a model tells apart; 0 where it tells none."""
    return settings[self.group]["num_classes"] if self.needs.has_classes else 0
