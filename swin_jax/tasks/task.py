"""Interfaces of a task: `Task` for the training loop, `TaskKind` for code that handles configs and trained
models.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from ml_collections import ConfigDict
import numpy as np

from swin_jax.data.read.decoding import Decoded, DecodeImage
from swin_jax.data.read.example import Example
from swin_jax.data.read.targets import Target
from swin_jax.drawing import panels
from swin_jax.models.backbone import Losses, Settings
from swin_jax.ops import mixing
from swin_jax.terminal.rules import Rule

# Metric name → (sum, count): added up over batches and hosts, then divided once. Scalars, or [classes] each
# for a metric per class, or [classes] and a scalar for the largest share of a class. In training, the loss is
# (mean of the batch, 1), so that every step weighs the same.
Sums = dict[str, tuple[jax.Array, jax.Array]]
# Name → [B, ...], one row for each example of a batch.
Rows = dict[str, jax.Array]
# Name of an array of a batch → shape and dtype of one example in it.
Fields = dict[str, tuple[tuple[int, ...], Any]]


class Undefined(Exception):
  """The metrics are undefined for the examples of an evaluation; the message says why."""


class Measured(NamedTuple):
  """What one evaluation batch adds to the metrics.

  Attributes:
    sums: metrics that are sums over examples, without those of weight 0.
    rows: what `RowMetrics` need of each example.
  """

  sums: Sums
  rows: Rows = {}


class RowMetrics(NamedTuple):
  """Metrics that are not sums over examples, such as those that rank them.

  Attributes:
    names: of the metrics.
    compute: rows as numpy arrays [examples, ...], every example once → one value for each name; raises
      `Undefined`.
  """

  names: tuple[str, ...]
  compute: Callable[[Mapping[str, np.ndarray]], Sequence[float]]


class Task(NamedTuple):
  """A model and its objective, with all settings bound.

  Batches are dicts of device arrays from `data.feed.pipeline`.

  Attributes:
    model: linen module; `model.encoder` is the backbone.
    init: (rng, batch) → boxed parameters.
    prepare: (training batch, rng) → the batch as the model gets it. `loss` does the same with the same random
      numbers; this function exists to time it.
    loss: (params, batch, rng) → scalar mean loss of a training batch, `Sums` to log, and the losses of the
      backbone (see `backbone.Features`), which the step adds to the first.
    measure: (params, batch) → `Measured` of an evaluation batch, whose "weight" is 1 for the examples that
      count and 0 for the others.
    flops: (image_size, bands) → FLOPs of one image's forward pass.
    pictures: (params, batch, bands) → uint8 [B, panels, height, width, 1 or 3] to log; None if the task has
      no pictures. `bands` are three, shown as red, green and blue, or one, shown as grey; () for the first
      three, or for the first if there are fewer.
    pictures_show: what the pictures show; used in their file names.
    titles: of the panels.
    legend: (picture, class names) → the picture with a legend of its colours below it; unchanged if the
      colours need none.
    row_metrics: metrics computed from the rows of `measure`; None if it returns no rows.
    exchanged: image_size → values of one image that the layers after the backbone all-gather and all-reduce
      over the model axis in a train step, for the planner; (0, 0) if they are few.
  """

  model: Any
  init: Callable[[jax.Array, dict], Any]
  prepare: Callable[[dict, jax.Array], dict]
  loss: Callable[[Any, dict, jax.Array], tuple[jax.Array, Sums, Losses]]
  measure: Callable[[Any, dict], Measured]
  flops: Callable[[tuple[int, int], int], int]
  pictures: Callable[[Any, dict, tuple[int, ...]], jax.Array] | None = None
  pictures_show: str = ""
  titles: tuple[str, ...] = ()
  legend: Callable[[np.ndarray, Sequence[str]], np.ndarray] = lambda picture, class_names: picture
  row_metrics: RowMetrics | None = None
  exchanged: Callable[[tuple[int, int]], tuple[int, int]] = lambda image_size: (0, 0)

  def annotate(self, picture: np.ndarray, class_names: Sequence[str], step: int) -> np.ndarray:
    """Returns a picture, one row of panels for each image, with the step, the titles and the legend."""
    return panels.with_titles(self.legend(picture, class_names), f"step {step:,}", self.titles)


def normalised(mean: Sequence[float], std: Sequence[float]) -> Callable[[dict, jax.Array], dict]:
  """Returns the `Task.prepare` of a task that only normalises the images."""
  return lambda batch, rng: batch | {"image": mixing.normalise(batch["image"], mean, std)}


class Evaluation(NamedTuple):
  """Input sizes of the model in evaluation.

  Attributes:
    size: (height, width) in pixels that the model gets at once.
    note: text that follows the size in a message and says how images are brought to it.
    sizes: all sizes that the backbone gets if test-time augmentation uses several.
  """

  size: tuple[int, int]
  note: str = ""
  sizes: tuple[tuple[int, int], ...] = ()


class Outputs(NamedTuple):
  """Output of a trained model; the task that makes it gives shape and unit.

  Attributes:
    name: name of the output array.
    finish: output of the module → output for the user, for example values in their unit.
  """

  name: str
  finish: Callable[[jax.Array], jax.Array] = lambda output: output


class Drawing(NamedTuple):
  """Picture of the predictions for the pixels of an image.

  Attributes:
    panels: uint8 [4, height, width, 3]: image, ground truth, predictions and errors.
    errors: size of the errors as text; None without ground truth.
    legend: picture → the picture with a legend of its colours below it.
  """

  panels: np.ndarray
  errors: str | None
  legend: Callable[[np.ndarray], np.ndarray]


class PixelAnswers(NamedTuple):
  """What `python -m swin_jax.show` needs to know about a task that predicts every pixel.

  Attributes:
    command: name of the subcommand.
    answer: noun for the prediction of a pixel, for help texts.
    to_map: scores float32 [height, width, outputs], as returned by `Outputs.finish` → a map (`targets.py`).
    draw: (settings, class names, pixels float32 [1, height, width, 3] in 0..1, predicted map, true map or
      None) → a picture of them.
  """

  command: str
  answer: str
  to_map: Callable[[np.ndarray], np.ndarray]
  draw: Callable[[Settings, Sequence[str], jax.Array, np.ndarray, np.ndarray | None], Drawing]


def _fit_nothing(config: ConfigDict) -> Mapping[str, Any]:
  """Chooses no value; see `TaskKind.fit`."""
  return {}


def _fill_nothing(config: ConfigDict, trained: Settings | None, read: Callable[[str], dict]) -> None:
  """Leaves the config as it is: `TaskKind.fill` of a task whose keys do not depend on the data."""


class TaskKind(NamedTuple):
  """Everything that the rest of the program needs to know about a task, outside the training loop.

  The group of a kind with classes (`needs.has_classes`) has a key `num_classes`, where 0 means the number of
  classes of the data.

  Attributes:
    needs: target that an example must carry.
    group: name of the task, and of its config group in `configs/common.py` if it has keys of its own.
    reads: config groups, or single keys as "group.key", that this task reads and that not every task reads.
    fields: config → fields of a training batch; an evaluation batch adds "weight", float32, and what its
      view adds.
    views: config → (training, evaluation) views, each (`Decoded` example, rng) → fields of one example: numpy
      arrays without a batch axis. `rng` is a numpy Generator seeded by config.seed and the example's position
      in the endless training order; in evaluation an example always gets the same one.
    decode: (bands, dtype) → example → decoded example, the input of the views.
    rules: "group.key" → rule of the value, for every key that `reads` covers; checked before `check`.
    check: config → None; raises BadInput for contradictions that show without data or devices.
    module: (backbone, settings) → the linen module.
    make: (backbone, config) → the `Task`.
    metrics: settings → the metrics that can rank evaluations, and whether higher is better; the first does
      by default. A name that ends with "/" stands for one metric per class.
    describe: group → keys that a model folder keeps, in addition to those of the backbone and the data. Keys
      of the task's own group define what the weights mean; the others say how images are presented to them.
      A group without such keys may be left out.
    outputs: settings → the `Outputs` of a trained model.
    summarise: settings → a summary of the model in a few words.
    augment: config → (training batch, rng) → the batch augmented on the device, before `Task.loss`; None for
      no augmentation.
    check_saved: what `check` does with the keys that a model folder keeps, for a description.
    inputs: (settings, image size) → inputs of the module in addition to the images.
    fill: (config, trained, read) → None; fills in the keys of its group that the config leaves to the data.
      They come from `trained`, the config of the trained weights, if such weights are evaluated, and
      otherwise from the statistics of a prepared set, which `read(path)` returns.
    fit: config → the values of the task's keys, by key, that suit the images (data.fit_to_set).
    warnings: (config, (height, width) of the largest training image, or None where it is unknown) → a line
      for every setting among the task's keys that is likely to give a poor result.
    evaluation: config → the `Evaluation`.
    head: keys of its group that, with the number of classes, determine the shapes of its head.
    class_layers: layers whose outputs are the classes; weights of other classes are transferred by name.
    defaults_of_old_formats: keys of its group that older runs and model folders lack, with the values that
      were in effect then.
    pixels: how `show` draws the predictions of a task that predicts every pixel; None for other tasks.
  """

  needs: Target
  group: str
  reads: tuple[str, ...]
  fields: Callable[[ConfigDict], Fields]
  views: Callable[[ConfigDict], tuple[Callable, Callable]]
  rules: Mapping[str, Rule]
  check: Callable[[ConfigDict], None]
  module: Callable[[Any, Settings], nn.Module]
  make: Callable[[Any, ConfigDict], Task]
  metrics: Callable[[Settings], Mapping[str, bool]]
  describe: Mapping[str, tuple[str, ...]]
  outputs: Callable[[Settings], Outputs]
  summarise: Callable[[Settings], str]
  decode: Callable[[int, str], Callable[[Example], Decoded]] = DecodeImage
  augment: Callable[[ConfigDict], Callable[[dict, jax.Array], dict] | None] = lambda config: None
  check_saved: Callable[[ConfigDict], None] = lambda settings: None
  inputs: Callable[[Settings, tuple[int, int]], Fields] = lambda settings, image_size: {}
  fill: Callable[[ConfigDict, Settings | None, Callable[[str], dict]], None] = _fill_nothing
  fit: Callable[[ConfigDict], Mapping[str, Any]] = _fit_nothing
  warnings: Callable[[ConfigDict, tuple[int, int] | None], Sequence[str]] = lambda config, largest: ()
  evaluation: Callable[[ConfigDict], Evaluation] = lambda config: Evaluation(tuple(config.data.image_size))
  head: tuple[str, ...] = ()
  class_layers: tuple[str, ...] = ()
  defaults_of_old_formats: Mapping[str, Any] = {}
  pixels: PixelAnswers | None = None

  def num_classes(self, settings: Settings) -> int:
    """Returns the number of classes of a model; 0 for a task without classes."""
    return settings[self.group]["num_classes"] if self.needs.has_classes else 0
