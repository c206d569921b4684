"""The moments of the bands of an image, against plain sums."""

import numpy as np
import pytest

from swin_jax.data.prepare import measuring


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("bands", [1, 3, 5])
def test_moments_are_those_of_the_valid_pixels(dtype, missing, bands):
  rng = np.random.default_rng(0)
  flat = rng.integers(3, 200, (977, bands)).astype(dtype)
  flat[:, 0] = 0 if dtype == "uint8" else 7  # a constant band
  if missing and dtype == "float32":
    flat[rng.random(flat.shape) < 0.3] = np.nan
  columns = [band[~np.isnan(band)].astype(np.longdouble) for band in flat.T]
  expected = [(len(x), x.mean(), ((x - x.mean()) ** 2).sum(), x.min(), x.max()) for x in columns]
  moments = measuring._moments(flat)
  assert all(row.dtype == np.float64 for row in moments)
  np.testing.assert_allclose(np.array(moments), np.array(expected, np.float64).T, rtol=1e-13)
