"""Models of clips compared with models of images and with loops over the axes."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swin_jax.models import layers, windows
from swin_jax.models.heads import Classifier
from swin_jax.models.simmim import SimMim
from swin_jax.models.swin import make_encoder
from swin_jax.tasks import masked_loss
from tests.support import blocks, slow_block

rng = np.random.default_rng(0)


def params_of(module, *inputs, seed=0, **kwargs):
  init = lambda: flax.core.meta.unbox(module.init(jax.random.key(0), *inputs, **kwargs)["params"])
  return slow_block.random_params(jax.eval_shape(init), seed)


# Loops over the axes.


@pytest.mark.slow
@pytest.mark.parametrize(
  "map_size, window, shifted",
  [
    ((4, 4, 6), (2, 2, 3), False),
    ((4, 4, 6), (2, 2, 3), True),
    ((3, 5, 4), (2, 2, 3), True),  # no axis divides evenly
    ((4, 3, 5), (4, 2, 2), True),  # time fits into one window, space is shifted
    ((5, 2, 3), (2, 4, 4), True),  # space fits into one window, time is shifted
    ((1, 4, 4), (1, 2, 2), True),
  ],
  ids=str,
)
@pytest.mark.parametrize("version, trained", [(1, None), (2, None), (2, (2, 3, 3))])
def test_block_equals_loops_over_the_clip(version, trained, map_size, window, shifted):
  compare(version, map_size, window, trained=trained, shifted=shifted)


@pytest.mark.slow
@pytest.mark.parametrize(
  "map_size, window",
  [
    ((5, 6), (4, 4)),
    ((3, 9), (4, 4)),
    ((4, 4), (4, 4)),
    ((2, 3), (5, 7)),
    ((2, 3, 4), (4, 4, 4)),
    ((3, 5, 2), (2, 4, 3)),
  ],
  ids=str,
)
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("padding", ["masked", "attended"])
@pytest.mark.parametrize("version", [1, 2])
def test_windows_that_do_not_shrink(version, padding, shifted, map_size, window):
  """An odd block always shifts, whatever the map size; padding takes part in attention only if asked for."""
  compare(version, map_size, window, shifted=shifted, clamp=False, padding=padding)


@pytest.mark.parametrize(
  "map_size, window", [((5, 6), (4, 4)), ((3, 9), (4, 4)), ((3, 5, 4), (2, 4, 3))], ids=str
)
@pytest.mark.parametrize("version", [1, 2])
def test_attended_padding(version, map_size, window):
  compare(version, map_size, window, shifted=True, padding="attended")


def compare(version, map_size, window, *, trained=None, shifted, clamp=True, padding="masked"):
  block = blocks.block(version, window, trained, shifted=shifted, clamp_windows=clamp, padding=padding)
  x = rng.normal(size=(1, *map_size, 16)).astype(np.float32)
  params = params_of(block, x, None, train=False)
  ours, _ = jax.jit(lambda p, x: block.apply({"params": p}, x, None, train=False))(params, x)
  theirs = slow_block.block(
    x[0],
    params,
    version=version,
    num_heads=2,
    window=window,
    trained=trained,
    shifted=shifted,
    clamp=clamp,
    attended=padding == "attended",
  )
  np.testing.assert_allclose(ours[0], theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("factor", [(1, 2, 2), (2, 2, 2), (2, 3)])
def test_merging_takes_the_last_axis_slowest(factor, norm_first):
  map_size = (3, 3, 5)[-len(factor) :]
  x = rng.normal(size=(1, *map_size, 4)).astype(np.float32)
  merge = layers.PatchMerge(factor, norm_first, jnp.float32)
  params = params_of(merge, x)
  ours = jax.jit(lambda x: merge.apply({"params": params}, x))(x)[0]
  padded = windows.padded_size(map_size, factor)
  whole = np.zeros((*padded, 4))
  whole[tuple(map(slice, map_size))] = x[0]
  out = np.zeros((*(p // f for p, f in zip(padded, factor, strict=True)), np.prod(factor) * 4))
  for place in np.ndindex(out.shape[:-1]):
    parts = [
      whole[tuple(p * f + i for p, f, i in zip(place, factor, inside[::-1], strict=True))]
      for inside in np.ndindex(*factor[::-1])
    ]
    out[place] = np.concatenate(parts)
  kernel, norm = params["reduction"]["kernel"], params["norm"]
  theirs = (
    slow_block.layer_norm(out, norm) @ kernel if norm_first else slow_block.layer_norm(out @ kernel, norm)
  )
  np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


def test_patches_of_a_clip():
  """Values of a patch are in the order time, row, column, band; outside the clip they are zero."""
  clips = rng.normal(size=(2, 3, 5, 4, 3)).astype(np.float32)
  embed = layers.PatchEmbed((2, 2, 4), 8, jnp.float32)
  params = params_of(embed, clips)
  ours = jax.jit(lambda x: embed.apply({"params": params}, x))(clips)
  assert ours.shape == (2, 2, 3, 1, 8)
  padded = np.pad(clips, ((0, 0), (0, 1), (0, 1), (0, 0), (0, 0)))
  for b, t, h in np.ndindex(2, 2, 3):
    patch = padded[b, 2 * t : 2 * t + 2, 2 * h : 2 * h + 2].reshape(-1)
    value = patch @ params["proj"]["kernel"] + params["proj"]["bias"]
    theirs = slow_block.layer_norm(value.astype(np.float64), params["norm"])
    np.testing.assert_allclose(ours[b, t, h, 0], theirs, atol=1e-5)


# Images as clips of one time token.

IMAGE = dict(embed_dim=16, depths=(2, 2), num_heads=(2, 4), mlp_ratio=2.0, unroll=False)
SIZE = (44, 36)  # padded windows, a merge of an odd side, a second stage with one window along an axis


def pair_of(version=2, trained=()):
  """Returns a model of images, and the same model for clips with one time token."""
  image = make_encoder(
    version=version, patch_size=4, window_sizes=(4, 5), trained_window_sizes=trained, **IMAGE
  )
  clip = make_encoder(
    version=version,
    patch_size=(1, 4, 4),
    merge_size=(1, 2, 2),
    window_sizes=((1, 4, 4), (1, 5, 5)),
    trained_window_sizes=[(8, size, size) for size in trained],
    **IMAGE,
  )
  return image, clip


def inflated(params):
  """Returns parameters for a model of clips: the bias MLP gets an extra first input row for time."""

  def grow(path, leaf):
    if "cpb_fc1" in jax.tree_util.keystr(path) and path[-1].key == "kernel":
      return np.concatenate([rng.normal(size=leaf[:, :1].shape).astype(np.float32), leaf], axis=1)
    return leaf

  return jax.tree_util.tree_map_with_path(grow, params)


@pytest.mark.parametrize("window, trained", [((4, 4), (4, 4)), ((8, 7), (6, 12)), ((1, 3), (1, 1))])
@pytest.mark.parametrize("time", [1, 8])
def test_bias_coordinates_of_one_time_token_are_those_of_images(window, trained, time):
  ours = windows.log_spaced_offsets((1, *window), (time, *trained))
  theirs = windows.log_spaced_offsets(window, trained)
  np.testing.assert_array_equal(ours[:, 0], 0)
  assert ours[:, 1:].tobytes() == theirs.tobytes() and ours.dtype == theirs.dtype


@pytest.mark.slow
@pytest.mark.parametrize("trained", [(), (3, 4)])
def test_v2_of_one_time_token_is_v2_of_images(trained):
  image, clip = pair_of(trained=trained)
  images = rng.normal(size=(2, *SIZE, 3)).astype(np.float32)
  params = params_of(image, images)
  theirs = jax.jit(lambda p: image.apply({"params": p}, images))(params)
  ours = jax.jit(lambda p: clip.apply({"params": p}, images[:, None]))(inflated(params))
  for a, b in zip((ours.last, *ours.levels), (theirs.last, *theirs.levels), strict=True):
    np.testing.assert_allclose(a[:, 0], b, atol=2e-6 * np.abs(b).max())


def test_simmim_of_one_time_token_is_simmim_of_images():
  image, clip = map(SimMim, pair_of())
  images = rng.normal(size=(2, *SIZE, 3)).astype(np.float32)
  mask = rng.random((2, 11, 9)) < 0.5
  params = params_of(image, images, mask)
  theirs = jax.jit(lambda p: image.apply({"params": p}, images, mask))(params)
  ours = jax.jit(lambda p: clip.apply({"params": p}, images[:, None], mask[:, None]))(inflated(params))
  assert ours.shape == (2, 1, *SIZE, 3)
  np.testing.assert_allclose(ours[:, 0], theirs, atol=2e-6 * np.abs(theirs).max())


# Whole models of clips.


@functools.cache
def clip_encoder(version):
  return make_encoder(
    version=version,
    patch_size=(2, 4, 4),
    merge_size=(1, 2, 2),
    window_sizes=((2, 3, 4), (4, 2, 2)),
    **IMAGE,
  )


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_simmim_reconstructs_time_rows_and_columns_where_they_are(version):
  """With a decoder that has only a bias, value (band, frame, row, column) of the bias appears at that place
  in every cell.
  """
  model = SimMim(clip_encoder(version))
  clips, mask = np.zeros((1, 4, 16, 24, 2), np.float32), np.zeros((1, 2, 4, 6), bool)
  params = params_of(model, clips, mask)
  stride = model.encoder.levels[-1].stride
  assert stride == (2, 8, 8)
  bias = np.arange(2 * 2 * 8 * 8, dtype=np.float32)
  decoder = {"kernel": np.zeros_like(params["decoder"]["kernel"]), "bias": bias}
  out = jax.jit(lambda p: model.apply({"params": p}, clips, mask))(params | {"decoder": decoder})
  expected = bias.reshape(2, *stride)
  for band, t, h, w in np.ndindex(2, 4, 16, 24):
    assert out[0, t, h, w, band] == expected[band, t % 2, h % 8, w % 8]


@pytest.mark.parametrize("holes", [False, True])
def test_targets_of_a_clip_are_normalised_frame_by_frame(holes):
  clips = rng.normal(size=(2, 3, 9, 7, 2)).astype(np.float32)
  valid = rng.random(clips.shape) < 0.7 if holes else None
  clips = np.where(valid, clips, 0) if holes else clips
  normalise = jax.jit(masked_loss.normalise_target, static_argnums=1)
  ours = normalise(clips, 5, valid)
  for frame in range(3):
    theirs = normalise(clips[:, frame], 5, valid[:, frame] if holes else None)
    np.testing.assert_allclose(ours[:, frame], theirs, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_a_clip_pads_and_trains(version):
  model = Classifier(clip_encoder(version), 5)
  clips = rng.normal(size=(2, 5, 22, 27, 3)).astype(np.float32)
  params = params_of(model, clips)

  def loss(params):
    logits, losses = model.apply({"params": params}, clips, train=True)
    assert losses == {}
    return jnp.sum(jnp.sin(logits))

  gradients = jax.jit(jax.grad(loss))(params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(gradients):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 1e-7, jax.tree_util.keystr(path)


def test_a_bias_table_of_clips_does_not_depend_on_their_length():
  shapes = [
    jax.eval_shape(
      lambda frames=frames: flax.core.meta.unbox(
        clip_encoder(1).init(jax.random.key(0), jnp.zeros((1, frames, 32, 32, 3)))
      )
    )
    for frames in (2, 16)
  ]
  assert shapes[0] == shapes[1]
  assert shapes[0]["params"]["stage1"]["blocks"]["block0"]["attn"]["bias_table"].shape == (1, 7 * 3 * 3, 4)


@pytest.mark.parametrize(
  "size, heads, width, depths, window, gmacs",
  [
    ("tiny", (3, 6, 12, 24), 96, (2, 2, 6, 2), (8, 7, 7), 87.76),
    ("small", (3, 6, 12, 24), 96, (2, 2, 18, 2), (8, 7, 7), 165.7),
    ("base", (4, 8, 16, 32), 128, (2, 2, 18, 2), (8, 7, 7), 281.3),
    ("large", (6, 12, 24, 48), 192, (2, 2, 18, 2), (8, 7, 7), 603.3),
    ("base on Something-Something", (4, 8, 16, 32), 128, (2, 2, 18, 2), (16, 7, 7), 320.4),
  ],
)
def test_flops_of_clips_of_32_frames(size, heads, width, depths, window, gmacs):
  """Compares with the multiply-adds counted for these models without norms and head, which contribute less
  than a thousandth.
  """
  encoder = make_encoder(
    version=1,
    patch_size=(2, 4, 4),
    merge_size=(1, 2, 2),
    embed_dim=width,
    depths=depths,
    num_heads=heads,
    window_sizes=(window,) * 4,
  )
  ours = encoder.flops((32, 224, 224), 3) / 2e9
  assert ours == pytest.approx(gmacs, rel=1e-3), size
