"""Config keys of the pictures that a run logs, for the tasks that have `Task.pictures`."""

from ml_collections import ConfigDict

from swin_jax.terminal import rules
from swin_jax.terminal.errors import BadInput

RULES = {
  "log.num_pictures": rules.Whole(0, 1024),
  "log.picture_bands": rules.Items(rules.Whole(0, 4095), (0, 1, 3)),
}
READS = tuple(RULES)


def check(config: ConfigDict) -> None:
  """Checks the keys of `READS`.

  Raises:
    BadInput: the images do not have the bands to show.
  """
  shown, bands = config.log.picture_bands, len(config.data.mean)
  if shown and max(shown) >= bands:
    raise BadInput(f"log.picture_bands = {shown} must be one or three of the bands 0 to {bands - 1}")
