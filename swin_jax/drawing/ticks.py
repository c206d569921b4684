"""Ticks of the axes of a chart: round numbers, and how to write them."""

from collections.abc import Sequence
import math
from typing import NamedTuple

_STEPS = (1, 2, 2.5, 5, 10)
_SMALL, _LARGE = 1e-3, 1e5  # numbers outside are written as multiples of a power of ten


class Scale(NamedTuple):
  """An axis: the range that it shows, its ticks, and whether distances are ratios."""

  low: float
  high: float
  ticks: tuple[float, ...]
  labels: tuple[str, ...]
  unit: str  # factor of the labels, such as "1e-4"; "" for 1
  is_log: bool = False

  def place(self, value: float) -> float:
    """Returns where a value lies between both ends of the axis, 0 to 1."""
    low, high, value = (math.log(x) if self.is_log else x for x in (self.low, self.high, value))
    return (value - low) / (high - low)


def linear(values: Sequence[float], count: int = 5, pad: float = 0.04) -> Scale:
  """Returns the axis that shows finite values with about `count` ticks and a margin, a share of the range."""
  low, high = min(values), max(values)
  if high - low <= 1e-9 * max(abs(low), abs(high)):  # one value
    reach = abs(high) * 0.1 or 1.0
    low, high = low - reach, high + reach
  margin = pad * (high - low)
  low, high = low - margin, high + margin
  power = 10.0 ** math.floor(math.log10((high - low) / count))
  step = min((each * power for each in _STEPS), key=lambda each: abs((high - low) / each - count))
  ticks = tuple(i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1))
  return Scale(low, high, ticks, *_written(ticks, step))


def logarithmic(values: Sequence[float]) -> Scale:
  """Returns the axis of ratios that shows positive values; its ticks are 1, 2 and 5 times powers of ten."""
  low, high = min(values) / 1.15, max(values) * 1.15
  powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
  factors = (1, 2, 5) if len(powers) < 4 else (1,)
  ticks = tuple(
    tick for power in powers for factor in factors if low <= (tick := factor * 10.0**power) <= high
  )
  return Scale(low, high, ticks, tuple(f"{tick:g}" for tick in ticks), "", is_log=True)


def _written(ticks: Sequence[float], step: float) -> tuple[tuple[str, ...], str]:
  """Returns the labels of ticks, with as many decimals as their distance needs, and the factor of all."""
  largest = max(map(abs, ticks), default=0.0)
  power = 0
  if largest and not _SMALL <= largest < _LARGE:
    power = math.floor(math.log10(largest))
  ticks, step = [tick / 10.0**power for tick in ticks], step / 10.0**power
  decimals = next(n for n in range(12) if abs(round(step, n) - step) < 1e-9 * abs(step))
  return tuple(f"{tick + 0.0:,.{decimals}f}" for tick in ticks), f"1e{power}" if power else ""
