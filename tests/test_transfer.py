"""What becomes of V1's bias tables at another window."""

import numpy as np
import pytest

from swin_jax import transfer
from swin_jax.errors import BadInput


def offsets(window):
  return np.arange(1 - window, window)


@pytest.mark.parametrize("old, new", [(6, 7), (7, 14), (6, 12)])
def test_centre_and_corners_keep_their_place(old, new):
  """The official rule spreads offsets geometrically: 0 stays 0, 1 stays 1, and the largest comes to lie at the largest."""
  rows, columns = np.meshgrid(offsets(old), offsets(old), indexing="ij")
  table = np.stack([rows, columns, rows * 0 + 3.0], -1).reshape(-1, 3).astype(float)
  resized = transfer.resize_bias_table(table, (2 * new - 1) ** 2).reshape(2 * new - 1, 2 * new - 1, 3)
  middle = new - 1
  np.testing.assert_allclose(resized[middle, middle], [0, 0, 3], atol=1e-9)
  np.testing.assert_allclose(resized[middle + 1, middle - 1], [1, -1, 3], atol=1e-9)
  np.testing.assert_allclose(resized[-1, 0], [old - 1, 1 - old, 3], atol=0.02)
  np.testing.assert_allclose(resized[..., 2], 3, atol=1e-9)
  assert (np.diff(resized[:, middle, 0]) > 0).all()


@pytest.mark.parametrize("old, new, why", [(45, 169, "square windows"), (169, 45, "square windows"), (9, 169, "four tokens")])
def test_windows_it_cannot_do_are_refused(old, new, why):
  with pytest.raises(BadInput, match=why):
    transfer.resize_bias_table(np.zeros((old, 1)), new)
