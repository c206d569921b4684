"""SimMIM masks: how many cells are masked, in which blocks, and that all cells are equally likely."""

import numpy as np
import pytest

from swin_jax.data.view import masks


@pytest.mark.parametrize(
  "ratio, count",
  [(0.6, 22), (0.0, 0), (1.0, 36), (0.5, 18), (0.51, 19)],
)
def test_count_is_the_rounded_up_share(ratio, count):
  mask = masks.block_mask(np.random.default_rng(0), (192, 192), 32, 4, ratio)
  assert mask.shape == (48, 48) and mask.dtype == bool
  assert mask.sum() == count * 64  # (32 / 4)² tokens per cell


def test_share_that_binary_numbers_miss_is_not_rounded_up():
  assert np.ceil(100 * 0.55) == 56
  assert masks.block_mask(np.random.default_rng(0), (40, 40), 4, 4, 0.55).sum() == 55


def test_image_that_is_not_square():
  mask = masks.block_mask(np.random.default_rng(0), (64, 160), 32, 8, 0.6)
  assert mask.shape == (8, 20)
  assert mask.sum() == 6 * 16


def test_cells_are_masked_whole():
  mask = masks.block_mask(np.random.default_rng(1), (96, 128), 32, 4, 0.5)
  cells = mask.reshape(3, 8, 4, 8).swapaxes(1, 2).reshape(12, 64).sum(axis=1)
  assert sorted(cells) == [0] * 6 + [64] * 6


def test_every_cell_and_pair_is_equally_likely():
  rng, n = np.random.default_rng(2), 3000
  drawn = np.stack([masks.block_mask(rng, (24, 32), 8, 8, 0.5).ravel() for _ in range(n)]).astype(int)
  pairs = drawn.T @ drawn
  cell, pair = np.diag(pairs), pairs[~np.eye(12, dtype=bool)]
  assert np.abs(cell - n / 2).max() < 5 * np.sqrt(n / 4)
  p = 6 * 5 / (12 * 11)
  assert np.abs(pair - n * p).max() < 5 * np.sqrt(n * p * (1 - p))


def test_the_generator_alone_decides():
  first, second, other = (
    masks.block_mask(np.random.default_rng(seed), (192, 192), 32, 4, 0.6) for seed in (5, 5, 6)
  )
  assert np.array_equal(first, second)
  assert not np.array_equal(first, other)


@pytest.mark.parametrize(
  "image_size, mask_patch_size, model_patch_size, ratio",
  [
    ((200, 192), 32, 4, 0.6),
    ((192, 200), 32, 4, 0.6),
    ((192, 192), 32, 5, 0.6),
    ((192, 192), 4, 8, 0.6),
    ((0, 192), 32, 4, 0.6),
    ((192, 192), 0, 4, 0.6),
    ((192, 192), 32, 4, -0.1),
    ((192, 192), 32, 4, 1.1),
  ],
)
def test_impossible_settings_are_named(image_size, mask_patch_size, model_patch_size, ratio):
  with pytest.raises(ValueError, match="mask"):
    masks.block_mask(np.random.default_rng(0), image_size, mask_patch_size, model_patch_size, ratio)
