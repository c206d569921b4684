"""Every parameter is placed by a rule, mistakes are refused, and eight devices compute what one computes."""

import functools
import math
import re

import jax
from jax.sharding import AbstractMesh, AxisType, PartitionSpec as P
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import common
from swin_jax import axes
from swin_jax import sharding
from swin_jax.errors import BadInput
from swin_jax.models import swin
from swin_jax.models.simmim import SimMim
from swin_jax.state import abstract_state
from swin_jax.state import init_state
from swin_jax.step import make_step
from swin_jax.tasks import masked_pixels
from tests.slow_block import jit

RULES = common.base().sharding_rules
MAX_REPLICATED_BYTES = 4e6


def abstract_mesh(data, fsdp, model):
  return AbstractMesh((data, fsdp, model), sharding.MESH_AXES, axis_types=(AxisType.Auto,) * 3)


@functools.cache
def boxed_giant(version=2):
  """Abstract boxed parameters of SimMIM on the 3 B model."""
  encoder = swin.make_encoder(
      version=version, patch_size=4, window_sizes=(12,) * 4, trained_window_sizes=(), mlp_ratio=4.0, drop_path_rate=0.0, remat="none",
      unroll=False, dtype="bfloat16", **common.SIZES["giant"],
  )  # fmt: skip
  model = SimMim(encoder)
  return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 192, 192, 3)), jnp.zeros((1, 48, 48), bool))["params"])


def by_path(tree):
  return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


BLOCKS = r"encoder/stage\d/blocks/block\d/"
GIANT = [  # full match, first wins; the first dimension of a block's parameter counts the groups of a scan
    (BLOCKS + "attn/qkv/kernel", P(None, "fsdp", "model")),
    (BLOCKS + "attn/proj/kernel", P(None, "model", "fsdp")),
    (BLOCKS + "mlp/fc1/kernel", P(None, "fsdp", "model")),
    (BLOCKS + "mlp/fc2/kernel", P(None, "model", "fsdp")),
    (BLOCKS + "mlp/fc1/bias", P(None, "model")),
    (BLOCKS + "attn/(q_bias|v_bias|logit_scale)", P(None, "model")),
    (BLOCKS + "attn/cpb_fc2/kernel", P(None, None, "model")),
    (BLOCKS + "attn/cpb_fc1/kernel", P(None, None, None)),
    (BLOCKS + "attn/(cpb_fc1|proj)/bias", P(None, None)),
    (BLOCKS + "mlp/fc2/bias", P(None, None)),
    (BLOCKS + "(norm1|norm2|extra_norm)/(scale|bias)", P(None, None)),
    ("encoder/patch_embed/proj/kernel", P(None, "fsdp")),
    (r"encoder/merge\d/reduction/kernel", P("fsdp", None)),
    (r"encoder/(patch_embed/norm|merge\d/norm|norm)/(scale|bias)", P(None)),
    ("encoder/patch_embed/proj/bias", P(None)),
    ("mask_token", P(None)),
    ("decoder/kernel", P("fsdp", None)),
    ("decoder/bias", P(None)),
]


def test_partition_of_every_parameter_of_the_3b_model():
  placed = by_path(sharding.shard_parameters(boxed_giant(), abstract_mesh(2, 8, 4), RULES))
  used = set()
  for path, leaf in placed.items():
    row = next((i for i, (pattern, _) in enumerate(GIANT) if re.fullmatch(pattern, path)), None)
    assert row is not None, f"{path} is not in the table"
    assert leaf.sharding.spec == GIANT[row][1], path
    assert leaf.dtype == jnp.float32
    used.add(row)
  assert used == set(range(len(GIANT)))


@pytest.mark.parametrize("version", [1, 2])
def test_nothing_large_is_replicated(version):
  placed = by_path(sharding.shard_parameters(boxed_giant(version), abstract_mesh(1, 8, 1), RULES))
  large = {path: leaf for path, leaf in placed.items() if 4 * math.prod(leaf.shape) > MAX_REPLICATED_BYTES}
  assert len(large) > 40
  assert not [path for path, leaf in large.items() if leaf.sharding.is_fully_replicated]
  held = sum(4 * math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in placed.values())
  total = sum(4 * math.prod(leaf.shape) for leaf in placed.values())
  assert held < 1.01 * total / 8


def test_optimizer_moments_and_average_are_divided_as_their_parameters():
  mesh = abstract_mesh(1, 8, 1)
  state, _ = abstract_state(lambda rng: boxed_giant(), lambda params: optax.adamw(1e-3), True, mesh, RULES)
  params = [leaf.sharding.spec for leaf in jax.tree.leaves(state.params)]
  for tree in (state.opt_state[0].mu, state.opt_state[0].nu, state.ema):
    assert [leaf.sharding.spec for leaf in jax.tree.leaves(tree)] == params
  for leaf in jax.tree.leaves(state):
    assert not leaf.sharding.is_fully_replicated or 4 * math.prod(leaf.shape) <= MAX_REPLICATED_BYTES


# Mistakes.


def spec(shape, names, rules=RULES, mesh=(2, 4, 2)):
  return sharding.spec("stage0/kernel", shape, names, abstract_mesh(*mesh), rules)


def test_spec():
  assert spec((16, 8), (axes.EMBED, axes.MLP)) == P("fsdp", "model")
  assert spec((16, 3), (axes.BATCH, None)) == P(("data", "fsdp"), None)
  assert spec((3, 3), (axes.EMBED, axes.MLP), mesh=(8, 1, 1)) == P(None, None)  # an axis of one device divides nothing
  assert spec((16, 3), (axes.BATCH, None), mesh=(1, 4, 2)) == P("fsdp", None)


@pytest.mark.parametrize(
    "shape, names, rules, message",
    [
        ((16, 8), (axes.EMBED, axes.MLP), [("embed", "fsdp")], r"stage0/kernel \(16, 8\): no sharding rule for its dimension 1, 'mlp'"),
        ((16, 8), (axes.EMBED, axes.MLP), [("embed", "fsdp"), ("mlp", "fsdp")], "'embed' and 'mlp' both on mesh axis 'fsdp'"),
        ((16, 8), (axes.EMBED, axes.MLP), [("embed", ("data", "fsdp")), ("mlp", ("model", "data"))], "both on mesh axis 'data'"),
        ((16, 16), (axes.EMBED, axes.EMBED), RULES, "'embed' and 'embed' both on mesh axis 'fsdp'"),
        ((10, 8), (axes.EMBED, axes.MLP), RULES, r"dimension 0 does not divide into 4, by rule embed → \('fsdp',\)"),
        ((12, 3), (axes.BATCH, None), RULES, "dimension 0 does not divide into 8, by rule batch"),
        ((16, 8), (axes.EMBED, axes.MLP), [("embed", "fsdp"), ("mpl", "model")], "'mpl': no such logical axis; there are batch,"),
        ((16, 8), (axes.EMBED, axes.MLP), [("embed", "fspd"), ("mlp", "model")], r"no mesh axis \['fspd'\]; there are data, fsdp, model"),
        ((16, 8), (axes.EMBED, axes.MLP), [("embed", "fsdp"), ("mlp", "model"), ("embed", None)], "two sharding rules for 'embed'"),
    ],
)
def test_a_parameter_that_the_rules_cannot_place(shape, names, rules, message):
  with pytest.raises(BadInput, match=message):
    spec(shape, names, rules)


def test_a_batch_that_does_not_divide():
  with pytest.raises(BadInput, match=r"a batch \(12,\): dimension 0 does not divide into 8"):
    sharding.shard_batch(sharding.make_mesh(2, 4, 1), RULES, 12)


def test_a_parameter_without_names_is_a_programming_error():
  with pytest.raises(ValueError, match="'kernel'.*has no logical names"):
    sharding.shard_parameters({"kernel": jax.ShapeDtypeStruct((2, 2), jnp.float32)}, abstract_mesh(1, 1, 1), RULES)


@pytest.mark.parametrize("sizes, expected", [((1, -1, 1), (1, 8, 1)), ((2, 2, -1), (2, 2, 2)), ((-1, 8, 1), (1, 8, 1)), ((2, 2, 2), (2, 2, 2))])
def test_mesh(sizes, expected):
  mesh = sharding.make_mesh(*sizes)
  assert tuple(mesh.shape.values()) == expected and mesh.axis_names == sharding.MESH_AXES
  assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize("sizes", [(3, 1, 1), (1, 1, 1), (-1, -1, 1), (0, -1, 1), (-2, 2, 2), (3, -1, 1), (16, -1, 1), (16, 1, 1)])
def test_a_mesh_that_does_not_fit(sizes):
  with pytest.raises(BadInput, match=r"config\.mesh .* does not fit the number of devices, 8"):
    sharding.make_mesh(*sizes)


# The same numbers on any mesh.


def build(mesh):
  """A tiny SimMIM run whose one step of plain gradient descent shows the whole gradient."""
  encoder = swin.make_encoder(
      version=2, patch_size=4, embed_dim=16, depths=(1, 1), num_heads=(2, 2), window_sizes=(4, 4), trained_window_sizes=(), mlp_ratio=2.0,
      drop_path_rate=0.5, extra_norm_every=0, remat="none", unroll=False, dtype="float32",
  )  # fmt: skip
  task = masked_pixels.make_task(encoder, mean=(0.5,), std=(0.25,), target_norm_window=0)
  example = {"image": jnp.zeros((1, 32, 32, 1), jnp.uint8), "mask": jnp.zeros((1, 8, 8), bool)}

  def init_params(rng):  # a fresh V2 block has a zero norm, which hides everything in it
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + 0.5 if re.search("norm[12]'?.*scale", jax.tree_util.keystr(path)) else leaf, task.init(rng, example)
    )

  state, optimizer = abstract_state(init_params, lambda params: optax.sgd(1.0), True, mesh, RULES)
  step = make_step(task, optimizer, lambda step: jnp.float32(1.0), seed=0, accumulation_steps=1, ema_decay=0.5)
  batch_sharding = sharding.shard_batch(mesh, RULES, 8)
  shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
  step = jit(step, in_shardings=(shardings, batch_sharding), out_shardings=(shardings, None), donate_argnums=0)
  init = lambda: init_state(jax.random.key(0), init_params, optimizer, state)
  rng = np.random.default_rng(0)
  batch = {"image": rng.integers(0, 256, (8, 32, 32, 1), dtype=np.uint8), "mask": rng.random((8, 8, 8)) < 0.6}
  return state, init, step, jax.device_put(batch, batch_sharding)


@functools.cache
def one_step(mesh_sizes, devices):
  mesh = sharding.make_mesh(*mesh_sizes, devices=jax.devices()[:devices])
  abstract, init, step, batch = build(mesh)
  state = init()
  assert jax.tree.all(jax.tree.map(lambda leaf, like: leaf.sharding == like.sharding and leaf.dtype == like.dtype, state, abstract))
  before = jax.device_get(state.params)
  with sharding.trace_on(mesh, RULES):
    state, sums = step(state, batch)
  assert jax.tree.all(jax.tree.map(lambda leaf, like: leaf.sharding == like.sharding, state, abstract))
  return before, jax.device_get(state.params), jax.device_get(state.ema), jax.device_get(sums)


@pytest.mark.parametrize("mesh_sizes", [(8, 1, 1), (1, 8, 1), (2, 2, 2)], ids=str)
def test_eight_devices_compute_what_one_computes(mesh_sizes):
  before, after, ema, sums = one_step(mesh_sizes, 8)
  theirs_before, theirs_after, theirs_ema, theirs_sums = one_step((1, 1, 1), 1)
  # The same draws wherever they are made; jax 0.12 rounds the last bit by the shape of the local part.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), before, theirs_before)
  np.testing.assert_allclose(sums["loss"][0], theirs_sums["loss"][0], rtol=1e-5)
  np.testing.assert_allclose(sums["grad_norm"][0], theirs_sums["grad_norm"][0], rtol=1e-5)
  gradient, theirs = (jax.tree.map(np.subtract, a, b) for a, b in ((before, after), (theirs_before, theirs_after)))
  largest = max(np.abs(leaf).max() for leaf in jax.tree.leaves(theirs))
  for path, leaf in by_path(theirs).items():
    assert np.abs(leaf).max() > 1e-5 * largest or path.endswith("cpb_fc1/bias"), path  # every parameter takes part
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * largest), gradient, theirs)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * largest), ema, theirs_ema)


def test_the_step_holds_the_constraints_only_if_traced_on_the_mesh():
  mesh = sharding.make_mesh(2, 2, 2)
  state, _, step, batch = build(mesh)
  count = lambda lowered: len(re.findall(r"sharding_constraint", lowered.as_text()))
  without = count(step.lower(state, batch))
  state, _, step, batch = build(mesh)
  with sharding.trace_on(mesh, RULES):
    inside = count(step.lower(state, batch))
  # Per block: after the hidden layer and after each of two branches; again in the backward pass.
  assert without == 0
  assert inside >= 3 * 2 * 2


def test_tracing_on_a_mesh_ends():
  with sharding.trace_on(sharding.make_mesh(8, 1, 1), RULES):
    assert jax.sharding.get_abstract_mesh().shape["data"] == 8
  assert jax.sharding.get_abstract_mesh().empty
