"""A trained model in hand: `swin_jax.load`, for notebooks and for what exports and shows models."""

from collections.abc import Sequence
import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.kernels import window_attention
from swin_jax.models import backbone_of
from swin_jax.saved import description as descriptions
from swin_jax.saved import folder, transfer
from swin_jax.saved.saved import Saved
from swin_jax.tasks import kind_of
from swin_jax.terminal.errors import BadInput


class Model:
  """A model without its parameters.

  Its methods are pure functions of the parameters, compiled once for each shape, and can be used inside
  `jax.jit` and `jax.grad`.

  Attributes:
    description: what model it is, with the keys of `configs/common.py`.
    kind: what its task says of it, see `tasks.task.TaskKind`.
    backbone: what its backbone says of it, see `models.backbone.BackboneKind`.
    module: the linen module.
    image_size: (height, width) in pixels that it was loaded for; V2 takes any other too.
    mean, std: per band, see `normalise`.
  """

  def __init__(
    self, description: dict[str, Any], dtype: str = "float32", unroll: bool = False, kernel: str = "xla"
  ):
    self.description, self.kind, self.backbone = description, kind_of(description), backbone_of(description)
    self.module = descriptions.make_module(description, dtype, unroll, kernel)
    self.image_size = tuple(description["data"]["image_size"])
    self.mean, self.std = (np.asarray(description["data"][name], np.float32) for name in ("mean", "std"))

  @property
  def masked(self) -> bool:
    """Whether it takes a mask besides images."""
    return "mask" in self.kind.inputs(self.description, self.image_size)

  def class_name(self, label: int) -> str:
    """The name of a class; its number where it has none."""
    names = self.description["data"]["class_names"]
    return names[label] if label < len(names) else f"class {label}"

  @property
  def class_names(self) -> list[str]:
    """The names of all classes, of images or of pixels; none where it tells none apart."""
    return [self.class_name(label) for label in range(self.kind.num_classes(self.description))]

  def normalise(self, images: np.ndarray) -> np.ndarray:
    """Images [..., height, width, bands], uint8 or of 0..1, → (images - mean) / std, as the other methods
    take them.

    Of a model trained on floats the numbers are taken as they are, and NaN, no data, becomes 0, the mean.

    Raises:
      BadInput: they have another number of bands.
    """
    if images.shape[-1] != len(self.mean):
      raise BadInput(f"images must be [..., {len(self.mean)}], not {list(images.shape)}")
    if self.description["data"]["dtype"] == "float32":
      return np.nan_to_num((images - self.mean) / self.std)
    return ((images / np.float32(255) if images.dtype == np.uint8 else images) - self.mean) / self.std

  def apply(self, params: Any, images: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Runs the model.

    Args:
      params: its parameters.
      images: [B, height, width, bands] float32, normalised.
      mask: of a masked-image model: bool [B, height / patch, width / patch], true where it must not look.

    Returns:
      Logits [B, num_classes] float32 (without a head, pooled features [B, C]); of a segmentation model [B, H,
      W, num_classes], for each
      patch, and of pixel regression numbers in their unit [B, H, W, 1]; of a masked-image model the
      reconstruction, as images.

    Raises:
      BadInput: images or mask do not fit.
    """
    self._check(images)
    if not self.masked:
      if mask is not None:
        raise BadInput("only a masked-image model takes a mask")
      return self._run(params, images)
    shape, _ = self.kind.inputs(self.description, images.shape[1:3])["mask"]
    wanted = (images.shape[0], *shape)
    if mask is None or mask.shape != wanted:
      raise BadInput(
        f"a masked-image model takes a mask {wanted}, a number for each patch; not"
        f" {None if mask is None else mask.shape}"
      )
    return self._run(params, images, jnp.asarray(mask, bool))

  def features(self, params: Any, images: jax.Array, stages: Sequence[int] | None = None) -> list[jax.Array]:
    """The feature pyramid: what the blocks of some stages put out, before merging and without a norm.

    Args:
      params, images: as in `apply`; nothing is masked.
      stages: which, None for all.

    Returns:
      float [B, H_i, W_i, C_i] for each, with a token for each stride of `module.encoder.levels`.

    Raises:
      BadInput: images do not fit, or there is no such stage.
    """
    self._check(images)
    stages = range(len(self.module.encoder.levels)) if stages is None else stages
    for stage in stages:
      self.check_stage(stage)
    return self._pyramid(params, images, tuple(stages))

  def fix_bias(self, params: Any) -> Any:
    """For inference at `image_size`: parameters in which each V2 bias MLP has given way to the bias that it
    makes.

    Every call would else compute it again, which shows with small batches and large windows. Whoever has
    fixed it can take only images with the same windows. A bias is [K, N, N] for each block: for large windows
    they are larger than the rest of the parameters. What has none to fix, or has it fixed already, comes back
    as it is.
    """
    with self._precision():
      return self.backbone.fix(self.module, params, self.description)

  def check_stage(self, stage: int) -> None:
    """Raises BadInput where the model has no such stage."""
    count = len(self.module.encoder.levels)
    if not 0 <= stage < count:
      raise BadInput(f"there is no stage {stage}; the model has stages 0 to {count - 1}")

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
      with self._precision():
        features = self.module.apply(
          {"params": params}, images, method=lambda module, images: module.encoder(images)
        )
      return [features.levels[stage] for stage in stages]

    return jax.jit(run, static_argnums=2)

  def _precision(self):
    """float32 means float32: GPUs and TPUs would by themselves shorten the factors of a product."""
    return jax.default_matmul_precision("highest" if self.module.encoder.dtype == jnp.float32 else "default")

  def _check(self, images: jax.Array) -> None:
    bands = len(self.description["data"]["mean"])
    if images.ndim != 4 or images.shape[-1] != bands:
      raise BadInput(f"images must be [B, height, width, {bands}], not {list(images.shape)}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
      raise BadInput(f"images must be normalised numbers, see `normalise`, not {images.dtype}")
    size = tuple(images.shape[1:3])
    if size != self.image_size and (why := self.backbone.refusal(self.description, size)):
      raise BadInput(f"{why}: load it with image_size={size}")


def load(
  path: str,
  *,
  window: int | tuple[int, int] | None = None,
  image_size: int | tuple[int, int] | None = None,
  dtype: str = "float32",
  kernel: str = "auto",
) -> tuple[Model, Any]:
  """Loads a trained model.

  Args:
    path: a model folder, a run's workdir (its newest whole checkpoint), or one WORKDIR/checkpoints/STEP.
    window: tokens, or (height, width); another window than that of the training, for all stages.
    image_size: pixels, or (height, width); where V1's windows depend on it.
    dtype: of the matrix products and activations, "float32" (in full, which is slow on GPUs and TPUs) or
      "bfloat16".
    kernel: of the attention; "xla" runs on every platform, "auto" is the fastest known here, "gpu" is to be
      tried on a GPU.

  Returns:
    The model, and its parameters: a tree of float32 arrays on the first device.

  Raises:
    BadInput: there is no model, it cannot have that window, or the device cannot run that kernel.
  """
  if dtype not in ("float32", "bfloat16"):
    raise BadInput(f"dtype must be 'float32' or 'bfloat16', not {dtype!r}")
  if kernel not in window_attention.CHOICES:
    raise BadInput(f"kernel must be one of {window_attention.CHOICES}, not {kernel!r}")
  device = jax.local_devices()[0]
  window_attention.check(kernel, device.platform)
  saved = folder.open_saved(str(path))
  description = descriptions.adapt(descriptions.describe(saved.config, saved.source), window, image_size)
  params, _ = read(saved, description)
  return Model(description, dtype, kernel=window_attention.choose(kernel, device)), params


def read(
  saved: Saved, description: dict[str, Any], rules: transfer.Rules = transfer.DEFAULT
) -> tuple[Any, transfer.Report]:
  """The parameters of a saved model for a description adapted from its own, on the first device, and what
  became of each.

  Raises:
    BadInput: they cannot be adapted so.
  """
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  shapes = descriptions.parameter_shapes(description)
  wanted = {path: jax.ShapeDtypeStruct(shape, jnp.float32, sharding=here) for path, shape in shapes.items()}
  arrays, report = transfer.read_all(saved, wanted, rules)
  return flax.traverse_util.unflatten_dict(arrays, sep="/"), report
