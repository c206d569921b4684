"""Bands and normalisation of the Satlas checkpoints (arXiv 2211.15660), which no file states.

They are recognised by the name of the file, as in sentinel2_swinb_si_ms.pth, or by a rare number of bands.
"""

import re
from typing import NamedTuple


class Sensor(NamedTuple):
  """What a family of checkpoints was trained on.

  Attributes:
    stem: pattern of the beginning of the files' names.
    bands: in their order.
    mean, std: of each band, for 8-bit pixels scaled to 0..1 (up to four bands) or for raw numbers (more).
    rare: whether the number of bands is enough to recognise the family.
  """

  stem: str
  bands: str
  mean: list[float]
  std: list[float]
  rare: bool = False


_SENSORS = (
  Sensor(
    "sentinel2_swin[a-z]_[ms]i_ms",
    "B04 B03 B02 (8-bit true colour) B05 B06 B07 B08 B11 B12 (reflectance numbers)",
    [0.0] * 9,
    [255.0] * 3 + [8160.0] * 6,
    rare=True,
  ),
  Sensor("sentinel2_swin[a-z]_[ms]i_rgb", "B04 B03 B02", [0.0] * 3, [1.0] * 3),
  Sensor("aerial_swin[a-z]_[ms]i", "R G B", [0.0] * 3, [1.0] * 3),
  Sensor("landsat_swin[a-z]_[ms]i", "B01 to B11", [4000.0] * 11, [16320.0] * 11, rare=True),
  Sensor("sentinel1_swin[a-z]_[ms]i", "VH VV", [0.0] * 2, [1.0] * 2),
)


def sensor_of(name: str, bands: int) -> Sensor | None:
  """Returns the family of a file with torchvision's names, by its name and number of bands."""
  fitting = [sensor for sensor in _SENSORS if len(sensor.mean) == bands]
  return next((s for s in fitting if s.rare or re.match(s.stem, name)), None)
