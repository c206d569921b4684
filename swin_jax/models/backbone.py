"""The interface of a backbone to heads, tasks, runs and planner. Letters: see `windows.py`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
from ml_collections import ConfigDict
import numpy as np

from swin_jax.terminal.errors import BadInput

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
    losses: losses of its blocks.
  """

  last: jax.Array
  levels: tuple[jax.Array, ...]
  losses: Losses


class Backbone(Protocol):
  """The trunk of a model: a linen module from images to `Features`.

  The submodule `stage{i}` computes level i: it returns the map, alone or as the first of a tuple.

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
  """A backbone in words.

  Attributes:
    name: such as "Swin V2-T".
    sizes: its width, depth and the like.
    geometry: what depends on the size of the images, such as its windows; "" for nothing.
  """

  name: str
  sizes: str
  geometry: str = ""


class StageBlocks(NamedTuple):
  """The blocks of one stage, which differ only in their parameters, for the planner.

  Attributes:
    count: number of blocks.
    input: of one block and one image, [*map, C].
    init: x [B, *map, C] → parameters of one block.
    apply: (parameters, x) → x, as in training.
  """

  count: int
  input: jax.ShapeDtypeStruct
  init: Callable[[jax.Array], Any]
  apply: Callable[[Any, jax.Array], jax.Array]


class Breakdown(NamedTuple):
  """A backbone's train step in parts, for the planner.

  Attributes:
    blocks: of every stage.
    remat: name of the policy, as config.model.remat.
    stricter: names of policies that keep less, the mildest first.
    keeps_all: whether the policy recomputes nothing.
    reruns: whether the policy runs most of the forward pass again in the backward pass.
    recomputed: floating point operations of one image that the policy adds.
    sums: how often a train step sums an array of the size of a block's output over the model axis, per block.
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
  """Everything that is said about a backbone outside its module. Keys are spelled "group.key".

  Attributes:
    reads: groups, or single keys, of the config that this backbone reads and not every one does.
    weights: keys that the meaning of its weights depends on, whatever the images and the task.
    applied: keys that decide how the same weights are applied.
    may_differ: keys that may change when a run is continued, as they do not change what is computed.
    check: config → None; raises BadInput for values that cannot be or that contradict each other.
    make: (config, device) → the module, for training on such devices.
    restore: (settings, dtype=, unroll=, kernel=) → the module, for inference.
    describe: settings → group → key → value: what a model folder keeps. A key that is younger than the
      settings has the value that says what was done then. Raises KeyError for what is missing.
    summarise: settings → the backbone in words.
    pixel_kernel: path of the kernel that reads pixels; its dimensions but the last are pixels, then bands.
    check_platform: (config, platform) → None; raises BadInput where such devices cannot run it.
    resolve: (config, stored, source, other_sizes) → None; fills keys that the config leaves to weights: to
      those of the run that it continues (`stored`, settings or None) or starts from (`source`, likewise), or
      else to its own training, where evaluation shows images of other sizes (`other_sizes`).
    refusal: (settings, image size) → why weights for images of data.image_size do not serve images of another
      size; "" where they do.
    pads: settings → whether images of data.image_size are padded anywhere.
    further_flags: (settings, those of other weights) → key → value: what has to be set besides the keys of
      `weights` to take over the other weights.
    adapt: (description, window) → the description of the same model for another window; raises BadInput
      where the backbone has none.
    adapt_array: (path, shape, other shape, rules) → (the rule in a word, array → array of the other shape),
      or None; `rules` is `saved.transfer.Rules`.
    decay: config → (pattern of a path below the model, whether it decays), for parameters of its own that the
      optimizer's rules would treat otherwise.
    fix: (model, parameters, settings) → parameters in which what does not depend on the images is computed
      once, for images of data.image_size.
    attention: (model, parameters, images [1, *size, bands], stage, block) → where the tokens of a block look,
      see `swin.attention_maps.Attention`; None for a backbone without attention.
    breakdown: (backbone, image size, bands) → the parts of a train step; None for a backbone that recomputes
      nothing and tells nothing of its blocks.
  """

  reads: tuple[str, ...]
  weights: tuple[str, ...]
  check: Callable[[ConfigDict], None]
  make: Callable[[ConfigDict, jax.Device], Backbone]
  restore: Callable[..., Backbone]
  describe: Callable[[Settings], dict[str, dict[str, Any]]]
  summarise: Callable[[Settings], Summary]
  pixel_kernel: str
  applied: tuple[str, ...] = ()
  may_differ: tuple[str, ...] = ()
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
