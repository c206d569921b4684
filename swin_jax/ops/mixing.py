"""Batch operations on the device, inside the step: normalisation, random erasing, mixup and cutmix.

Images are [B, height, width, bands]; every function that draws random numbers takes an rng key.
"""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp

GROUP = 128  # images that share one draw of mixup or cutmix: the official batch of one GPU


def normalise(images: jax.Array, mean: Sequence[float], std: Sequence[float]) -> jax.Array:
  """Returns (x - mean) / std per band, float32.

  uint8 values are scaled to 0..1 first. Floats are used unscaled, and NaN becomes 0, the mean.
  """
  axes = (None,) * (images.ndim - 1)
  mean, std = (jnp.asarray(values, jnp.float32)[axes] for values in (mean, std))
  if images.dtype == jnp.uint8:
    return (images.astype(jnp.float32) / 255.0 - mean) / std
  return jnp.where(jnp.isnan(images), 0.0, (images - mean) / std)


def _box(height: int, width: int, top, left, h, w) -> jax.Array:
  """Returns bool [..., height, width], true inside boxes given by arrays of any shape [...], in pixels."""
  top, left, h, w = (jnp.asarray(v)[..., None, None] for v in (top, left, h, w))
  lead = (None,) * (top.ndim - 2)
  y, x = jnp.arange(height)[(*lead, slice(None), None)], jnp.arange(width)[(*lead, None, slice(None))]
  return (y >= top) & (y < top + h) & (x >= left) & (x < left + w)


def erase(images: jax.Array, rng: jax.Array, probability: float) -> jax.Array:
  """Applies random erasing: replaces one box per image with noise N(0, 1), drawn for every pixel and band.

  As in the official recipe, the area is U(0.02, 1/3) of the image and the aspect ratio is log-uniform in
  (0.3, 1 / 0.3). Of ten boxes drawn, the first that is smaller than the image in both dimensions is used; if
  there is none, nothing is erased.

  Args:
    images: [B, height, width, bands] float32, normalised.
    rng: random key.
    probability: probability that an image is erased.
  """
  b, height, width, _ = images.shape
  keys = jax.random.split(rng, 5)
  area = jax.random.uniform(keys[0], (b, 10), minval=0.02, maxval=1 / 3) * height * width
  aspect = jnp.exp(jax.random.uniform(keys[1], (b, 10), minval=jnp.log(0.3), maxval=jnp.log(1 / 0.3)))
  h, w = jnp.round(jnp.sqrt(area * aspect)), jnp.round(jnp.sqrt(area / aspect))
  fits = (h < height) & (w < width)
  first = jnp.argmax(fits, axis=1)
  h, w = (jnp.take_along_axis(side, first[:, None], axis=1)[:, 0] for side in (h, w))
  corner = jax.random.uniform(keys[2], (b, 2))
  top, left = jnp.floor(corner[:, 0] * (height - h + 1)), jnp.floor(corner[:, 1] * (width - w + 1))
  chosen = (jax.random.uniform(keys[3], (b,)) < probability) & jnp.any(fits, axis=1)
  inside = _box(height, width, top, left, h, w) & chosen[:, None, None]
  return jnp.where(inside[..., None], jax.random.normal(keys[4], images.shape, images.dtype), images)


def mix(
  images: jax.Array, targets: jax.Array, rng: jax.Array, *, mixup_alpha: float, cutmix_alpha: float
) -> tuple[jax.Array, jax.Array]:
  """Applies mixup or cutmix to pairs of images i and B-1-i of the batch.

  As in the official recipe, if both alphas are positive, each method is used half of the time; if one is,
  always that method. One draw of method, share and box serves all images. In the official recipe these are
  the 128 images of one GPU. A batch of n · 128 images therefore makes n draws, each for 128 consecutive
  images that are mixed with each other. This preserves the variance of the gradient, is independent of the
  number of devices, and exchanges no images between devices that hold whole groups.

  Args:
    images: [B, height, width, bands] float32.
    targets: [B, classes] float32 distributions.
    rng: random key.
    mixup_alpha, cutmix_alpha: α of Beta(α, α), from which the share λ of the image itself is drawn; 0
      disables the method.

  Returns:
    Mixed images and targets.
  """
  if not mixup_alpha and not cutmix_alpha:
    return images, targets
  groups = len(images) // GROUP if len(images) % GROUP == 0 else 1
  split = [x.reshape(groups, -1, *x.shape[1:]) for x in (images, targets)]
  mixed = jax.vmap(functools.partial(_mix_group, mixup_alpha, cutmix_alpha))(
    *split, jax.random.split(rng, groups)
  )
  return mixed[0].reshape(images.shape), mixed[1].reshape(targets.shape)


def _mix_group(mixup_alpha: float, cutmix_alpha: float, images, targets, rng) -> tuple[jax.Array, jax.Array]:
  keys = jax.random.split(rng, 4)
  use_cutmix = jax.random.bernoulli(keys[0], 0.5 if mixup_alpha and cutmix_alpha else float(cutmix_alpha > 0))
  mixup_share = jax.random.beta(keys[1], mixup_alpha, mixup_alpha) if mixup_alpha else 1.0
  cutmix_share = jax.random.beta(keys[2], cutmix_alpha, cutmix_alpha) if cutmix_alpha else 1.0

  pasted = _cutmix_box(keys[3], *images.shape[1:3], cutmix_share)
  cutmix_share = 1.0 - jnp.mean(pasted)  # the actual share, after clipping the box at the border

  partner = images[::-1]
  images = jnp.where(
    use_cutmix,
    jnp.where(pasted[None, ..., None], partner, images),
    mixup_share * images + (1.0 - mixup_share) * partner,
  )
  share = jnp.where(use_cutmix, cutmix_share, mixup_share)
  return images, share * targets + (1.0 - share) * targets[::-1]


def _cutmix_box(rng: jax.Array, height: int, width: int, share: jax.Array) -> jax.Array:
  """Returns bool [height, width], true in a box with 1 - share of the area.

  Its centre is uniform; the box is clipped at the border.
  """
  side = jnp.sqrt(1.0 - share)
  y, x = jax.random.randint(rng, (2,), 0, jnp.array([height, width]))
  half = jnp.floor(height * side) // 2, jnp.floor(width * side) // 2
  return _box(height, width, y - half[0], x - half[1], 2 * half[0], 2 * half[1])
