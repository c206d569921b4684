"""Config keys of the pictures that a run logs, for the tasks that have `Task.pictures`."""

from ml_collections import ConfigDict

from swin_jax.terminal.errors import BadInput

READS = ("log.num_pictures", "log.picture_bands")


def check(config: ConfigDict) -> None:
  """Checks the keys of `READS`.

  Raises:
    BadInput: the images do not have the bands to show.
  """
  shown, bands = config.log.picture_bands, len(config.data.mean)
  if shown and (len(shown) not in (1, 3) or not 0 <= min(shown) <= max(shown) < bands):
    raise BadInput(f"log.picture_bands = {shown} must be one or three of the bands 0 to {bands - 1}")
