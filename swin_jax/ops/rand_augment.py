"""RandAugment on the device: a few random operations on each image of a batch, drawn uniformly from fifteen.

This is the recipe of the official configs, "rand-m9-mstd0.5-inc1", from the augmentation library that they
pin: two operations per image, each skipped half of the time, with magnitude N(9, 0.5) of 10. A larger
magnitude always changes the image more.

Every operation matches Pillow's: look-ups exactly, blends to within one of 255 levels, warps up to rounding.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from swin_jax.ops import warp

MAX_MAGNITUDE = 10.0
BANDS = (1, 3)  # numbers of bands for which the operations are defined

# Ordered by the kinds below; within a kind, `_plain_table`, `_counted_table` and `_matrix` select operations
# by name.
OPERATIONS = (
  "invert",
  "posterize",
  "solarize",
  "solarize_add",
  "brightness",
  "auto_contrast",
  "equalize",
  "contrast",
  "color",
  "sharpness",
  "rotate",
  "shear_x",
  "shear_y",
  "translate_x",
  "translate_y",
)
NOTHING = -1  # in place of a skipped operation
_INDEX = {name: i for i, name in enumerate(OPERATIONS)}


def draw(
  rng: jax.Array, batch: int, *, operations: int, probability: float, magnitude: float, magnitude_std: float
) -> tuple[jax.Array, jax.Array]:
  """Draws the operations and levels of each image; they depend only on the key and the position in the batch.

  Args:
    rng: random key.
    batch: number of images.
    operations: number of operations drawn per image, with replacement.
    probability: probability that a drawn operation is applied.
    magnitude, magnitude_std: each application draws from N(magnitude, magnitude_std), clipped to 0..10.

  Returns:
    int32 [batch, operations], indices into `OPERATIONS` or `NOTHING`; and float32 [batch, operations], see
    `level`.
  """
  keys, shape = jax.random.split(rng, 4), (batch, operations)
  operation = jax.random.randint(keys[0], shape, 0, len(OPERATIONS))
  strength = jnp.clip(magnitude + magnitude_std * jax.random.normal(keys[1], shape), 0.0, MAX_MAGNITUDE)
  value = level(operation, strength, jax.random.rademacher(keys[2], shape, jnp.float32))
  return jnp.where(jax.random.uniform(keys[3], shape) < probability, operation, NOTHING), value


def level(operation: jax.Array, magnitude: jax.Array, sign: jax.Array) -> jax.Array:
  """Returns the argument of an operation, in the operation's unit.

  Args:
    operation: index into `OPERATIONS`.
    magnitude: 0 to 10.
    sign: -1 or 1; only some operations have a direction.

  Returns:
    Degrees (rotate), number of bits kept (posterize), pixel values (solarize: the threshold; solarize_add:
    the addend), a factor where 1 changes nothing (color, contrast, brightness, sharpness), a slope (shear),
    or a share of the side (translate); 0 for operations without an argument. float32.
  """
  share = magnitude / MAX_MAGNITUDE
  levels = {
    "rotate": sign * 30 * share,
    "posterize": 4 - jnp.floor(4 * share),
    "solarize": 256 - jnp.floor(256 * share),
    "solarize_add": jnp.floor(110 * share),
    **dict.fromkeys(("color", "contrast", "brightness", "sharpness"), 1 + sign * 0.9 * share),
    **dict.fromkeys(("shear_x", "shear_y"), sign * 0.3 * share),
    **dict.fromkeys(("translate_x", "translate_y"), sign * 0.45 * share),
  }
  return _choose(operation, levels, jnp.zeros_like(share))


def apply(images: jax.Array, operations: jax.Array, levels: jax.Array) -> jax.Array:
  """Applies the operations of each image, one after the other.

  Must run on the images of one device, see `sharding.per_device`.

  Args:
    images: uint8 [B, height, width, bands], RGB or grey.
    operations, levels: [B, n], see `draw`.

  Returns:
    uint8 [B, height, width, bands].
  """

  # A CPU core computes only the operations that an image needs. Elsewhere, computing all kinds of operations
  # for many images at once is faster than processing images in turn; 32 images of 256 pixels take 200 MB.
  by_platform = dict(cpu=functools.partial(in_turns, None), default=functools.partial(in_turns, 32))
  return jax.lax.platform_dependent(images, operations, levels, **by_platform)


def in_turns(at_once: int | None, images: jax.Array, operations: jax.Array, levels: jax.Array) -> jax.Array:
  """Runs `apply` on `at_once` images at a time, or on one after the other if None."""

  def augment(one):
    image, *drawn = one
    return jax.lax.scan(lambda image, what: (_apply(image, *what), None), image, tuple(drawn))[0]

  return jax.lax.map(augment, (images, operations, levels), batch_size=at_once)


def _apply(image: jax.Array, operation: jax.Array, value: jax.Array) -> jax.Array:
  """Applies one operation with its `level` to an image, uint8 [height, width, bands]."""
  kinds = {  # by the last operation of each kind
    NOTHING: lambda image: image,
    _INDEX["brightness"]: lambda image: _look_up(image, _plain_table(operation, value)),
    _INDEX["contrast"]: lambda image: _look_up(image, _counted_table(image, operation, value)),
    _INDEX["color"]: lambda image: _blend(_luminance(image), image, value),
    _INDEX["sharpness"]: lambda image: _blend(_smooth(image), image, value),
    _INDEX["translate_y"]: lambda image: warp.warp(image, _matrix(operation, value, *image.shape[:2])),
  }
  kind = jnp.searchsorted(np.array(list(kinds)), operation)
  return jax.lax.switch(kind, list(kinds.values()), image)


def _choose(operation: jax.Array, values: dict[str, jax.Array], default: jax.Array) -> jax.Array:
  """Returns the value of an operation."""
  return jnp.select([operation == _INDEX[name] for name in values], list(values.values()), default)


# Look-ups.


def _look_up(image: jax.Array, table: jax.Array) -> jax.Array:
  """Looks up the values of an image [height, width, bands] in a table [256] or [bands, 256]."""
  table = jnp.broadcast_to(table, (image.shape[-1], 256)).astype(jnp.uint8)
  return jnp.stack([table[i][image[..., i]] for i in range(image.shape[-1])], axis=-1)


def _plain_table(operation: jax.Array, value: jax.Array) -> jax.Array:
  """Returns the table, int32 [256], of an operation that does not depend on the image."""
  v = jnp.arange(256)
  whole = value.astype(jnp.int32)
  tables = {
    "posterize": v & (0xFF << (8 - whole)),
    "solarize": jnp.where(v < whole, v, 255 - v),
    "solarize_add": jnp.where(v < 128, jnp.minimum(v + whole, 255), v),
    "brightness": _blend(jnp.zeros_like(v), v, value).astype(jnp.int32),
  }
  return _choose(operation, tables, 255 - v)


def _counted_table(image: jax.Array, operation: jax.Array, value: jax.Array) -> jax.Array:
  """Returns the table, int32 [bands, 256], of an operation that depends on the histogram of the image."""
  v = jnp.arange(256)[None]
  counts = _histogram(image)
  mean = jnp.sum(_luminance(image)[..., 0], dtype=jnp.uint32) * 2 + image[..., 0].size
  mean = (mean // (2 * image[..., 0].size)).astype(jnp.int32)  # rounded
  tables = {
    "equalize": _equalize_table(counts),
    "contrast": jnp.broadcast_to(_blend(mean, v, value).astype(jnp.int32), counts.shape),
  }
  return _choose(operation, tables, _auto_contrast_table(counts))


def _histogram(image: jax.Array) -> jax.Array:
  """Counts the values of an image: int32 [bands, 256].

  The count is one matrix product, of the upper with the lower four bits of the values.
  """
  values = image.reshape(-1, image.shape[-1]).T
  upper, lower = (jax.nn.one_hot(bits, 16, dtype=jnp.bfloat16) for bits in (values >> 4, values & 15))
  counts = jnp.einsum("bpu,bpl->bul", upper, lower, preferred_element_type=jnp.float32)
  return counts.reshape(-1, 256).astype(jnp.int32)


def _auto_contrast_table(counts: jax.Array) -> jax.Array:
  """Returns the table, [bands, 256], that stretches the range of the values to 0..255."""
  v = jnp.arange(256)[None]
  low = jnp.argmax(counts > 0, axis=-1, keepdims=True)
  high = 255 - jnp.argmax(counts[:, ::-1] > 0, axis=-1, keepdims=True)
  spread = jnp.clip((v - low) * 255 // jnp.maximum(high - low, 1), 0, 255)
  code, short = (low << 16) + (high << 8) + v, jnp.asarray(_short_of_whole())
  spread -= short[jnp.minimum(jnp.searchsorted(short, code), len(short) - 1)] == code
  return jnp.where(high > low, spread, v)


@functools.cache
def _short_of_whole() -> np.ndarray:
  """Returns the cases in which Pillow's auto-contrast is one too low.

  Pillow multiplies in float64 and truncates; here the product is just below a whole number.

  Returns:
    int32, sorted: 65536 · lowest + 256 · highest + value.
  """
  codes, v = [], np.arange(256)
  for low in range(256):
    for high in range(low + 1, 256):
      scale = 255.0 / (high - low)
      short = (v * scale + -low * scale).astype(int) < (v - low) * 255 // (high - low)
      codes.append((low << 16) + (high << 8) + v[short & (low <= v) & (v <= high)])
  return np.concatenate(codes).astype(np.int32)


def _equalize_table(counts: jax.Array) -> jax.Array:
  """Returns the table, [bands, 256], that makes all values about equally frequent."""
  v = jnp.arange(256)[None]
  last = jnp.take_along_axis(counts, 255 - jnp.argmax(counts[:, ::-1] > 0, axis=-1, keepdims=True), axis=-1)
  step = (jnp.sum(counts, axis=-1, keepdims=True) - last) // 255
  below = jnp.cumsum(counts, axis=-1) - counts
  return jnp.where(step > 0, jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255), v)


# Blends.


def _blend(other: jax.Array, image: jax.Array, factor: jax.Array) -> jax.Array:
  """Returns other + factor · (image - other), clipped and truncated to uint8.

  Factor 0 gives `other`, 1 gives `image`; 2 extrapolates by the same distance beyond `image`.
  """
  other, image = other.astype(jnp.float32), image.astype(jnp.float32)
  return jnp.clip(other + factor * (image - other), 0, 255).astype(jnp.uint8)


def _luminance(image: jax.Array) -> jax.Array:
  """Returns the luminance, uint8 [height, width, 1], in Pillow's fixed-point arithmetic."""
  if image.shape[-1] == 1:
    return image
  weights = np.array([19595, 38470, 7471], np.uint32)
  return ((jnp.sum(image * weights[None, None], axis=-1, keepdims=True) + 0x8000) >> 16).astype(jnp.uint8)


def _smooth(image: jax.Array) -> jax.Array:
  """Smooths an image: every pixel becomes (5 · itself + its eight neighbours) / 13, except at the border."""
  x = image.astype(jnp.int32)
  rows = x[:-2] + x[1:-1] + x[2:]
  total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * x[1:-1, 1:-1]
  return image.at[1:-1, 1:-1].set(((2 * total + 13) // 26).astype(jnp.uint8))


# Warps.


def _matrix(operation: jax.Array, value: jax.Array, height: int, width: int) -> tuple[jax.Array, ...]:
  """Returns (a, b, c, d, e, f): output pixel (x, y) comes from input (a x + b y + c, d x + e y + f)."""
  angle = jnp.where(operation == _INDEX["rotate"], -math.pi / 180 * value, 0.0)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  zero = jnp.zeros_like(value)
  return (
    cos,
    sin + _choose(operation, {"shear_x": value}, zero),
    (1 - cos) * width / 2 - sin * height / 2 + _choose(operation, {"translate_x": value * width}, zero),
    -sin + _choose(operation, {"shear_y": value}, zero),
    cos,
    (1 - cos) * height / 2 + sin * width / 2 + _choose(operation, {"translate_y": value * height}, zero),
  )
