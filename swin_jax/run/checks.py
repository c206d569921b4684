"""Mistakes in a config that show without data or devices: numbers that cannot be, and numbers that contradict
one another.
"""

import math

from ml_collections import ConfigDict

from swin_jax.data.read import image_ops, labels
from swin_jax.kernels.window_attention import CHOICES
from swin_jax.models import remat, upernet
from swin_jax.models.swin import make_config
from swin_jax.models.swin.geometry import geometry
from swin_jax.models.windows import chunk_counts, sides
from swin_jax.ops import rand_augment
from swin_jax.run import optim
from swin_jax.saved.choices import BANDS, BIAS_TABLES
from swin_jax.tasks import kinds
from swin_jax.terminal.errors import BadInput


def check(config: ConfigDict) -> None:
  """Checks what needs neither data nor devices.

  Raises:
    BadInput: numbers that cannot be; the message names the keys.
  """
  m, d, a = config.model, config.data, config.augment
  choices = {
    "task": (config.task, tuple(kinds.TARGETS)),
    "model.version": (m.version, (1, 2)),
    "model.dtype": (m.dtype, ("bfloat16", "float32")),
    "model.padding": (m.padding, ("masked", "attended")),
    "model.bias_rows": (m.bias_rows, ("offsets", "first")),
    "data.dtype": (d.dtype, ("uint8", "float32")),
    "model.attention_kernel": (m.attention_kernel, CHOICES),
    "optim.schedule": (config.optim.schedule, optim.SCHEDULES),
    "augment.interpolation": (a.interpolation, tuple(image_ops.INTERPOLATIONS)),
    "transfer.bias_tables": (config.transfer.bias_tables, BIAS_TABLES),
    "transfer.bands": (config.transfer.bands, BANDS),
  }
  for key, (value, allowed) in choices.items():
    if value not in allowed:
      raise BadInput(f"config.{key} = {value!r}: there are {', '.join(map(repr, allowed))}")
  for key, low, value, high in (
    ("augment.crop_scale", 0, *a.crop_scale),
    ("augment.crop_ratio", 0, *a.crop_ratio),
    ("augment.eval_crop_fraction", 0, a.eval_crop_fraction, 1),
    ("augment.rand_augment_magnitude", -1e-9, a.rand_augment_magnitude, 10),
    ("mask.ratio", 0, config.mask.ratio, 1),
  ):
    if not low < value <= high:
      raise BadInput(f"config.{key} must be more than {max(low, 0)} and at most {high}, and is {value}")
  for key, value in (
    ("data.batch_size", d.batch_size),
    ("data.eval_batch_size", d.eval_batch_size),
    ("data.num_threads", d.num_threads),
    ("log.every_steps", config.log.every_steps),
    ("optim.accumulation_steps", config.optim.accumulation_steps),
  ):
    if value < 1:
      raise BadInput(f"config.{key} = {value} must be at least 1")
  if d.class_names:
    raise BadInput("config.data.class_names are found in the data; leave it ()")
  if config.checkpoint.keep_latest < 2:
    raise BadInput(
      f"config.checkpoint.keep_latest = {config.checkpoint.keep_latest} must be at least 2: should the"
      " newest be damaged, the one before"
      " is used"
    )
  for key, value in (
    ("checkpoint.keep_every", config.checkpoint.keep_every),
    ("checkpoint.keep_best", config.checkpoint.keep_best),
    ("optim.skip_nonfinite_steps", config.optim.skip_nonfinite_steps),
    ("profile.num_steps", config.profile.num_steps),
    ("data.num_workers", d.num_workers),
  ):
    if value < 0:
      raise BadInput(f"config.{key} = {value} must not be negative")
  for key, low, value, high in (
    ("model.drop_path_rate", 0, m.drop_path_rate, 0.99),
    ("optim.ema_decay", 0, config.optim.ema_decay, 0.999999),
    ("optim.layer_decay", 0.01, config.optim.layer_decay, 1),
    ("classification.label_smoothing", 0, config.classification.label_smoothing, 0.99),
  ):
    if not low <= value <= high:
      raise BadInput(f"config.{key} must be between {low} and {high}, and is {value}")
  if not 0 <= config.optim.warmup_epochs <= config.optim.total_epochs:
    raise BadInput(
      f"config.optim.warmup_epochs = {config.optim.warmup_epochs} must not be more than optim.total_epochs"
      f" = {config.optim.total_epochs}"
    )
  if config.optim.schedule in ("step", "multistep") and not config.optim.milestone_epochs:
    raise BadInput(f"config.optim.schedule = '{config.optim.schedule}' needs optim.milestone_epochs")
  if a.rand_augment_operations and len(d.mean) not in rand_augment.BANDS:
    raise BadInput(
      f"RandAugment is for images of 1 or 3 bands, data.mean has {len(d.mean)}: set"
      " augment.rand_augment_operations=0"
    )
  if a.rand_augment_operations and d.dtype != "uint8":
    raise BadInput(
      f"RandAugment is for uint8 images, data.dtype is {d.dtype}: set augment.rand_augment_operations=0"
    )
  if a.rotate and d.image_size[0] != d.image_size[-1]:
    raise BadInput(
      f"augment.rotate turns by 90°, which needs square images: data.image_size = {d.image_size}"
    )
  if (shown := config.log.picture_bands) and (
    len(shown) not in (1, 3) or not 0 <= min(shown) <= max(shown) < len(d.mean)
  ):
    raise BadInput(f"log.picture_bands = {shown} must be one or three of the bands 0 to {len(d.mean) - 1}")
  if kinds.TARGETS[config.task]:
    _check_dense(config)
  if a.crop_padding and a.eval_crop_fraction != 1.0:
    raise BadInput("augment.crop_padding is for small images seen whole: set augment.eval_crop_fraction=1.0")
  stages = len(m.depths)
  for name in ("num_heads", "window_sizes", "trained_window_sizes", "attention_chunks"):
    if len(m[name]) != stages and (m[name] or name in ("num_heads", "window_sizes")):
      raise BadInput(
        f"model.{name} = {m[name]} needs one entry for each of the {stages} stages of model.depths ="
        f" {m.depths}"
      )
  for i, heads in enumerate(m.num_heads):
    if heads < 1 or (m.embed_dim * 2**i) % heads:
      raise BadInput(
        f"model.num_heads[{i}] = {heads} does not divide the {m.embed_dim * 2**i} channels of stage {i}"
      )
  _check_axes(config)
  if len(d.mean) != len(d.std) or not d.mean or min(d.std) <= 0:
    raise BadInput(
      f"data.mean = {d.mean} and data.std = {d.std} need one number a band, the deviations above 0"
    )
  if d.dtype == "uint8" and not all(0 <= mean <= 1 for mean in d.mean):
    raise BadInput(
      f"data.mean = {tuple(round(mean, 3) for mean in d.mean)}, but pixels of data.dtype=uint8 are scaled"
      " to 0..1: of rasters of other"
      " numbers give --config.data.dtype=float32"
    )
  remat.policy(m.remat)
  for i, (chunks, stage) in enumerate(
    zip(m.attention_chunks, geometry(make_config(**m), d.image_size), strict=False)
  ):
    try:
      chunk_counts(
        chunks,
        math.prod(stage.padded) // math.prod(stage.window),
        m.num_heads[i] // max(1, config.mesh.model),
      )
    except BadInput as error:
      raise BadInput(f"config.model.attention_chunks[{i}] = {chunks}: stage {i}, {error}") from error
  if d.batch_size % config.optim.accumulation_steps:
    raise BadInput(
      f"data.batch_size = {d.batch_size} does not divide into optim.accumulation_steps ="
      f" {config.optim.accumulation_steps}"
    )
  if config.task == "masked_pixels":
    p = config.mask.patch_size
    if any(p % side for side in sides(m.patch_size, 2)[-2:]) or any(side % p for side in d.image_size[-2:]):
      raise BadInput(
        f"mask.patch_size = {p} must divide data.image_size = {d.image_size} and be a multiple of"
        f" model.patch_size = {m.patch_size}"
      )


def _check_axes(config: ConfigDict) -> None:
  """Checks that all sizes have the axes of the image: data.image_size says how many."""
  m, image = config.model, config.data.image_size
  axes = len(image)
  if axes not in (2, 3):
    raise BadInput(f"data.image_size = {image} must be (height, width), or (frames, height, width) of clips")
  each = [("patch_size", m.patch_size), ("merge_size", m.merge_size)]
  each += [(key, size) for key in ("window_sizes", "trained_window_sizes") for size in m[key]]
  for key, size in each:
    if len(sides(size, 2)) != axes or min(sides(size, 2)) < 1:
      raise BadInput(
        f"model.{key} = {m[key]} must have one number of at least 1 for each of the {axes} axes of"
        f" data.image_size = {image}; one number for all stands for (height, width)"
      )
  if any(side < patch for side, patch in zip(image, sides(m.patch_size, 2), strict=True)):
    raise BadInput(f"data.image_size = {image} must be at least model.patch_size = {m.patch_size}")
  if m.bias_rows == "first" and (m.version, axes) != (1, 3):
    raise BadInput("model.bias_rows = 'first' is for model.version = 1 and data.image_size of clips")


def _check_dense(config: ConfigDict) -> None:
  """Checks what concerns answers for every pixel alone."""
  c, channels, bands = config.dense, config[config.task].channels, len(config.data.mean)
  for key, sizes in (
    ("dense.sides", c.sides),
    ("dense.eval_canvas", c.eval_canvas),
    ("dense.window", c.window),
  ):
    if not sizes and key != "dense.eval_canvas":
      continue
    if len(sizes) != 2 or min(sizes) < max(sides(config.model.patch_size, 2)):
      raise BadInput(
        f"config.{key} = {sizes} must be two numbers of pixels, each at least model.patch_size ="
        f" {config.model.patch_size}"
      )
  if len(c.scale_range) != 2 or not 0 < c.scale_range[0] <= c.scale_range[1]:
    raise BadInput(
      f"config.dense.scale_range = {c.scale_range} must be two factors above 0, the smaller first"
    )
  if not c.scales or min(c.scales) <= 0:
    raise BadInput(f"config.dense.scales = {c.scales} must be one or more factors above 0")
  if channels < 1 or channels % upernet.GROUP:
    raise BadInput(
      f"config.{config.task}.channels = {channels} must be a multiple of {upernet.GROUP}, in which they are"
      " normed"
    )
  if not 0 <= config.segmentation.num_classes <= labels.NONE:
    raise BadInput(
      f"config.segmentation.num_classes = {config.segmentation.num_classes} must be at most {labels.NONE},"
      " or 0 for those of the data"
    )
  if config.pixel_regression.value_std < 0:
    raise BadInput(
      f"config.pixel_regression.value_std = {config.pixel_regression.value_std} must be positive, or 0 for"
      " that of the data"
    )
  if c.photometric and (bands != 3 or config.data.dtype != "uint8"):
    raise BadInput(
      f"photometric distortion is for uint8 RGB, not {config.data.dtype} of {bands} bands: set"
      " dense.photometric=False"
    )
  if config.augment.rand_augment_operations:
    raise BadInput(
      f"RandAugment moves pixels away from their {kinds.TARGETS[config.task]}: set"
      " augment.rand_augment_operations=0"
    )
  if config.model.version == 1:
    _check_bias_tables(config)
  if len(config.model.depths) < 2:
    raise BadInput(f"UPerNet needs a pyramid of two stages or more, model.depths = {config.model.depths}")


def _check_bias_tables(config: ConfigDict) -> None:
  """V1's bias tables are of the windows of a crop, which whole images must have too."""
  m, c = config.model, config.dense

  def used(size):
    return [stage.window for stage in geometry(make_config(**m), size)]

  trained = used(config.data.image_size)
  for scale in c.scales:
    seen = tuple(max(1, round(side * scale)) for side in c.eval_canvas)
    seen = tuple(map(min, seen, c.window)) if c.window else seen
    if used(seen) != trained:
      raise BadInput(
        f"V1's bias tables are of the windows {trained} of crops of {config.data.image_size}, but in"
        f" evaluation, at {seen} pixels,"
        f" windows are {used(seen)}: take larger crops, smaller model.window_sizes, or V2"
      )
