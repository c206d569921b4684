"""Numbers of rasters that most likely mark pixels without data, by the extremes of each band."""

import re

_RECURS = 2  # pixels in which a number recurs
_LONE = 0.02  # distance of a lone 0 from all other numbers, as a share of their range
_OFTEN = 0.01  # share of the pixels in which a lone 0 occurs


def is_outlier(column: dict, end: str) -> bool:
  """Returns whether the lowest or highest number of a band recurs far outside all others.

  Far outside: as far from the others as these are from each other; or of digits 9 and a tenth as far; or the
  only negative number, if more than noise around 0. Bands of three numbers and fewer are masks or codes.
  """
  if len(column["low"]) < 2 or len(column["high"]) < 2 or column["high"][1][0] <= column["low"][1][0]:
    return False
  (value, count), (nearest, count_of_nearest) = column[end]
  farthest = column["high" if end == "low" else "low"][0][0]
  distance, spread = abs(nearest - value), abs(farthest - nearest)
  is_only_negative = value < 0 <= nearest and (count > count_of_nearest or count >= column["pixels"] / 100)
  is_nines = re.fullmatch("-?99+", number(value)) and distance >= spread / 10
  return count >= _RECURS and (distance >= spread or is_only_negative or bool(is_nines))


def has_lone_zero(column: dict) -> bool:
  """Returns whether 0 is the lowest number of a band, frequent, and apart from all others.

  Apart: by a share of their range, and by more than the highest number from the second highest, which numbers
  in steps are not. Numbers of 8 bits are never apart: 0 is black.
  """
  if len(column["low"]) < 2 or len(column["high"]) < 2:
    return False
  ((zero, count), (nearest, count_of_nearest)), ((highest, _), (second, _)) = column["low"], column["high"]
  is_frequent = count > count_of_nearest and count >= _OFTEN * column["pixels"]
  is_apart = nearest >= _LONE * (highest - nearest) and highest - second < nearest < second
  are_bytes = highest <= 255 and all(value == int(value) for value in (nearest, second, highest))
  return zero == 0 and is_frequent and is_apart and not are_bytes


def number(value: float) -> str:
  """Formats a number as a flag would be given it, as short as it is exact."""
  return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.9g}"
