"""What a contestant is, and the work that all of them do alike."""

from collections.abc import Callable
from typing import NamedTuple

SMOOTHING, CLIP_NORM, WEIGHT_DECAY, LEARNING_RATE, CLASSES = 0.1, 5.0, 0.05, 1e-4, 1000
CHECKED = 8  # images whose logits are compared
DEVIATION = 0.1  # of logits in bfloat16 from those in float32 that is still rounding


class Contestant(NamedTuple):
  """What is timed.

  Attributes:
    kinds: "forward", "train" → a function that starts the work, which need not be done when it returns.
    wait: returns when all work is done.
    peak_bytes: of the device's memory so far, 0 where nobody counts.
    deviation: ‖logits - theirs‖ / ‖theirs‖, the others being the stock model's in float32 on the same weights
      and images.
    versions: of what does the work.
  """

  kinds: dict[str, Callable[[], None]]
  wait: Callable[[], None]
  peak_bytes: Callable[[], int]
  deviation: Callable[[], float]
  versions: dict[str, str]
