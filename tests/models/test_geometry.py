"""`geometry` compared with a loop that merges and pads stage by stage, and the layers that parameters belong
to.
"""

import itertools

import numpy as np
import pytest

from swin_jax.models.swin import make_config, make_encoder, official
from swin_jax.models.swin.geometry import geometry, regions
from swin_jax.models.windows import partition
from tests.support import slow_block


def plain(size, patch, merge, window_sizes, clamp):
  """Returns map, padded map, window, shift and tokens of every stage, by counting."""
  stages, sides = [], [len(range(0, side, p)) for side, p in zip(size, patch, strict=True)]
  for windows in window_sizes:
    padded, used, shifts = [], [], []
    for side, window in zip(sides, windows, strict=True):
      whole = clamp and side <= window
      used.append(side if whole else window)
      shifts.append(0 if whole else window // 2)
      padded.append(next(n for n in itertools.count(side) if n % used[-1] == 0))
    tokens = sum(1 for _ in itertools.product(*map(range, sides)))
    stages.append((tuple(sides), tuple(padded), tuple(used), tuple(shifts), tokens))
    sides = [len(range(0, side, m)) for side, m in zip(sides, merge, strict=True)]
  return tuple(stages)


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize(
  "size, patch, merge, window_sizes",
  [
    ((64, 64), 4, (2, 2), (4, 4, 4)),
    ((64, 64), 4, (2, 2), (8, 8)),
    ((54, 77), 4, (2, 2), ((4, 3), (5, 2), 9)),
    ((33, 20), (3, 5), (2, 2), (7, (1, 3))),
    ((8, 64, 48), (2, 4, 4), (1, 2, 2), ((4, 4, 4), (2, 7, 7))),
    ((11, 50, 70), (2, 4, 4), (1, 2, 2), ((4, 7, 7),) * 4),
    ((9, 30, 31), (1, 5, 4), (2, 2, 3), ((8, 3, 2), (2, 2, 2), (1, 1, 4))),
  ],
  ids=str,
)
def test_geometry_equals_a_plain_loop(size, patch, merge, window_sizes, clamp):
  stages = len(window_sizes)
  config = make_config(
    version=2,
    patch_size=patch,
    merge_size=merge,
    depths=(2,) * stages,
    window_sizes=window_sizes,
    clamp_windows=clamp,
  )
  patch = (patch,) * len(size) if isinstance(patch, int) else patch
  windows = [(each,) * len(size) if isinstance(each, int) else each for each in window_sizes]
  assert geometry(config, size) == plain(size, patch, merge, windows, clamp)
  levels = make_encoder(
    version=2, patch_size=config.patch_size, merge_size=merge, depths=(2,) * stages, window_sizes=window_sizes
  ).levels
  assert [level.map_size(size) for level in levels] == [stage.map for stage in geometry(config, size)]


@pytest.mark.parametrize(
  "size, patch, merge, maps",
  [
    ((9, 40, 33), (2, 4, 4), (1, 2, 2), [(5, 10, 9), (5, 5, 5), (5, 3, 3)]),
    ((40, 33), 4, (2, 2), [(10, 9), (5, 5), (3, 3)]),
  ],
)
def test_maps_written_out(size, patch, merge, maps):
  config = make_config(
    version=2, patch_size=patch, merge_size=merge, depths=(2,) * 3, window_sizes=((2,) * len(size),) * 3
  )
  assert [stage.map for stage in geometry(config, size)] == maps


def reached(labels, padded, window, shift):
  """Which tokens of the padded map attend to each other by their labels [M, N]: bool [tokens, tokens]."""
  place = np.roll(np.arange(np.prod(padded)).reshape(padded), [-s for s in shift], (0, 1))
  place = partition(place[None, ..., None], window)[0, :, :, 0]
  reach = np.zeros((place.size, place.size), bool)
  for tokens, label in zip(place, labels, strict=True):
    reach[np.ix_(tokens, tokens)] = label[:, None] == label[None]
  return reach


@pytest.mark.parametrize("padding", ["masked", "attended"])
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
  "size, window", [((40, 24), (4, 3)), ((36, 44), (4, 4)), ((28, 32), (2, 5))], ids=str
)
def test_regions_are_the_cells_of_the_image_or_of_the_padded_map(size, window, shifted, padding):
  model = dict(version=1, patch_size=4, depths=(2,), num_heads=(1,), window_sizes=(window,), padding=padding)
  config = make_config(**model)
  [stage] = geometry(config, size)
  cell, _ = slow_block.cells(stage.padded, window, shifted)
  expected = (cell[:, None] == cell[None]).all(-1)
  queries = np.ones(len(cell), bool)
  if padding == "masked":  # no token of the image attends to padding; what padding attends to has no effect
    places = np.indices(stage.padded).reshape(2, -1).T
    queries = (places < stage.map).all(-1)
    expected &= queries
  labels = regions(config, stage, shifted)
  if labels is None:
    labels = np.zeros((len(cell) // np.prod(window), np.prod(window)), int)
  reach = reached(labels, stage.padded, window, stage.shift if shifted else (0, 0))
  np.testing.assert_array_equal(reach[queries], expected[queries])
  if shifted:
    masks = official.buffers({"model": model, "data": {"image_size": size}})
    np.testing.assert_array_equal(
      masks["layers.0.blocks.1.attn_mask"]() == 0, labels[:, :, None] == labels[:, None]
    )


@pytest.mark.parametrize(
  "depth, every, position, expected",
  [(4, 0, 0, [3, 5]), (4, 0, 1, [4, 6]), (3, 0, 2, [5]), (6, 3, 5, [8]), (12, 6, 4, [7, 13])],
)
def test_layers_of_stacked_blocks(depth, every, position, expected):
  encoder = make_encoder(
    version=2, patch_size=4, depths=(2, depth), window_sizes=(4, 4), extra_norm_every=every
  )
  layer = encoder.layer_of(f"stage1/blocks/block{position}/attn/qkv/kernel")
  np.testing.assert_array_equal(layer, expected)
  assert encoder.layer_of("patch_embed/norm/scale") == 0 and encoder.layer_of("merge0/norm/scale") == 2
  assert encoder.layer_of("norm/scale") == encoder.num_layers == depth + 3
