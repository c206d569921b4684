"""A trained model in memory, without its parameters; `pretrained` loads one."""

from collections.abc import Sequence
import functools
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from swin_jax.data.read import ranges
from swin_jax.models import backbone_of
from swin_jax.models.backbone import Features
from swin_jax.saved import description as descriptions
from swin_jax.saved import presented
from swin_jax.tasks import kind_of
from swin_jax.terminal.errors import BadInput


class Model:
  """A model without its parameters.

  Its methods are pure functions of the parameters, compiled once for each shape, and can be used inside
  `jax.jit` and `jax.grad`.

  Attributes:
    description: of the model, with the keys of `configs/common.py`.
    kind: the properties of its task, see `tasks.task.TaskKind`.
    backbone: the properties of its backbone, see `models.backbone.BackboneKind`.
    module: the linen module.
    presented: how evaluation shows images to the model, see `presented.Presented`.
    image_size: (height, width), or (frames, height, width) of clips, that it was loaded for; V2 accepts any
      other size too.
    mean, std: per band, see `normalise`.
  """

  def __init__(
    self, description: dict[str, Any], dtype: str = "float32", unroll: bool = False, kernel: str = "xla"
  ):
    self.description, self.kind, self.backbone = description, kind_of(description), backbone_of(description)
    self.module = descriptions.make_module(description, dtype, unroll, kernel)
    self.image_size = tuple(description["data"]["image_size"])
    self.presented = presented.Presented(description)
    self.mean, self.std = (np.asarray(description["data"][name], np.float32) for name in ("mean", "std"))

  @property
  def masked(self) -> bool:
    """Whether the model takes a mask in addition to images."""
    return "mask" in self.kind.inputs(self.description, self.image_size)

  def class_name(self, label: int) -> str:
    """Returns the name of a class, or "class" and its number if it has none."""
    names = self.description["data"]["class_names"]
    return names[label] if label < len(names) else f"class {label}"

  @property
  def class_names(self) -> list[str]:
    """The names of all classes, of images or of pixels; empty if the model has no classes."""
    return [self.class_name(label) for label in range(self.kind.num_classes(self.description))]

  def preprocess(self, image: str | os.PathLike | np.ndarray | Image.Image) -> np.ndarray:
    """Returns the input of the other methods for one image, exactly as evaluation and `predict` make it.

    Args:
      image: see `presented.Presented`.

    Returns:
      float32 [height, width, bands], cropped, resized and normalised; `np.stack` makes a batch of several. A
      model that predicts pixels gets the whole image.

    Raises:
      BadInput: the image cannot be read, or has a different number of bands, type or range.
    """
    return self.normalise(self.presented(image))

  def normalise(self, images: np.ndarray | jax.Array) -> np.ndarray | jax.Array:
    """Returns (images - mean) / std, float32, the input of the other methods.

    For a model trained on floats, values are used unscaled; NaN and infinity, no data, become 0, the mean.

    Args:
      images: [..., height, width, bands], whole numbers in 0..255 of any type, or fractions in 0..1. The
        range is not checked inside `jax.jit`, where values are unknown.

    Raises:
      BadInput: images are empty, have a different number of bands, or another type or range.
    """
    images = images if isinstance(images, jax.Array) else np.asarray(images)
    if images.ndim < 3 or images.shape[-1] != len(self.mean):
      raise BadInput(f"images must be [..., height, width, {len(self.mean)}], not {list(images.shape)}")
    if not images.size:
      raise BadInput(f"the array of images is empty: {list(images.shape)}")
    whole, fractions = (jnp.issubdtype(images.dtype, kind) for kind in (jnp.integer, jnp.floating))
    mean, std = (values[(None,) * (images.ndim - 1)] for values in (self.mean, self.std))
    if self.description["data"]["dtype"] == "float32":
      if not (whole or fractions):
        raise BadInput(f"images must be numbers, not {images.dtype}")
      normalised = (images.astype(np.float32) - mean) / std
      xp = jnp if isinstance(images, jax.Array) else np
      return xp.where(xp.isfinite(normalised), normalised, np.float32(0))
    if images.dtype != np.uint8 and not isinstance(images, jax.core.Tracer):
      try:
        ranges.check(np.asarray(images.astype(np.float32) if fractions else images))
      except ValueError as error:
        raise BadInput(f"the array of images {error}") from error
    return (
      (images.astype(np.float32) / np.float32(255) if whole else images.astype(np.float32)) - mean
    ) / std

  def apply(self, params: Any, images: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Runs the model.

    Args:
      params: its parameters.
      images: [B, *image_size, bands] float32, normalised.
      mask: for a masked-image model, bool [B, *image_size / patch]; true for patches hidden from the model.

    Returns:
      The output of the task; see `outputs` of the model's kind, in its file in `swin_jax.tasks`.

    Raises:
      BadInput: images or mask have the wrong shape or type.
    """
    self._check(images)
    if not self.masked:
      if mask is not None:
        raise BadInput("only a masked-image model accepts a mask")
      return self._run(params, images)
    shape, _ = self.kind.inputs(self.description, images.shape[1:-1])["mask"]
    expected = (images.shape[0], *shape)
    if mask is None or mask.shape != expected:
      raise BadInput(
        f"a masked-image model needs a mask {expected}, one number per patch, not"
        f" {None if mask is None else mask.shape}"
      )
    return self._run(params, images, jnp.asarray(mask, bool))

  def features(self, params: Any, images: jax.Array, stages: Sequence[int] | None = None) -> list[jax.Array]:
    """Returns the feature pyramid: the block outputs of some stages, before merging, without a norm.

    Args:
      params, images: as in `apply`; nothing is masked.
      stages: which stages, None for all; `module.encoder.levels` has the stride and channels of each.

    Returns:
      float [B, *map_i, C_i] for each stage.

    Raises:
      BadInput: images have the wrong shape or type, or there is no such stage.
    """
    self._check(images)
    stages = range(len(self.module.encoder.levels)) if stages is None else stages
    for stage in stages:
      self.check_stage(stage)
    return self._pyramid(params, images, tuple(stages))

  def pooled(self, params: Any, images: jax.Array) -> jax.Array:
    """Returns the mean over the tokens of the last stage, normed, float32 [B, C]: what a classifier reads.

    Args, raises: as in `features`.
    """
    self._check(images)
    return self._pool(params, images)

  def fix_bias(self, params: Any) -> Any:
    """Returns parameters for inference at `image_size`: each V2 bias MLP is replaced by its output.

    Otherwise every call computes the bias again, which is noticeable with small batches and large windows.
    The resulting parameters work only for images with the same windows. A bias is [K, N, N] for each block;
    for large windows the biases are larger than all other parameters. Parameters without a bias MLP, or with
    a bias that is already fixed, are returned unchanged.
    """
    with self._precision():
      return self.backbone.fix(self.module, params, self.description)

  def check_stage(self, stage: int) -> None:
    """Checks that the model has a stage.

    Raises:
      BadInput: there is no such stage.
    """
    count = len(self.module.encoder.levels)
    if not 0 <= stage < count:
      raise BadInput(f"the model has no stage {stage}; it has stages 0 to {count - 1}")

  @functools.cached_property
  def _run(self):
    def run(params, *inputs):
      with self._precision():
        output = self.module.apply({"params": params}, *inputs)
      return self.kind.outputs(self.description).finish(output)

    return jax.jit(run)

  @functools.cached_property
  def _pyramid(self):
    def run(params, images, stages):
      levels = self._encode(params, images).levels
      return [levels[stage] for stage in stages]

    return jax.jit(run, static_argnums=2)

  @functools.cached_property
  def _pool(self):
    def run(params, images):
      last = self._encode(params, images).last.astype(jnp.float32)
      return jnp.mean(last, axis=tuple(range(1, last.ndim - 1)))

    return jax.jit(run)

  def _encode(self, params: Any, images: jax.Array) -> Features:
    with self._precision():
      return self.module.apply(
        {"params": params}, images, method=lambda module, images: module.encoder(images)
      )

  def _precision(self):
    """Returns a context in which float32 products have full precision.

    By default, GPUs and TPUs reduce the precision of the factors of a matrix product.
    """
    return jax.default_matmul_precision("highest" if self.module.encoder.dtype == jnp.float32 else "default")

  def _check(self, images: jax.Array) -> None:
    bands, axes = len(self.description["data"]["mean"]), len(self.image_size)
    if images.ndim != axes + 2 or images.shape[-1] != bands:
      sides = "height, width" if axes == 2 else "frames, height, width"
      raise BadInput(f"images must be [B, {sides}, {bands}], not {list(images.shape)}")
    if not images.size:
      raise BadInput(f"the array of images is empty: {list(images.shape)}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
      raise BadInput(f"images must be normalised numbers, see `normalise`, not {images.dtype}")
    size = tuple(images.shape[1:-1])
    if size != self.image_size and (why := self.backbone.refusal(self.description, size)):
      raise BadInput(f"{why}: load it with image_size={size}")
