"""The interface of a contestant, and the settings of the work that all contestants share."""

from collections.abc import Callable
from typing import NamedTuple

SMOOTHING, CLIP_NORM, WEIGHT_DECAY, LEARNING_RATE, CLASSES = 0.1, 5.0, 0.05, 1e-4, 1000
CHECKED = 8  # images whose logits are compared
DEVIATION = 0.1  # relative deviation of bfloat16 logits from float32 that still counts as rounding


class Contestant(NamedTuple):
  """The operations that are timed.

  Attributes:
    kinds: "forward", "train" → a function that starts the work, which may still be running when it returns.
    wait: returns when all work is done.
    peak_bytes: returns the peak memory use of the device so far; 0 on devices that do not report it.
    deviation: returns ‖logits - stock‖ / ‖stock‖, where the stock model runs in float32 on the same weights
      and images.
    versions: versions of the libraries used.
  """

  kinds: dict[str, Callable[[], None]]
  wait: Callable[[], None]
  peak_bytes: Callable[[], int]
  deviation: Callable[[], float]
  versions: dict[str, str]
