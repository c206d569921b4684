"""The backbone: scan equals loop, recomputed equals stored, sizes, parameter names, and no leak across an
edge.
"""

import functools
import math

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.sizes import SIZES
from swin_jax.mesh import axes
from swin_jax.models import layers, remat, swin
from swin_jax.models.heads import Classifier
from swin_jax.models.simmim import SimMim
from swin_jax.models.swin.config import group_size
from swin_jax.models.swin.stage import Stage
from swin_jax.run import checks
from swin_jax.terminal.errors import BadInput
from tests.support import blocks, slow_block, tiny
from tests.support.jaxprs import primitives


def make_encoder(**changes):
  numbers = dict(
    version=2,
    patch_size=4,
    embed_dim=16,
    depths=(2, 2),
    num_heads=(2, 2),
    window_sizes=(4, 4),
    trained_window_sizes=(),
    mlp_ratio=4.0,
    drop_path_rate=0.0,
    extra_norm_every=0,
    remat="none",
    unroll=False,
    dtype="float32",
  )
  return swin.make_encoder(**numbers | changes)


def shapes_of(model, *inputs, **kwargs):
  """Returns abstract parameters without their axis names."""
  return jax.eval_shape(
    lambda: flax.core.meta.unbox(model.init(jax.random.key(0), *inputs, **kwargs)["params"])
  )


def flat(tree):
  return flax.traverse_util.flatten_dict(tree, sep="/")


def assert_close(ours, theirs, tolerance):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=tolerance * max(1e-3, np.abs(b).max())), ours, theirs
  )


# Scan, unroll, remat.

RATES = np.linspace(0, 0.4, 4, dtype=np.float32)
IMAGE_MAP = np.random.default_rng(0).normal(size=(2, 6, 5, 16)).astype(np.float32)


def make_stage(depth=4, unroll=False, remat="none", extra_norm_every=0, chunks=1):
  return blocks.stage(
    depth=depth, unroll=unroll, remat=remat, extra_norm_every=extra_norm_every, chunks=chunks
  )


@functools.cache
def stage_params(depth=4, extra_norm_every=0):
  return slow_block.random_params(
    shapes_of(make_stage(depth, extra_norm_every=extra_norm_every), IMAGE_MAP, None, train=False), 0
  )


def stage_loss(stage):
  """Returns a function that computes value and gradient with respect to parameters and input."""
  direction = np.random.default_rng(1).normal(size=IMAGE_MAP.shape).astype(np.float32)

  def loss(params, x):
    rates = RATES[: stage.config.depths[0]]
    out, _ = stage.apply({"params": params}, x, rates, train=True, rngs={"dropout": jax.random.key(3)})
    return jnp.sum(out * direction), out

  return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)


@functools.cache
def stage_result(depth=4, unroll=False, remat="none", chunks=1):
  stage = make_stage(depth, unroll=unroll, remat=remat, chunks=chunks)
  return jax.jit(stage_loss(stage))(stage_params(depth), IMAGE_MAP)


@pytest.mark.parametrize("depth, extra_norm_every, group", [(4, 0, 2), (4, 2, 2), (3, 0, 3)])
def test_scan_equals_a_python_loop(depth, extra_norm_every, group):
  stage, params = make_stage(depth, extra_norm_every=extra_norm_every), stage_params(depth, extra_norm_every)
  ours, _ = jax.jit(lambda p, x: stage.apply({"params": p}, x, None, train=False))(params, IMAGE_MAP)

  @functools.partial(jax.jit, static_argnums=(0, 1))
  def run(shifted, extra_norm, p, x):
    block = blocks.block(shifted=shifted, extra_norm=extra_norm)
    return block.apply({"params": p}, x, None, train=False)[0]

  x = IMAGE_MAP
  for i in range(depth):
    sliced = jax.tree.map(lambda leaf, i=i: leaf[i // group], params["blocks"][f"block{i % group}"])
    assert ("extra_norm" in sliced) == (extra_norm_every > 0 and (i + 1) % extra_norm_every == 0)
    x = run(i % 2 == 1, "extra_norm" in sliced, sliced, x)
  assert_close(ours, x, 1e-5)


def test_unrolled_and_looped_are_one_tree():
  trees = [shapes_of(make_stage(unroll=unroll), IMAGE_MAP, None, train=False) for unroll in (False, True)]
  assert trees[0] == trees[1]
  assert {leaf.shape[0] for leaf in jax.tree.leaves(trees[0])} == {2}  # stacked as two pairs of blocks


@pytest.mark.slow
@pytest.mark.parametrize(
  "choice",
  [
    dict(unroll=True),
    dict(remat="block"),
    dict(remat="dots"),
    dict(remat="save:attention,mlp_hidden"),
    dict(unroll=True, remat="block"),
    # Chunks change the order of sums. Two blocks, one of them shifted, show it without what later blocks make
    # of the rounding.
    dict(depth=2, chunks=2),
    dict(depth=2, chunks=8, remat="block"),
  ],
  ids=str,
)
def test_what_saves_memory_or_time_changes_no_number(choice):
  """Drop path is on, so the random stream must be the same, too. The map has four windows and two heads."""
  assert_close(stage_result(**choice), stage_result(choice.get("depth", 4)), 1e-5)


def test_drop_path_is_on_in_these_tests():
  (_, trained), _ = stage_result()
  evaluated, _ = jax.jit(lambda p, x: make_stage().apply({"params": p}, x, RATES, train=False))(
    stage_params(), IMAGE_MAP
  )
  assert np.abs(trained - evaluated).max() > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("remat", ["none", "block", "dots", "save:qkv"])
def test_remat_and_unroll_are_in_the_program(remat, unroll):
  jaxpr = jax.make_jaxpr(stage_loss(make_stage(unroll=unroll, remat=remat)))(stage_params(), IMAGE_MAP)
  scans = [eqn for eqn in primitives(jaxpr.jaxpr) if eqn.primitive.name == "scan"]
  # forward and backward
  assert len(scans) == 2 and all(eqn.params["unroll"] == (2 if unroll else 1) for eqn in scans)
  recomputed = [
    eqn for eqn in primitives(jaxpr.jaxpr) if eqn.primitive.name in ("checkpoint", "remat", "remat2")
  ]
  assert bool(recomputed) == (remat != "none")
  assert all(eqn.params["prevent_cse"] == unroll for eqn in recomputed)


def test_remat_block_recomputes_what_dots_keeps():
  assert saved_values("block") < saved_values("dots") < saved_values("none")


def saved_values(remat):
  """Counts the numbers that the forward pass hands to the backward pass."""
  stage = make_stage(remat=remat)
  forward = lambda p, x: jax.vjp(lambda p, x: stage.apply({"params": p}, x, None, train=False), p, x)[1]
  return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(forward, stage_params(), IMAGE_MAP)))


@pytest.mark.parametrize(
  "name, width, padded, bias",
  [
    ("qkv", 3, True, 32),
    ("attention", 1, True, 0),
    ("attention_output", 1, True, 16),
    ("mlp_hidden", 2, False, 32),
    ("mlp_output", 1, False, 16),
  ],
)
def test_saved_by_name_is_that_tensor_and_no_other(name, width, padded, bias):
  """The bias that was added to produce the tensor is then no longer saved."""
  tokens = 2 * (8 * 8 if padded else 6 * 5)  # of two images; attention operates on whole windows
  assert saved_values(f"save:{name}") - saved_values("block") == 4 * (tokens * 16 * width - bias)


@pytest.mark.parametrize("version", [1, 2])
def test_every_block_has_the_tensors_that_can_be_saved(version):
  block = blocks.block(version, shifted=True, extra_norm=True)
  params = shapes_of(block, IMAGE_MAP, None, train=False)
  jaxpr = jax.make_jaxpr(lambda p, x: block.apply({"params": p}, x, None, train=False))(params, IMAGE_MAP)
  assert (
    tuple(eqn.params["name"] for eqn in primitives(jaxpr.jaxpr) if eqn.primitive.name == "name")
    == remat.SAVEABLE
  )


@pytest.mark.parametrize("name", ["all", "save", "save:", "save:qkv,atention", "keep:qkv"])
def test_an_unknown_remat_policy_names_those_there_are(name):
  message = (
    "choose one of none, block, dots, or save: with names from qkv, attention, attention_output, mlp_hidden"
  )
  with pytest.raises(BadInput, match=message):
    remat.policy(name)


# Attention in chunks.


@pytest.mark.parametrize(
  "chunks, heads", [((4, 2), (2, 4)), ((8, 1), (2, 4)), ((2, 4), (2, 4)), ((), (2, 4))]
)
def test_chunks_that_divide_windows_or_heads(chunks, heads):
  checks.check(tiny.config(model__attention_chunks=chunks, model__num_heads=heads))  # four windows, then one


@pytest.mark.parametrize(
  "wrong, message",
  [
    (
      dict(model__attention_chunks=(3, 1)),
      r"model.attention_chunks\[0\] = 3: stage 0, .* neither the 4 windows .* nor, .* its 2 heads",
    ),
    (dict(model__attention_chunks=(16, 1)), r"attention_chunks\[0\] = 16: stage 0"),
    (
      dict(model__attention_chunks=(1, 3)),
      r"attention_chunks\[1\] = 3: stage 1, .* the 1 windows of an image nor, .* its 4 heads",
    ),
    # two heads on each device
    (
      dict(model__attention_chunks=(1, 4), mesh__model=2),
      r"attention_chunks\[1\] = 4: stage 1, .* its 2 heads",
    ),
    (dict(model__attention_chunks=(0, 1)), r"attention_chunks = \(0, 1\): entry 0 must be at least 1"),
    (
      dict(model__attention_chunks=(1,)),
      r"model.attention_chunks = \(1,\) needs one entry for each of the 2 stages",
    ),
    (dict(model__remat="save:logits"), "model.remat = 'save:logits': choose one of none"),
  ],
  ids=str,
)
def test_chunks_and_remat_that_cannot_be_are_refused_with_the_config(wrong, message):
  with pytest.raises(BadInput, match=message):
    checks.check(tiny.config(**wrong))


@pytest.mark.parametrize("map_side, chunks", [(16, 4), (8, 4)], ids=["windows", "heads"])
def test_attention_in_chunks_needs_less_memory(map_side, chunks):
  """Forward and backward: memory beyond the tokens themselves, which is the logits, shrinks with the number
  of chunks.
  """
  x = np.zeros((4, map_side, map_side, 16), np.float32)

  def temporary_bytes(chunks):
    block = blocks.block(window=(8, 8), heads=4, mlp_ratio=1.0, chunks=chunks)
    params = shapes_of(block, x, None, train=False)
    loss = lambda p, x: jnp.sum(block.apply({"params": p}, x, None, train=False)[0] ** 2)
    return (
      jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, x).compile().memory_analysis().temp_size_in_bytes
    )

  logits = 4 * 4 * map_side**2 * 64 * 4  # images · heads · tokens · tokens of a window · bytes
  whole, parts = temporary_bytes(1), temporary_bytes(chunks)
  assert whole > 2 * logits
  assert whole - parts > 2 * logits * (1 - 1 / chunks) - 0.1 * logits


@pytest.mark.parametrize(
  "depth, every, group",
  [(2, 0, 2), (18, 6, 6), (42, 6, 6), (4, 6, 2), (6, 0, 2), (3, 0, 3), (7, 6, 7), (1, 0, 1), (6, 3, 6)],
)
def test_group_size(depth, every, group):
  assert group_size(depth, every) == group


# Sizes and names.

# Order: no head, 1000 classes, 21841 classes, SimMIM. From the specification, section 11; huge and giant have
# extra norms.
COUNTS = {
  "tiny": (27_578_154, 28_347_154, 44_373_883, 29_940_618),
  "small": (48_959_418, 49_728_418, 65_755_147, 51_321_882),
  "base": (86_893_816, 87_918_816, 109_280_841, 90_042_744),
  "large": (195_202_932, 196_739_932, 228_772_549, 199_924_788),
  "huge": (655_219_370, 658_036_370, 716_745_467, 663_873_546),
  "giant_1b": (1_060_976_996, 1_064_561_996, 1_139_276_981, 1_071_990_564),
  "giant": (2_997_843_680, 3_001_940_680, 3_087_326_257, 3_010_430_176),
}


def count(tree):
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@functools.cache
def size_params(name, task, extra_norm_every=None):
  numbers = dict(SIZES[name], window_sizes=(8, 8, 8, 8))
  if extra_norm_every is not None:
    numbers["extra_norm_every"] = extra_norm_every
  encoder, images = make_encoder(**numbers), jnp.zeros((1, 32, 32, 3))
  if task == "simmim":
    return shapes_of(SimMim(encoder), images, jnp.zeros((1, 8, 8), bool))
  return shapes_of(Classifier(encoder, 1000), images)


@pytest.mark.slow
@pytest.mark.parametrize("name", SIZES)
def test_parameter_counts(name):
  classifier = size_params(name, "classifier")
  encoder = count(classifier["encoder"])
  wide_head = shapes_of(nn.Dense(21841), jnp.zeros((1, classifier["head"]["kernel"].shape[0])))
  simmim = count(size_params(name, "simmim"))
  assert (encoder, count(classifier), encoder + count(wide_head), simmim) == COUNTS[name]


@pytest.mark.parametrize(
  "name, every, expected",
  [("huge", 0, 655_210_922), ("giant", 0, 2_997_815_008), ("giant_1b", 6, 1_060_987_748)],
)
def test_parameter_counts_of_the_other_choice_of_extra_norms(name, every, expected):
  assert count(size_params(name, "classifier", every)["encoder"]) == expected


def test_extra_norms_of_huge_and_giant():
  huge, giant = (flat(size_params(name, "classifier")["encoder"]) for name in ("huge", "giant"))
  for params, groups, width in ((huge, 3, 1408), (giant, 7, 2048)):
    extra_norms = {path: leaf.shape for path, leaf in params.items() if "extra_norm" in path}
    assert extra_norms == {
      f"stage2/blocks/block5/extra_norm/{leaf}": (groups, width) for leaf in ("scale", "bias")
    }


BLOCK = [
  "attn/cpb_fc1/bias",
  "attn/cpb_fc1/kernel",
  "attn/cpb_fc2/kernel",
  "attn/logit_scale",
  "attn/proj/bias",
  "attn/proj/kernel",
  "attn/q_bias",
  "attn/qkv/kernel",
  "attn/v_bias",
  "mlp/fc1/bias",
  "mlp/fc1/kernel",
  "mlp/fc2/bias",
  "mlp/fc2/kernel",
  "norm1/bias",
  "norm1/scale",
  "norm2/bias",
  "norm2/scale",
]
BLOCK_V1 = [path for path in BLOCK if not path.startswith("attn/")]
BLOCK_V1 += ["attn/bias_table", "attn/proj/bias", "attn/proj/kernel", "attn/qkv/bias", "attn/qkv/kernel"]
REST = [
  "patch_embed/proj/kernel",
  "patch_embed/proj/bias",
  "patch_embed/norm/scale",
  "patch_embed/norm/bias",
  "norm/scale",
  "norm/bias",
]
REST += ["merge0/reduction/kernel", "merge0/norm/scale", "merge0/norm/bias"]


@pytest.mark.parametrize("version, block", [(2, BLOCK), (1, BLOCK_V1)])
def test_parameter_paths_are_an_interface(version, block):
  """Checkpoints, decay masks and layer-wise rates rely on these names: change them only together with a
  converter.
  """
  encoder, images = make_encoder(version=version, depths=(2, 3)), jnp.zeros((1, 32, 32, 3))
  expected = {
    f"encoder/stage{i}/blocks/block{j}/{path}"
    for i, blocks in ((0, 2), (1, 3))
    for j in range(blocks)
    for path in block
  }
  expected |= {f"encoder/{path}" for path in REST}
  assert set(flat(shapes_of(Classifier(encoder, 5), images))) == expected | {"head/kernel", "head/bias"}
  simmim = set(flat(shapes_of(SimMim(encoder), images, jnp.zeros((1, 8, 8), bool))))
  assert simmim == expected | {"mask_token", "decoder/kernel", "decoder/bias"}


def test_parameter_names_of_axes_and_initial_values():
  model = SimMim(make_encoder(depths=(2, 2)))
  boxed = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), jnp.zeros((1, 8, 8), bool))[
    "params"
  ]
  assert boxed["encoder"]["stage0"]["blocks"]["block0"]["attn"]["qkv"]["kernel"].names == (
    axes.LAYERS,
    axes.EMBED,
    axes.HEADS,
  )
  params = flat(flax.core.meta.unbox(boxed))
  for path, value in params.items():
    name, value = path.rsplit("/")[-1], np.asarray(value)
    assert value.dtype == np.float32
    if "norm1" in path or "norm2" in path:
      assert not value.any(), path
    elif name == "scale":
      assert (value == 1).all(), path
    elif name == "logit_scale":
      np.testing.assert_allclose(value, math.log(10.0), rtol=1e-6)
    elif "patch_embed/proj" in path or "decoder" in path:
      bound = (48 if "patch_embed" in path else 32) ** -0.5
      assert 0.9 * bound < np.abs(value).max() <= bound, path
      assert abs(value.mean()) < 0.2 * bound
    elif "bias" in name:
      assert not value.any(), path
    elif value.size >= 1024:
      assert abs(value.std() / 0.02 - 1) < 0.1, path
  # The blocks of a stage are drawn independently.
  kernels = [params[f"encoder/stage0/blocks/block{j}/attn/qkv/kernel"] for j in range(2)]
  assert np.abs(kernels[0] - kernels[1]).max() > 0.01


# Stochastic depth.


@pytest.mark.parametrize(
  "depths, last, step",
  [((2, 2, 6, 2), 0.2, 0.0181818), ((2, 2, 18, 2), 0.3, 0.0130435), ((2, 2, 18, 2), 0.5, 0.0217391)],
)
def test_drop_path_rates(depths, last, step):
  rates = []

  def record(call, args, kwargs, context):
    if isinstance(context.module, Stage):
      rates.extend(args[1].tolist())
      return args[0], {}
    return call(*args, **kwargs)

  encoder = make_encoder(depths=depths, num_heads=(1,) * 4, window_sizes=(4,) * 4, drop_path_rate=last)
  with nn.intercept_methods(record):
    jax.eval_shape(lambda: encoder.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)), train=True))
  assert rates[0] == 0 and rates[-1] == pytest.approx(last)
  np.testing.assert_allclose(np.diff(rates), step, atol=1e-7)
  assert len(rates) == sum(depths)


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.9])
def test_drop_path_statistics(rate):
  images = 8000
  out = np.asarray(
    jax.jit(layers.drop_path)(np.ones((images, 2, 3), np.float32), np.float32(rate), jax.random.key(0))
  )
  assert (out == out[:, :1, :1]).all()  # a whole image is dropped or kept
  kept = out[:, 0, 0] > 0
  np.testing.assert_allclose(out[kept], 1 / (1 - rate), rtol=1e-6)
  assert abs(kept.mean() - (1 - rate)) <= 4 * math.sqrt(rate * (1 - rate) / images)


def test_the_two_branches_of_a_block_drop_independently_and_never_in_evaluation():
  block = blocks.block(1)
  x = np.broadcast_to(IMAGE_MAP[:1, :4, :4], (64, 4, 4, 16))
  params = slow_block.random_params(shapes_of(block, x, None, train=False), 2)
  apply = jax.jit(
    lambda rate, train: block.apply(
      {"params": params}, x, rate, train=train, rngs={"dropout": jax.random.key(0)}
    )[0],
    static_argnums=1,
  )
  kinds = np.unique(np.round(np.asarray(apply(0.5, True))[:, 0, 0, 0], 4))
  assert len(kinds) == 4  # both, the first, the second, neither
  assert np.isclose(kinds, x[0, 0, 0, 0], atol=1e-3).any()
  np.testing.assert_allclose(
    *(np.ptp(np.asarray(apply(rate, False)), axis=0) for rate in (0.5, 0.0)), atol=1e-6
  )


def test_a_fresh_v2_block_is_the_identity():
  block = blocks.block(shifted=True)
  out, _ = jax.jit(lambda x: block.init_with_output(jax.random.key(0), x, None, train=False)[0])(IMAGE_MAP)
  np.testing.assert_array_equal(out, IMAGE_MAP)


# Edges.


@pytest.mark.slow
@pytest.mark.parametrize(
  "map_size, window, shifted",
  [
    ((8, 8), (4, 4), True),
    ((9, 9), (4, 4), True),
    ((5, 13), (4, 4), True),
    ((9, 9), (4, 4), False),
    ((6, 7), (2, 5), True),
    ((4, 9), (4, 4), True),
  ],
  ids=str,
)
@pytest.mark.parametrize("version", [1, 2])
def test_a_token_reaches_only_its_own_cell_of_the_image(version, map_size, window, shifted):
  """The set of tokens that an output depends on, determined by its gradient, equals the set found by brute
  force.
  """
  block = blocks.block(version, window, shifted=shifted, mlp_ratio=1.0)
  rng = np.random.default_rng(3)
  x = rng.normal(size=(1, *map_size, 16)).astype(np.float32)
  params = slow_block.random_params(shapes_of(block, x, None, train=False), 3)
  direction = rng.normal(size=16).astype(np.float32)

  def probe(x):
    return jnp.einsum("bhwc,c->bhw", block.apply({"params": params}, x, None, train=False)[0], direction)

  tokens = map_size[0] * map_size[1]
  reach = np.abs(slow_block.jacobian(probe, x)).max(axis=(1, 4)).reshape(tokens, tokens)
  cell, _ = slow_block.cells(map_size, window, shifted)
  expected = (cell[:, None] == cell[None]).all(-1)
  assert (reach[expected] > 1e-9).all()
  assert (reach[~expected] < 1e-25).all()  # at most e^-100 between the regions of a window, zero elsewhere


@pytest.mark.parametrize("version", [1, 2])
def test_nothing_crosses_an_edge_of_the_image_in_the_whole_backbone(version):
  """On a map of 9 × 11 tokens with windows of 4, a change in the first column must not wrap around to the
  last columns.
  """
  encoder = make_encoder(version=version, depths=(2,), num_heads=(2,), window_sizes=(4,))
  images = np.random.default_rng(4).normal(size=(1, 36, 44, 3)).astype(np.float32)
  params = slow_block.random_params(shapes_of(encoder, images), 4)
  run = jax.jit(lambda x: encoder.apply({"params": params}, x)[0])
  changed = images.copy()
  changed[:, :, :4] += 1.0
  difference = np.abs(run(changed) - run(images)).max(axis=(0, 3))  # [9, 11]
  # A plain block spreads the change to column 3, the shifted one to column 5.
  assert (difference[:, :6] > 0).all()
  assert (difference[:, 6:] == 0).all()


def test_window_that_is_not_square_in_a_backbone():
  encoder = make_encoder(window_sizes=((2, 4), (4, 2)), depths=(2, 1))
  images = np.random.default_rng(5).normal(size=(1, 28, 36, 3)).astype(np.float32)
  params = slow_block.random_params(shapes_of(encoder, images), 5)
  maps = jax.jit(lambda x: encoder.apply({"params": params}, x))(images).levels
  take = lambda i, j: jax.tree.map(lambda leaf: leaf[0], params[f"stage{i}"]["blocks"][f"block{j}"])
  assert [m.shape for m in maps] == [(1, 7, 9, 16), (1, 4, 5, 32)]
  # The first stage, computed block by block with loops.
  embedded = nn.Dense(16).apply(
    {"params": params["patch_embed"]["proj"]},
    images.reshape(7, 4, 9, 4, 3).transpose(0, 2, 1, 3, 4).reshape(7, 9, 48),
  )
  x = slow_block.layer_norm(np.asarray(embedded, np.float64), params["patch_embed"]["norm"])
  for j in range(2):
    x = slow_block.block(x, take(0, j), version=2, num_heads=2, window=(2, 4), shifted=j == 1)
  np.testing.assert_allclose(maps[0][0], x, atol=1e-5 * np.abs(x).max())


# Dtypes, cost, pyramid.


@pytest.mark.parametrize("version", [1, 2])
def test_bfloat16_keeps_parameters_logits_and_softmax_in_float32(version):
  block = blocks.block(version, shifted=True, mlp_ratio=4.0, dtype=jnp.dtype("bfloat16"))
  x = jnp.zeros((3, 8, 8, 16), jnp.bfloat16)
  params = shapes_of(block, x, None, train=False)
  assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
  jaxpr = jax.make_jaxpr(lambda p, x: block.apply({"params": p}, x, None, train=False))(params, x)
  assert jaxpr.out_avals[0].dtype == jnp.bfloat16
  equations = list(primitives(jaxpr.jaxpr))
  dots = [eqn for eqn in equations if eqn.primitive.name == "dot_general"]
  logits = [eqn for eqn in dots if eqn.outvars[0].aval.shape == (3, 4, 2, 16, 16)]
  assert len(logits) == 1
  assert (
    logits[0].params["preferred_element_type"] == jnp.float32
    and logits[0].outvars[0].aval.dtype == jnp.float32
  )
  # Cosines are products of unrounded unit vectors: tests/kernels/test_kernels.py shows what an inverse
  # temperature of 100 does to rounded ones.
  assert {var.aval.dtype for var in logits[0].invars} == {
    jnp.dtype("float32" if version == 2 else "bfloat16")
  }
  softmax = [
    eqn for eqn in equations if eqn.primitive.name == "exp" and eqn.outvars[0].aval.shape == (3, 4, 2, 16, 16)
  ]
  assert len(softmax) == 1 and softmax[0].outvars[0].aval.dtype == jnp.float32
  # The other large products run in bfloat16; only the small bias MLP stays in float32.
  wide = [eqn for eqn in dots if eqn.invars[0].aval.dtype == jnp.float32]
  assert len(wide) == (3 if version == 2 else 0)


def test_bfloat16_backbone_is_near_float32():
  images = np.random.default_rng(6).normal(size=(2, 32, 32, 3)).astype(np.float32)
  params = slow_block.random_params(
    shapes_of(make_encoder(depths=(2,), num_heads=(2,), window_sizes=(4,)), images), 6
  )
  outs = []
  for dtype in ("float32", "bfloat16"):
    encoder = make_encoder(depths=(2,), num_heads=(2,), window_sizes=(4,), dtype=dtype)
    outs.append(
      np.asarray(
        jax.jit(lambda x, encoder=encoder: encoder.apply({"params": params}, x)[0])(images), np.float32
      )
    )
  assert 0 < np.abs(outs[0] - outs[1]).max() < 0.05 * np.abs(outs[0]).max()


@pytest.mark.parametrize(
  "name, version, window, image, gmacs",
  [
    ("tiny", 2, 8, 256, 5.93),
    ("tiny", 2, 16, 256, 6.61),
    ("small", 2, 8, 256, 11.51),
    ("small", 2, 16, 256, 12.65),
    ("base", 2, 8, 256, 20.29),
    ("base", 2, 16, 256, 21.80),
    ("base", 2, 24, 384, 54.75),
    ("base", 2, 12, 192, 11.76),
    ("base", 2, 14, 224, 16.32),
    ("large", 2, 16, 256, 47.49),
    ("large", 2, 24, 384, 115.42),
    ("large", 2, 12, 192, 25.96),
    ("huge", 2, 12, 192, 85.75),
    ("huge", 2, 14, 224, 117.59),
    ("huge", 2, 24, 384, 364.2),
    ("giant", 2, 12, 192, 370.7),
    ("giant", 2, 40, 640, 4639),
    ("tiny", 1, 7, 224, 4.49),
    ("small", 1, 7, 224, 8.75),
    ("base", 1, 7, 224, 15.44),
    ("base", 1, 12, 384, 47.11),
    ("large", 1, 7, 224, 34.49),
    ("large", 1, 12, 384, 103.95),
  ],
)
def test_flops_as_published(name, version, window, image, gmacs):
  """Publications count multiply-adds, given here to the printed digits; their models also have a head, and
  apply the last norm to four times the tokens.
  """
  encoder = make_encoder(**dict(SIZES[name], extra_norm_every=0, version=version, window_sizes=(window,) * 4))
  channels = encoder.levels[-1].channels
  theirs_alone = channels * 1000 + channels * 3 * (image // 32) ** 2
  ours = (encoder.flops((image, image), 3) / 2 + theirs_alone) / 1e9
  digits = len(str(gmacs).partition(".")[2])
  assert abs(ours - gmacs) <= 0.5001 * 10**-digits


def test_flops_counts_padding_where_it_is_computed_and_bands():
  encoder = make_encoder(depths=(1,), num_heads=(2,), window_sizes=(4,))
  assert encoder.flops((32, 32), 4) - encoder.flops((32, 32), 3) == 2 * 64 * 16 * 16
  one_more = encoder.flops((36, 32), 3) - encoder.flops((32, 32), 3)
  # one more row of tokens needs four rows of windows
  attention, token = 4 * 8 * (4 * 16 * 16 + 2 * 16 * 16), 49 * 16 + 2 * 16 + 8 * 16 * 16 + 16
  assert one_more == 2 * (attention + 8 * token)


@pytest.mark.parametrize("height, width", [(64, 64), (72, 100), (33, 47)])
def test_levels(height, width):
  """The levels that the backbone declares match its output."""
  encoder = make_encoder(depths=(1, 1, 1, 1), num_heads=(1, 2, 2, 4), window_sizes=(4,) * 4)
  images = jnp.zeros((2, height, width, 3))
  features, _ = jax.eval_shape(lambda: encoder.init_with_output(jax.random.key(0), images))
  sides = [(math.ceil(height / 4), math.ceil(width / 4))]
  for _ in range(3):
    sides.append((math.ceil(sides[-1][0] / 2), math.ceil(sides[-1][1] / 2)))
  assert [x.shape for x in features.levels] == [(2, *sides[i], 16 * 2**i) for i in range(4)]
  assert features.last.shape == features.levels[-1].shape and features.losses == {}
  assert encoder.levels == tuple(((4 * 2**i,) * 2, 16 * 2**i) for i in range(4))
  assert [level.map_size((height, width)) for level in encoder.levels] == sides


@pytest.mark.parametrize("wrong", [dict(version=3), dict(dtype="float16")])
def test_unknown_choices_are_refused(wrong):
  with pytest.raises(ValueError, match=str(list(wrong.values())[0])):
    make_encoder(**wrong)


def test_unknown_axis_names_are_refused():
  with pytest.raises(ValueError, match="emebd"):
    layers.dense(4, ("emebd", axes.MLP))
  with pytest.raises(ValueError, match="bach"):
    layers.constrain(jnp.zeros((2, 2)), "bach", None)


@pytest.mark.parametrize("version", [1, 2])
def test_merging_is_column_major_and_pads_odd_sides(version):
  x = np.random.default_rng(7).normal(size=(1, 3, 5, 4)).astype(np.float32)
  merge = layers.PatchMerge((2, 2), version == 1, jnp.float32)
  params = slow_block.random_params(shapes_of(merge, x), 7)
  ours = jax.jit(lambda x: merge.apply({"params": params}, x))(x)[0]
  padded = np.pad(x[0], ((0, 1), (0, 1), (0, 0)))
  quads = np.concatenate(
    [padded[0::2, 0::2], padded[1::2, 0::2], padded[0::2, 1::2], padded[1::2, 1::2]], axis=-1
  )
  kernel, norm = params["reduction"]["kernel"], params["norm"]
  theirs = (
    slow_block.layer_norm(quads, norm) @ kernel
    if version == 1
    else slow_block.layer_norm(quads @ kernel, norm)
  )
  np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
