"""The geometry of windows, compared with brute force and with hand-written numbers."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from swin_jax.models import windows

MAPS = [  # map, window, shift
  ((8, 8), (4, 4), (2, 2)),
  ((12, 8), (4, 4), (2, 2)),
  ((9, 13), (4, 4), (2, 2)),
  ((7, 10), (3, 5), (1, 2)),
  ((6, 8), (6, 4), (0, 2)),
  ((5, 8), (3, 4), (0, 0)),
  ((10, 15), (5, 5), (2, 2)),
  ((5, 3), (2, 3), (1, 0)),
  ((4, 4, 6), (2, 2, 3), (1, 1, 1)),
  ((5, 3, 7), (4, 2, 3), (2, 1, 1)),
  ((3, 4, 5), (3, 4, 2), (0, 0, 1)),
  ((2, 5, 5), (2, 5, 5), (0, 0, 0)),
  ((3, 2, 4), (7, 4, 4), (3, 2, 2)),  # windows that do not shrink
  ((5, 9), (7, 7), (3, 3)),
]


@pytest.mark.parametrize("map_size, window, _", MAPS)
def test_merge_undoes_partition(map_size, window, _):
  padded = windows.padded_size(map_size, window)
  x = np.random.default_rng(0).normal(size=(2, *padded, 3))
  parts = windows.partition(x, window)
  assert parts.shape == (2, math.prod(padded) // math.prod(window), math.prod(window), 3)
  np.testing.assert_array_equal(windows.merge(parts, window, padded), x)


def test_partition_of_a_clip_is_row_major_with_time_first():
  x = np.arange(4 * 2 * 2).reshape(1, 4, 2, 2, 1)
  assert windows.partition(x, (2, 2, 1))[0, :, :, 0].tolist() == [
    [0, 2, 4, 6],
    [1, 3, 5, 7],
    [8, 10, 12, 14],
    [9, 11, 13, 15],
  ]
  assert windows.cells(x, (2, 2, 1))[0, 1, 0, 1].tolist() == [[[[9]], [[11]]], [[[13]], [[15]]]]


def test_partition_is_row_major():
  x = np.arange(4 * 6).reshape(1, 4, 6, 1)
  parts = windows.partition(x, (2, 3))[0, :, :, 0].tolist()
  assert parts == [
    [0, 1, 2, 6, 7, 8],
    [3, 4, 5, 9, 10, 11],
    [12, 13, 14, 18, 19, 20],
    [15, 16, 17, 21, 22, 23],
  ]


@pytest.mark.parametrize("map_size, window, shift", MAPS)
def test_regions_equal_a_comparison_of_coordinates(map_size, window, shift):
  padded = windows.padded_size(map_size, window)
  labels = windows.regions(map_size, padded, window, shift)
  if labels is None:
    labels = np.zeros((math.prod(padded) // math.prod(window), math.prod(window)), np.int32)
  # The original position of each token of the rolled map.
  origin = np.stack(np.meshgrid(*(np.arange(size) for size in padded), indexing="ij"), axis=-1)
  origin = windows.partition(np.roll(origin, np.negative(shift), range(len(shift)))[None], window)[0]
  place = list(np.ndindex(*window))
  for m in range(labels.shape[0]):
    for i, a in enumerate(place):
      for j, b in enumerate(place):
        real = all((origin[m, t] < map_size).all() for t in (i, j))
        # Two tokens with the same offset in the image as in the window have no edge between them.
        together = (origin[m, i] - origin[m, j] == np.subtract(a, b)).all()
        allowed = labels[m, i] == labels[m, j] and labels[m, i] >= 0 and labels[m, j] >= 0
        assert allowed == (real and together), (m, a, b)
    for i in range(len(place)):
      assert (labels[m, i] == -1) == (not (origin[m, i] < map_size).all())


def test_shift_mask_of_8x8_window_4():
  labels = windows.regions((8, 8), (8, 8), (4, 4), (2, 2))
  apart = labels[:, :, None] != labels[:, None, :]
  top, left = np.repeat([True, True, False, False], 4), np.tile([True, True, False, False], 4)
  across_rows, across_columns = top[:, None] != top[None], left[:, None] != left[None]
  np.testing.assert_array_equal(apart[0], np.zeros((16, 16), bool))
  np.testing.assert_array_equal(apart[1], across_columns)  # the right column of windows
  np.testing.assert_array_equal(apart[2], across_rows)  # the bottom row
  np.testing.assert_array_equal(apart[3], across_rows | across_columns)  # the corner
  assert len({pattern.tobytes() for pattern in apart if pattern.any()}) == 3
  # One row written out: the first token of the corner window attends to the 2×2 tokens of its own region.
  assert apart[3, 0].astype(int).tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]


def test_16x16_has_no_mask_inside():
  labels = windows.regions((16, 16), (16, 16), (4, 4), (2, 2)).reshape(4, 4, 16)
  apart = (labels != labels[..., :1]).any(-1)
  expected = np.zeros((4, 4), bool)
  expected[3], expected[:, 3] = True, True
  np.testing.assert_array_equal(apart, expected)


def test_no_regions_where_nothing_is_shifted_or_padded():
  assert windows.regions((8, 12), (8, 12), (4, 4), (0, 0)) is None


@pytest.mark.parametrize(
  "map_size, window_size, shifted, expected",
  [
    ((8, 8), (4, 4), False, ((4, 4), (0, 0))),
    ((8, 8), (4, 4), True, ((4, 4), (2, 2))),
    ((8, 8), (8, 8), True, ((8, 8), (0, 0))),  # equal sizes: one window, no shift
    ((6, 6), (12, 12), True, ((6, 6), (0, 0))),  # the window shrinks
    ((9, 9), (7, 7), True, ((7, 7), (3, 3))),  # half of an odd window, rounded down
    ((8, 16), (8, 8), True, ((8, 8), (0, 4))),  # each axis separately
    ((6, 16), (8, 8), True, ((6, 8), (0, 4))),
    ((16, 16), (4, 8), True, ((4, 8), (2, 4))),
    ((16, 8), (4, 8), True, ((4, 8), (2, 0))),
    ((3, 3), (1, 1), True, ((1, 1), (0, 0))),
    ((1, 1), (8, 8), True, ((1, 1), (0, 0))),
  ],
)
def test_window_and_shift(map_size, window_size, shifted, expected):
  assert windows.window_and_shift(map_size, window_size, shifted) == expected


@pytest.mark.parametrize(
  "map_size, window, expected",
  [
    ((8, 8), 4, ((4, 4), (2, 2))),
    ((8, 16), 8, ((8, 8), (0, 0))),  # equal along one axis: no shift along either
    ((16, 8), 8, ((8, 8), (0, 0))),
    ((9, 16), 8, ((8, 8), (4, 4))),
    ((6, 16), 8, ((6, 6), (0, 0))),  # a square of the shortest side
    ((6, 7), 8, ((6, 6), (0, 0))),
  ],
)
def test_all_axes_are_clamped_as_in_the_official_image_models(map_size, window, expected):
  assert windows.window_and_shift(map_size, (window,) * 2, True, axes="all") == expected
  shift, side = window // 2, window  # the rule of the official block
  if min(map_size) <= side:
    shift, side = 0, min(map_size)
  assert expected == ((side,) * 2, (shift,) * 2)


@pytest.mark.parametrize(
  "image, window, effective, shifting",
  [
    (256, 8, (8, 8, 8, 8), (0, 1, 2)),
    (256, 16, (16, 16, 16, 8), (0, 1)),
    (192, 12, (12, 12, 12, 6), (0, 1)),
    (384, 24, (24, 24, 24, 12), (0, 1)),
    (224, 14, (14, 14, 14, 7), (0, 1)),
    (224, 7, (7, 7, 7, 7), (0, 1, 2)),
    (192, 6, (6, 6, 6, 6), (0, 1, 2)),
    (640, 40, (40, 40, 40, 20), (0, 1)),
  ],
)
def test_windows_of_the_released_settings(image, window, effective, shifting):
  stages = [windows.window_and_shift((image // 4 // 2**i,) * 2, (window, window), True) for i in range(4)]
  assert tuple(size for (size, _), _ in stages) == effective
  assert tuple(i for i, (_, shift) in enumerate(stages) if shift != (0, 0)) == shifting
  assert all(shift in ((0, 0), (window // 2,) * 2) for _, shift in stages)


@pytest.mark.parametrize(
  "map_size, window_size, shifted, expected",
  [
    ((8, 8), (4, 4), True, ((4, 4), (2, 2))),
    ((4, 9), (7, 7), True, ((7, 7), (3, 3))),
    ((4, 9), (7, 7), False, ((7, 7), (0, 0))),
    ((1, 7, 3), (8, 7, 7), True, ((8, 7, 7), (4, 3, 3))),
  ],
)
def test_a_window_that_is_not_clamped_keeps_its_size_and_always_shifts(
  map_size, window_size, shifted, expected
):
  assert windows.window_and_shift(map_size, window_size, shifted, clamp=False) == expected


def test_sides_per_axis():
  assert windows.sides(3, 2) == (3, 3) and windows.sides([1, 2, 3], 3) == (1, 2, 3)


def test_pad_is_at_the_bottom_and_the_right():
  x = jnp.ones((1, 2, 3, 1))
  padded = windows.pad(x, (4, 4))
  np.testing.assert_array_equal(padded[0, :, :, 0], [[1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
  assert windows.pad(x, (2, 3)) is x
  assert windows.padded_size((7, 8), (4, 4)) == (8, 8)
  assert windows.padded_size((1, 9), (3, 3)) == (3, 9)


@pytest.mark.parametrize(
  "window, trained, values",
  [
    (8, 8, [0, 0.366512, 0.572069, 0.715614, 0.826016, 0.915745, 0.991335, 1.056642]),
    (7, 6, [0, 0.459504, 0.690130, 0.845351, 0.962508, 1.056642, 1.135331]),
    (12, 12, [0, 0.262832, 0.431819, 0.556617, 0.655611, 0.737665, 0.807737, 0.868886]),
    (16, 12, [0, 0.262832, 0.431819, 0.556617, 0.655611, 0.737665, 0.807737, 0.868886]),
  ],
)
def test_log_spaced_offsets(window, trained, values):
  table = windows.log_spaced_offsets((window, window), (trained, trained)).reshape(
    2 * window - 1, 2 * window - 1, 2
  )
  for axis in range(2):
    line = table[:, 3, 0] if axis == 0 else table[3, :, 1]
    np.testing.assert_allclose(line[window - 1 :][: len(values)], values, atol=1e-6)
    np.testing.assert_array_equal(line, -line[::-1])


@pytest.mark.parametrize(
  "window, trained, largest",
  [
    (12, 12, 1.056642),
    (16, 12, 1.191330),
    (24, 12, 1.382633),
    (12, 6, 1.405744),
    (14, 12, 1.128686),
    (8, 6, 1.202936),
    (32, 12, 1.519126),
    (40, 12, 1.625320),
  ],
)
def test_largest_offset(window, trained, largest):
  table = windows.log_spaced_offsets((window, window), (trained, trained))
  assert table.dtype == np.float32
  np.testing.assert_allclose([table.min(), table.max()], [-largest, largest], atol=1e-6)


def test_offsets_of_a_window_that_is_not_square():
  table = windows.log_spaced_offsets((2, 3), (2, 3)).reshape(3, 5, 2)
  np.testing.assert_allclose(table[:, 0, 0], np.log2(9) / 3 * np.array([-1, 0, 1]), atol=1e-6)
  np.testing.assert_allclose(
    table[0, :, 1], np.array([-np.log2(9), -np.log2(5), 0, np.log2(5), np.log2(9)]) / 3, atol=1e-6
  )


def test_offsets_of_one_token_are_finite():
  np.testing.assert_array_equal(windows.log_spaced_offsets((1, 1), (1, 1)), [[0.0, 0.0]])
  assert np.isfinite(windows.log_spaced_offsets((3, 3), (1, 1))).all()


@pytest.mark.parametrize(
  "window, table",
  [
    ((1, 1), None),
    ((2, 3), None),
    ((4, 4), None),
    ((3, 1), None),
    ((2, 3), (4, 3)),
    ((2, 3, 2), None),
    ((1, 2, 2), (4, 2, 3)),
    ((2, 2, 2), (2, 3, 2)),
  ],
)
def test_relative_index_finds_query_minus_key(window, table):
  index, offsets = windows.relative_index(window, table), windows.relative_offsets(table or window)
  assert offsets.shape == (math.prod(2 * side - 1 for side in table or window), len(window))
  places = list(np.ndindex(*window))
  for i, query in enumerate(places):
    for j, key in enumerate(places):
      assert offsets[index[i, j]].tolist() == np.subtract(query, key).tolist()


@pytest.mark.parametrize(
  "window, table", [((2, 2, 3), (4, 2, 3)), ((2, 2, 2), (3, 4, 3)), ((1, 3, 1), (2, 3, 3))]
)
def test_first_rows_are_those_of_the_first_tokens_of_the_table(window, table):
  """The official video code cuts the index of the whole window in this way; the results agree where only time
  is shrunk.
  """
  first = windows.relative_index(window, table, "first")
  tokens = math.prod(window)
  np.testing.assert_array_equal(first, windows.relative_index(table)[:tokens, :tokens])
  same = np.array_equal(first, windows.relative_index(window, table))
  assert same == (window[1:] == table[1:])


def test_relative_index_written_out():
  np.testing.assert_array_equal(
    windows.relative_index((2, 2)), [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
  )
