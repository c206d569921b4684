"""The interface of a backbone to heads, tasks, runs and planner. Letters: see `windows.py`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
from ml_collections import ConfigDict
import numpy as np

from swin_jax.terminal.errors import BadInput
from swin_jax.terminal.rules import Rule

Losses = dict[str, jax.Array]  # name → scalar that training adds to its loss, for example a load-balance loss
# A config (ConfigDict) or the description of a trained model (dict), read as ["group"]["key"].
Settings = ConfigDict | Mapping[str, Any]


class Level(NamedTuple):
  """The shape of one stage's output map.

  Attributes:
    stride: pixels per token, one entry per axis of the map.
    channels: channels of a token.
  """

  stride: tuple[int, ...]
  channels: int

  def map_size(self, size: Sequence[int]) -> tuple[int, ...]:
    """Returns the size of the map in tokens for images of `size` pixels, rounded up."""
    return tuple(-(-side // stride) for side, stride in zip(size, self.stride, strict=True))


class Features(NamedTuple):
  """The output of a backbone.

  Attributes:
    last: [B, *map, C], the normed output of the last stage.
    levels: [B, *map, C] for every stage, its output before any norm.
    losses: auxiliary losses of its blocks, by name.
  """

  last: jax.Array
  levels: tuple[jax.Array, ...]
  losses: Losses


class Backbone(Protocol):
  """The trunk of a model: a linen module from images to `Features`.

  The submodule `stage{i}` computes level i: it returns the map, alone or as the first element of a tuple.

  Attributes:
    levels: one level per stage, the finest first. A mask has the resolution of the first.
    dtype: dtype of its matrix products and of its features.
    num_layers: layer number of everything after the last block: the last norm and the heads.
  """

  levels: tuple[Level, ...]
  dtype: Any
  num_layers: int

  def __call__(
    self,
    images: jax.Array,
    *,
    mask: jax.Array | None = None,
    mask_token: jax.Array | None = None,
    train: bool = False,
  ) -> Features:
    """Runs the backbone.

    Args:
      images: [B, *size, bands], normalised, of any size.
      mask: bool [B, *map] of the first level; true where `mask_token` replaces a token.
      mask_token: [channels of the first level].
      train: whether residual branches are dropped; this needs the rng "dropout".
    """

  def flops(self, size: Sequence[int], bands: int) -> int:
    """Returns the number of floating-point operations of one image's forward pass, two per multiply-add."""

  def layer_of(self, path: str) -> int | np.ndarray:
    """Returns the number of the layer that a parameter belongs to, for layer-wise learning rates.

    Args:
      path: path of the parameter inside the backbone, with slashes.

    Returns:
      A number from 0 for the patch embedding to `num_layers`; int [groups] for a leaf that stacks several
      layers.
    """


class Summary(NamedTuple):
  """A human-readable description of a backbone.

  Attributes:
    name: for example "Swin V2-T".
    sizes: width, depth and other sizes.
    geometry: what depends on the image size, for example the windows; "" if nothing does.
  """

  name: str
  sizes: str
  geometry: str = ""


class StageBlocks(NamedTuple):
  """The blocks of one stage, which differ only in their parameters.

  Attributes:
    count: number of blocks.
    input: input of one block for one image, [*map, C].
    init: x [B, *map, C] → the parameters of one block.
    apply: (parameters, x) → the output of the block in training.
  """

  count: int
  input: jax.ShapeDtypeStruct
  init: Callable[[jax.Array], Any]
  apply: Callable[[Any, jax.Array], jax.Array]


class Breakdown(NamedTuple):
  """The parts of a backbone's train step, for the planner.

  Attributes:
    blocks: blocks of each stage.
    remat: name of the remat policy, as in config.model.remat.
    stricter: names of the policies that keep less, the mildest first.
    keeps_all: whether the policy keeps everything, so that nothing is recomputed.
    reruns: whether the policy repeats most of the forward pass in the backward pass.
    recomputed: floating point operations that the policy adds for one image.
    sums: all-reduces over the model axis per block and step, each of the size of the block's output.
  """

  blocks: tuple[StageBlocks, ...]
  remat: str
  stricter: tuple[str, ...]
  keeps_all: bool
  reruns: bool
  recomputed: int
  sums: int


def _no_windows(description: dict[str, Any], window: Any) -> dict[str, Any]:
  raise BadInput(f"the window cannot be {window}: this backbone has no windows")


class BackboneKind(NamedTuple):
  """The properties of a backbone outside its module. Config keys are written "group.key".

  Attributes:
    reads: groups or keys of the config that this backbone reads, in addition to those of every run.
    weights: keys that determine which weights the model has, independently of images and task.
    applied: keys that change how the same weights are applied.
    may_differ: keys that may change when a run is continued, because they do not change results.
    rules: "group.key" → rule of the value, for every key that `reads` covers; checked before `check`.
    check: config → None; raises BadInput if values contradict each other.
    make: (config, device) → the module for training on this kind of device; with optim.freeze_encoder, one
      that computes the same in training as in evaluation.
    restore: (settings, dtype=, unroll=, kernel=) → the module for inference.
    describe: settings → group → key → value: the settings that a model folder keeps. A key that did
      not exist yet when the settings were written gets the value that was in effect then. Raises KeyError for
      any other missing key.
    summarise: settings → `Summary`.
    pixel_kernel: path of the kernel that reads pixels. Its dimensions except the last, flattened, run over
      pixels, and within a pixel over bands.
    check_saved: what `check` does with the keys that a model folder keeps, for a description.
    check_platform: (config, platform) → None; raises BadInput if the platform cannot run the backbone.
    resolve: (config, stored=, source=, other_sizes=) → None; fills keys that the config leaves to weights.
      `stored` and `source` are the settings of the run that is continued and of the weights that the run
      starts from, or None; `other_sizes` tells whether evaluation sees sizes other than data.image_size.
    refusal: (settings, image size) → why weights for data.image_size do not fit another size; "" if they do.
    pads: settings → whether images of data.image_size need padding.
    further_flags: (settings, settings of other weights) → key → value: what a config must set, in addition
      to the keys of `weights`, to use the other weights.
    adapt: (description, window) → the description for another window; raises BadInput for a backbone without
      windows.
    adapt_array: (path, shape, new shape, `saved.transfer.Rules`) → (label, function from the array to the
      adapted array); None if the array cannot be adapted.
    decay: config → (pattern of a path, whether weight decay applies), for parameters that need rules of their
      own; tried before those of `run.optim`.
    fix: (model, parameters, settings) → parameters for inference at data.image_size, in which everything that
      does not depend on the images is precomputed.
    attention: (model, parameters, images [1, *size, bands], stage, block) → the attention of a block, as
      `swin.attention_maps.Attention`; None for a backbone without attention.
    breakdown: (backbone, image size, bands) → `Breakdown`; None if the planner should treat the
      backbone as a whole, without recomputation.
  """

  reads: tuple[str, ...]
  weights: tuple[str, ...]
  rules: Mapping[str, Rule]
  check: Callable[[ConfigDict], None]
  make: Callable[[ConfigDict, jax.Device], Backbone]
  restore: Callable[..., Backbone]
  describe: Callable[[Settings], dict[str, dict[str, Any]]]
  summarise: Callable[[Settings], Summary]
  pixel_kernel: str
  applied: tuple[str, ...] = ()
  may_differ: tuple[str, ...] = ()
  check_saved: Callable[[ConfigDict], None] = lambda settings: None
  check_platform: Callable[[ConfigDict, str], None] = lambda config, platform: None
  resolve: Callable[..., None] = lambda config, *, stored, source, other_sizes: None
  refusal: Callable[[Settings, Sequence[int]], str] = lambda settings, size: ""
  pads: Callable[[Settings], bool] = lambda settings: False
  further_flags: Callable[[Settings, Settings], dict[str, Any]] = lambda settings, other: {}
  adapt: Callable[[dict[str, Any], Any], dict[str, Any]] = _no_windows
  adapt_array: Callable[..., tuple[str, Callable] | None] = lambda path, shape, other, rules: None
  decay: Callable[[ConfigDict], Sequence[tuple[str, bool]]] = lambda config: ()
  fix: Callable[[nn.Module, Any, Settings], Any] = lambda model, params, settings: params
  attention: Callable[..., Any] | None = None
  breakdown: Callable[[Backbone, Sequence[int], int], Breakdown | None] = lambda backbone, size, bands: None
