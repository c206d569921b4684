"""Images of eight bits are whole numbers in 0..255 or fractions in 0..1; anything else is named."""

import numpy as np
import pytest

from swin_jax.data.read import ranges

pytestmark = pytest.mark.every_python


@pytest.mark.parametrize(
  "dtype, values",
  [(dtype, (0, 255)) for dtype in ["u1", "u2", "u4", "u8", "i2", "i4", "i8"]]
  + [(dtype, (0, 1)) for dtype in ["f2", "f4", "f8", "i1"]]
  + [("f4", (-0.2, 1.3))],  # interpolation overshoots
)
def test_accepted(dtype, values):
  ranges.check(np.asarray(values, dtype))


@pytest.mark.parametrize(
  "dtype, values, message",
  [
    ("f4", (0, 255), "has float32 pixels from 0 to 255: fractions must be from 0 to 1; divide them by 255"),
    ("f8", (3, 180), "divide them by 255"),
    ("f4", (-2.1, 2.6), "look normalised already"),
    ("f4", (0, 5), "convert them to that range"),
    ("f4", (0, 4000), "convert them to that range"),
    ("f4", (-9999, 0.5), "convert them to that range"),
    ("f4", (0, np.nan), "not finite"),
    ("f8", (0, np.inf), "not finite"),
    ("u2", (0, 4095), "has uint16 pixels from 0 to 4,095: .* divide 16-bit images by 65535"),
    ("i8", (0, 70000), "from 0 to 70,000: whole numbers must be from 0 to 255; convert them to that range$"),
    ("i2", (-1, 255), "from -1 to 255"),
    ("?", (0, 1), "is of type bool"),
    ("c8", (0, 1), "is of type complex64"),
    ("f4", (), "is empty"),
  ],
)
def test_refused(dtype, values, message):
  with pytest.raises(ValueError, match=message):
    ranges.check(np.asarray(values, dtype))
