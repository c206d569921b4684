"""Every parameter and activation is placed by a rule, nothing large is replicated, and mistakes
are refused.
"""

import functools
import math
import re

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import optax
import pytest

from configs import common
from configs.sizes import SIZES
from swin_jax.mesh import axes, sharding
from swin_jax.models import layers, swin
from swin_jax.models.heads import Classifier
from swin_jax.models.simmim import SimMim
from swin_jax.run.state import abstract_state
from swin_jax.terminal.errors import BadInput
from tests.support import meshes

pytestmark = [pytest.mark.devices(8), pytest.mark.every_python]

RULES = common.base().sharding_rules
MAX_REPLICATED_BYTES = 4e6


@functools.cache
def boxed_giant(version=2, task="simmim"):
  """Returns the abstract boxed parameters of SimMIM, or of a classifier of 21841 classes, for the
  3 B model.
  """
  encoder = swin.make_encoder(
    version=version,
    patch_size=4,
    window_sizes=(12,) * 4,
    trained_window_sizes=(),
    mlp_ratio=4.0,
    drop_path_rate=0.0,
    remat="none",
    unroll=False,
    dtype="bfloat16",
    **SIZES["giant"],
  )
  model = SimMim(encoder) if task == "simmim" else Classifier(encoder, 21841)
  inputs = (jnp.zeros((1, 192, 192, 3)), jnp.zeros((1, 48, 48), bool))[: 2 if task == "simmim" else 1]
  return jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs)["params"])


def by_path(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


BLOCKS = r"encoder/stage\d/blocks/block\d/"
# The full path must match, and the first match wins. The first dimension of a block's parameter counts the
# groups of a scan.
GIANT = [
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
  (r"encoder/merge\d/reduction/kernel", P("fsdp", "model")),
  (r"encoder/(patch_embed/norm|merge\d/norm|norm)/(scale|bias)", P(None)),
  ("encoder/patch_embed/proj/bias", P(None)),
  ("mask_token", P(None)),
  ("decoder/kernel", P("fsdp", "model")),
  ("decoder/bias", P("model")),
  ("head/kernel", P(("fsdp", "model"), None)),
  ("head/bias", P(None)),
]


def test_partition_of_every_parameter_of_the_3b_model():
  mesh, used = meshes.abstract(2, 8, 4), set()
  for task in ("simmim", "classifier"):
    for path, leaf in by_path(sharding.shard_parameters(boxed_giant(2, task), mesh, RULES)).items():
      row = next((i for i, (pattern, _) in enumerate(GIANT) if re.fullmatch(pattern, path)), None)
      assert row is not None, f"{path} is not in the table"
      assert leaf.sharding.spec == GIANT[row][1], path
      assert leaf.dtype == jnp.float32
      used.add(row)
  assert used == set(range(len(GIANT)))


def in_bytes(leaf):
  return leaf.dtype.itemsize * math.prod(leaf.shape)


def test_the_rules_name_every_axis_once():
  assert {name for name, _ in RULES} == axes.ALL and len(RULES) == len(axes.ALL)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["simmim", "classifier"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("mesh_sizes", [(1, 8, 1), (1, 1, 8), (2, 2, 2), (1, 4, 2), (1, 2, 4)], ids=str)
def test_everything_large_is_divided_by_both_axes(mesh_sizes, version, task):
  """This covers parameters, optimizer moments, average and gradients of the 3 B model.

  On (8, 1, 1) the rules keep them whole: data parallelism.
  """
  ways = math.prod(mesh_sizes[1:])
  state, _, gradients = abstract_state(
    lambda rng: boxed_giant(version, task),
    lambda params: optax.adamw(1e-3),
    True,
    meshes.abstract(*mesh_sizes),
    RULES,
  )
  large = [leaf for leaf in jax.tree.leaves(state) if in_bytes(leaf) > MAX_REPLICATED_BYTES]
  assert len(large) > 4 * 40
  for leaf in large:
    assert sharding.bytes_per_device(leaf) == in_bytes(leaf) // ways, leaf
  assert sharding.largest_replicated(state)[1] <= MAX_REPLICATED_BYTES
  assert sharding.bytes_per_device(state) < 1.01 * sum(map(in_bytes, jax.tree.leaves(state))) / ways
  places = [leaf.sharding for leaf in jax.tree.leaves(state.params)]
  for tree in (state.opt_state[0].mu, state.opt_state[0].nu, state.ema):
    assert [leaf.sharding for leaf in jax.tree.leaves(tree)] == places
  assert [leaf.sharding for leaf in jax.tree.leaves(gradients)] == places


@pytest.mark.parametrize("mesh_sizes", [(1, 8, 1), (2, 2, 2)], ids=str)
def test_zero1_divides_all_but_the_parameters_by_fsdp(mesh_sizes):
  mesh, model_ways = meshes.abstract(*mesh_sizes), mesh_sizes[2]
  rules = sharding.whole_parameters(RULES)
  assert dict(rules)["batch"] == ("data", "fsdp")
  zero1, _, gradients = abstract_state(
    lambda rng: boxed_giant(), lambda params: optax.adamw(1e-3), True, mesh, rules, RULES
  )
  full, _, _ = abstract_state(lambda rng: boxed_giant(), lambda params: optax.adamw(1e-3), True, mesh, RULES)
  for leaf in jax.tree.leaves(zero1.params):
    assert "fsdp" not in str(leaf.sharding.spec)
    assert (
      in_bytes(leaf) <= MAX_REPLICATED_BYTES
      or sharding.bytes_per_device(leaf) == in_bytes(leaf) // model_ways
    )
  assert zero1.opt_state == full.opt_state and zero1.ema == full.ema
  assert gradients == full.params


# Mistakes.


def spec(shape, names, rules=RULES, mesh=(2, 4, 2)):
  return sharding.spec("stage0/kernel", shape, names, meshes.abstract(*mesh), rules)


def test_spec():
  assert spec((16, 8), (axes.EMBED, axes.MLP)) == P("fsdp", "model")
  assert spec((16, 3), (axes.BATCH, None)) == P(("data", "fsdp"), None)
  # an axis of one device divides nothing
  assert spec((3, 3), (axes.EMBED, axes.MLP), mesh=(8, 1, 1)) == P(None, None)
  assert spec((16, 3), (axes.BATCH, None), mesh=(1, 4, 2)) == P("fsdp", None)


@pytest.mark.parametrize(
  "shape, names, rules, message",
  [
    (
      (16, 8),
      (axes.EMBED, axes.MLP),
      [("embed", "fsdp")],
      r"stage0/kernel \(16, 8\): no sharding rule for its dimension 1, 'mlp'",
    ),
    (
      (16, 8),
      (axes.EMBED, axes.MLP),
      [("embed", "fsdp"), ("mlp", "fsdp")],
      "'embed' and 'mlp' on the same mesh axis 'fsdp'",
    ),
    (
      (16, 8),
      (axes.EMBED, axes.MLP),
      [("embed", ("data", "fsdp")), ("mlp", ("model", "data"))],
      "on the same mesh axis 'data'",
    ),
    ((16, 16), (axes.EMBED, axes.EMBED), RULES, "'embed' and 'embed' on the same mesh axis 'fsdp'"),
    (
      (10, 8),
      (axes.EMBED, axes.MLP),
      RULES,
      r"dimension 0 does not divide into 4, by rule embed → \('fsdp',\)",
    ),
    ((12, 3), (axes.BATCH, None), RULES, "dimension 0 does not divide into 8, by rule batch"),
    (
      (16, 8),
      (axes.EMBED, axes.MLP),
      [("embed", "fsdp"), ("mpl", "model")],
      "'mpl': unknown logical axis; known are batch,",
    ),
    (
      (16, 8),
      (axes.EMBED, axes.MLP),
      [("embed", "fspd"), ("mlp", "model")],
      r"unknown mesh axis \['fspd'\]; known are data, fsdp, expert, space, model",
    ),
    (
      (16, 8),
      (axes.EMBED, axes.MLP),
      [("embed", "fsdp"), ("mlp", "model"), ("embed", None)],
      "two sharding rules for 'embed'",
    ),
  ],
)
def test_a_parameter_that_the_rules_cannot_place(shape, names, rules, message):
  with pytest.raises(BadInput, match=message):
    spec(shape, names, rules)


def test_a_batch_that_does_not_divide():
  with pytest.raises(BadInput, match=r"a batch \(12,\): dimension 0 does not divide into 8"):
    sharding.shard_batch(meshes.make(2, 4, 1), RULES, 12)


def test_parts_of_a_batch():
  assert sharding.batch_parts(meshes.abstract(2, 4, 2), RULES) == 8
  assert sharding.batch_parts(meshes.abstract(1, 1, 8), RULES) == 1


def test_a_parameter_without_names_is_a_programming_error():
  with pytest.raises(ValueError, match="'kernel'.*has no logical names"):
    sharding.shard_parameters(
      {"kernel": jax.ShapeDtypeStruct((2, 2), jnp.float32)}, meshes.abstract(1, 1, 1), RULES
    )


@pytest.mark.parametrize(
  "sizes, expected",
  [((1, -1, 1), (1, 8, 1)), ((2, 2, -1), (2, 2, 2)), ((-1, 8, 1), (1, 8, 1)), ((2, 2, 2), (2, 2, 2))],
)
def test_mesh(sizes, expected):
  mesh = meshes.make(*sizes)
  assert tuple(mesh.shape.values()) == expected and mesh.axis_names == meshes.AXES
  assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize(
  "sizes", [(3, 1, 1), (1, 1, 1), (-1, -1, 1), (0, -1, 1), (-2, 2, 2), (3, -1, 1), (16, -1, 1), (16, 1, 1)]
)
def test_a_mesh_that_does_not_fit(sizes):
  with pytest.raises(BadInput, match=r"config\.mesh .* does not fit the number of devices, 8"):
    meshes.make(*sizes)


def test_a_mesh_has_the_axes_that_its_config_names_in_one_order():
  assert tuple(common.base().mesh) == meshes.AXES
  mesh = sharding.make_mesh({"model": 2, "space": -1, "expert": 1, "data": 2})
  assert tuple(mesh.shape.items()) == (("data", 2), ("expert", 1), ("space", 2), ("model", 2))
  with pytest.raises(
    BadInput, match="config.mesh.depth: no mesh axis has this name; known are data, fsdp, expert"
  ):
    sharding.make_mesh({"data": 4, "depth": 2})


def test_an_axis_without_a_place_in_the_mesh_splits_nothing():
  rules = (("batch", ("data", "expert")), ("mlp", "expert"))
  assert sharding.spec("x", (8, 6), (axes.BATCH, axes.MLP), meshes.abstract(4, 1, 2), rules) == P(
    "data", None
  )
  assert sharding.batch_parts(meshes.abstract(4, 1, 2), rules) == 4
  split = sharding.make_mesh({"data": 4, "expert": 2})
  assert sharding.spec("x", (8, 6), (axes.BATCH, None), split, rules) == P(("data", "expert"), None)
  assert sharding.batch_parts(split, rules) == 8


# Activations.


def constrained(shape, names, rules=RULES, mesh_sizes=(2, 2, 2)):
  with sharding.trace_on(meshes.make(*mesh_sizes), rules):
    return jax.jit(lambda x: layers.constrain(x, *names)).lower(jnp.zeros(shape)).as_text()


def test_an_activation_is_constrained_by_the_rules():
  assert '[{"data", "fsdp"}, {}, {"model"}]' in constrained((8, 3, 4), (axes.BATCH, None, axes.MLP))
  # without a mesh
  assert (
    "sharding_constraint"
    not in jax.jit(lambda x: layers.constrain(x, axes.BATCH)).lower(jnp.zeros(8)).as_text()
  )


@pytest.mark.parametrize(
  "shape, names, rules, message",
  [
    (
      (8, 4),
      (axes.BATCH, axes.EMBED),
      RULES,
      r"an activation \(8, 4\): rules put dimensions 'batch' and 'embed' on the same mesh axis",
    ),
    (
      (8, 4),
      (axes.BATCH, axes.MLP),
      [("batch", "data")],
      r"an activation \(8, 4\): no sharding rule for its dimension 1, 'mlp'",
    ),
    (
      (6, 4),
      (axes.BATCH, axes.MLP),
      RULES,
      r"an activation \(6, 4\): dimension 0 does not divide into 4, by rule batch",
    ),
  ],
)
def test_an_activation_that_the_rules_cannot_place(shape, names, rules, message):
  with pytest.raises(BadInput, match=message):
    constrained(shape, names, rules)


def test_each_device_computes_on_its_part():
  parts = []

  def double(x, y):
    parts.append((x.shape, y))
    return 2.0 * x

  x = np.arange(32, dtype=np.float32).reshape(8, 4)
  with sharding.trace_on(meshes.make(2, 2, 2), RULES):
    out = jax.jit(
      lambda x: sharding.per_device(
        double, (x, None), ((axes.BATCH, axes.HEADS), ()), (axes.BATCH, axes.HEADS)
      )
    )(x)
  np.testing.assert_array_equal(out, 2.0 * x)
  assert parts == [((2, 2), None)]


def test_what_devices_share_gets_the_gradient_of_all():
  """Its gradient is summed once, after a loop inside, not in each of the loop's turns."""
  x, shared = np.arange(8, dtype=np.float32), np.float32([3.0])

  def loss(shared, x):
    turn = lambda x, shared: jax.lax.scan(lambda total, _: (total * shared, None), x, length=3)[0]
    return jnp.sum(sharding.per_device(turn, (x, shared), ((axes.BATCH,), (None,)), (axes.BATCH,)))

  for mesh_sizes in ((1, 8, 1), (4, 2, 1)):
    with sharding.trace_on(meshes.make(*mesh_sizes), RULES):
      gradient = jax.jit(jax.grad(loss, (0, 1))).lower(shared, x).compile()
      np.testing.assert_allclose(gradient(shared, x)[0], 3 * 9.0 * x.sum(keepdims=True))
      np.testing.assert_allclose(gradient(shared, x)[1], 27.0)
    sums = [line for line in gradient.as_text().splitlines() if re.search(r"all-reduce(-start)?\(", line)]
    assert len(sums) == 1 and "while" not in sums[0]


# What a device holds.


def test_bytes_per_device():
  tree = {
    "kernel": placed((16, 8), P("fsdp", "model")),
    "bias": placed((8,), P()),
    "step": placed((), P(), jnp.int32),
  }
  assert sharding.bytes_per_device(tree) == 16 * 8 * 4 // 8 + 8 * 4 + 4
  assert sharding.largest_replicated(tree) == ("bias", 32)
  assert sharding.largest_replicated({"kernel": placed((16, 8), P("fsdp", "model"))}) == ("", 0)
  assert sharding.largest_replicated({"kernel": placed((16, 8), P(), mesh=(1, 1, 1))}) == ("", 0)


def placed(shape, partition, dtype=jnp.float32, mesh=(1, 4, 2)):
  return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(meshes.abstract(*mesh), partition))


def test_tracing_on_a_mesh_ends():
  with sharding.trace_on(meshes.make(8, 1, 1), RULES):
    assert jax.sharding.get_abstract_mesh().shape["data"] == 8
  assert jax.sharding.get_abstract_mesh().empty
