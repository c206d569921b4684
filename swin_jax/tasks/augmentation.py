"""Config keys of the augmentations that images with and without a target per pixel share."""

from ml_collections import ConfigDict

from swin_jax.data.read import image_ops
from swin_jax.terminal import rules
from swin_jax.terminal.errors import BadInput

RULES = {
  "augment.interpolation": rules.Choice(*image_ops.INTERPOLATIONS),
  "augment.flip_probability": rules.Real(0, 1),
  "augment.rotate": rules.FLAG,
}
READS = tuple(RULES)


def check_images(config: ConfigDict) -> None:
  """Checks that data.image_size is one of images.

  Raises:
    BadInput: it is one of clips, which no view reads.
  """
  size = config.data.image_size
  if len(size) != 2:
    raise BadInput(
      f"task={config.task} reads images, not clips: data.image_size = {size} must be (height, width)"
    )


def check(config: ConfigDict) -> None:
  """Checks the keys of `READS`.

  Raises:
    BadInput: the images do not allow a value.
  """
  size = config.data.image_size
  if config.augment.rotate and size[-2] != size[-1]:
    raise BadInput(f"augment.rotate rotates by 90°, which needs square images: data.image_size = {size}")
