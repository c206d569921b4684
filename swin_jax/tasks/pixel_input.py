"""Config keys and batches of the tasks with a target for every pixel: images, each with a map."""

from collections.abc import Callable, Sequence
import math

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from swin_jax.data.view import dense_views
from swin_jax.models import levels_of, norms
from swin_jax.ops import photometric
from swin_jax.tasks import augmentation, dense, pictures
from swin_jax.tasks.task import Evaluation, Fields
from swin_jax.terminal import rules
from swin_jax.terminal.errors import BadInput

RULES = {
  **augmentation.RULES,
  **pictures.RULES,
  "dense.sides": rules.Items(rules.SIDE, (0, 2)),
  "dense.scale_range": rules.Items(rules.Real(0.1, 10), (2,), rising=True),
  "dense.photometric": rules.FLAG,
  "dense.eval_canvas": rules.Items(rules.SIDE, (2,)),
  "dense.window": rules.Items(rules.SIDE, (0, 2)),
  "dense.scales": rules.Items(rules.Real(0.1, 10), range(1, 33)),
  "dense.mirrored": rules.FLAG,
}
HEAD = {  # keys of the head, in the group of the task
  "channels": rules.Whole(1, 16384),
  "auxiliary_channels": rules.Whole(1, 16384),
  "norm": rules.Choice(*norms.NORMS),
}
OLD_HEAD = {"auxiliary_channels": 256, "norm": "group"}  # see `TaskKind.defaults_of_old_formats`
_ENLARGED = 2  # times; less is within the random scales of training
READS = ("dense", *augmentation.READS, *pictures.READS)
# Keys that a model folder keeps: how to resize images and what the model sees of them at once.
DESCRIBE = {"dense": ("sides", "eval_canvas", "window"), "augment": ("interpolation",)}


def fields(config: ConfigDict, target: str, dtype: type) -> Fields:
  """Returns the fields of a batch: the image, its map under the name `target`, and for float32 images
  "valid", which marks the pixels that hold data.
  """
  size, image_dtype = tuple(config.data.image_size), jnp.dtype(config.data.dtype)
  held = {"image": ((*size, len(config.data.mean)), image_dtype), target: (size, dtype)}
  return held | ({"valid": (size, jnp.bool_)} if image_dtype == jnp.float32 else {})


def views(config: ConfigDict, target: str) -> tuple[dense_views.Augment, dense_views.EvalView]:
  """Returns the (training, evaluation) views of images with maps; the views name the map `target`."""
  d, a, c = config.data, config.augment, config.dense
  fill = tuple(round(255 * mean) if d.dtype == "uint8" else float("nan") for mean in d.mean)
  augmented = dense_views.Augment(
    image_size=d.image_size,
    sides=c.sides,
    scale_range=c.scale_range,
    flip_probability=a.flip_probability,
    interpolation=a.interpolation,
    fill=fill,
    field=target,
    rotate=a.rotate,
  )
  return augmented, dense_views.EvalView(c.eval_canvas, c.sides, a.interpolation, fill, target)


def augment(config: ConfigDict) -> Callable[[dict, jax.Array], dict] | None:
  """Returns the function that applies photometric distortion to a batch on the device; None if it is off."""
  if not config.dense.photometric:
    return None
  return lambda batch, rng: batch | {"image": photometric.distort(batch["image"], rng)}


def test_time_views(config: ConfigDict) -> dense.TestTimeViews:
  """Returns the views of an image that evaluation averages over."""
  return dense.TestTimeViews(config.dense.window, config.dense.scales, config.dense.mirrored)


def evaluation(config: ConfigDict) -> Evaluation:
  """Returns what the model sees in an evaluation: whole images or a sliding window."""
  window, canvas = config.dense.window, tuple(config.dense.eval_canvas)

  def input_size(size):
    return tuple(map(min, size, window)) if window else size

  how = " by a sliding window" if window else " or less"
  note = f"{how}, those over {' × '.join(map(str, canvas))} made smaller"
  scaled = [tuple(max(1, round(side * scale)) for side in canvas) for scale in config.dense.scales]
  return Evaluation(input_size(canvas), note, tuple(map(input_size, scaled)))


def check(config: ConfigDict, group: str) -> None:
  """Checks the keys of `READS`, and the head, whose keys are in the group `group`.

  Raises:
    BadInput: the backbone or the images do not allow a value; the message names the keys.
  """
  augmentation.check_images(config)
  c, bands, levels = config.dense, len(config.data.mean), levels_of(config)
  for key, sizes in (
    ("dense.sides", c.sides),
    ("dense.eval_canvas", c.eval_canvas),
    ("dense.window", c.window),
  ):
    if sizes and min(sizes) < max(levels[0].stride):
      raise BadInput(
        f"config.{key} = {sizes} must be two numbers of pixels, each at least {max(levels[0].stride)}, the"
        " backbone's patch"
      )
  for key, sizes, scale in (
    ("dense.sides", c.sides, c.scale_range[1]),
    ("dense.eval_canvas", c.eval_canvas, max(c.scales)),
  ):
    if sizes and math.prod(sizes) * scale**2 > rules.MOST_PIXELS:
      raise BadInput(
        f"config.{key} = {sizes} at a scale of {scale:g} has more than {rules.MOST_PIXELS:,} pixels; make it"
        " smaller"
      )
  augmentation.check(config)
  pictures.check(config)
  check_head(config, group)
  if c.photometric and (bands != 3 or config.data.dtype != "uint8"):
    raise BadInput(
      f"photometric distortion needs uint8 RGB, not {config.data.dtype} of {bands} bands: set"
      " dense.photometric=False"
    )


def warnings(config: ConfigDict, largest: tuple[int, int] | None) -> Sequence[str]:
  """Returns a line if dense.sides enlarges every training image; see `TaskKind.warnings`."""
  sides = config.dense.sides
  if largest is None or not sides:
    return ()
  scale = min(side / held for side, held in zip(sorted(sides), sorted(largest), strict=True))
  if scale < _ENLARGED:
    return ()
  return (
    f"dense.sides = {tuple(sides)} enlarges every training image {scale:.3g} times, the largest of"
    f" {largest[0]} × {largest[1]} px, which takes time and adds no detail: --config.dense.sides=() keeps"
    " their size",
  )


def check_head(settings: ConfigDict, group: str) -> None:
  """Checks the channels of the head, in the group `group`, and the stages of the backbone.

  Raises:
    BadInput: UPerNet does not allow them; the message names the keys.
  """
  head, levels = settings[group], levels_of(settings)
  for key in ("channels", "auxiliary_channels"):
    if head.norm == "group" and head[key] % norms.GROUP:
      raise BadInput(
        f"config.{group}.{key} = {head[key]} must be a multiple of {norms.GROUP}, the group size of the norm"
      )
  if len(levels) < 2:
    raise BadInput(f"UPerNet needs at least two stages, but the backbone has {len(levels)}")
