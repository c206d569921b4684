"""UPerNet: published sizes and costs, the head compared with torch, pooling and resizing compared with loops,
and equal results on any mesh.
"""

import collections
import functools
import math
import re

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from configs.sizes import SIZES
from swin_jax.mesh import sharding
from swin_jax.models import norms, swin, upernet
from swin_jax.models.backbone import Features
from swin_jax.terminal.errors import BadInput
from tests.support import meshes, slow_block
from tests.support.jaxprs import primitives

pytestmark = pytest.mark.devices(8)

RULES = common.base().sharding_rules
CLASSES = 5


def make_model(channels=32, **changes):
  numbers = dict(
    version=2,
    patch_size=4,
    embed_dim=16,
    depths=(2, 1, 1, 1),
    num_heads=(2, 2, 4, 8),
    window_sizes=(4,) * 4,
    trained_window_sizes=(),
    mlp_ratio=1.0,
    drop_path_rate=0.0,
    extra_norm_every=0,
    remat="none",
    unroll=False,
    dtype="float32",
  )
  return upernet.UPerNet(swin.make_encoder(**numbers | changes), CLASSES, channels, 16)


def published(name, version, window):
  numbers = dict(SIZES[name], version=version, window_sizes=(window,) * 4, mlp_ratio=4.0)
  return upernet.UPerNet(make_model(**numbers).encoder, 150)


@functools.cache
def boxed(model):
  """Returns abstract parameters for an image whose last map is 8 × 8: V1's bias tables have the size of the
  windows actually used.
  """
  return jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 256, 256, 3)))["params"])


MODEL = make_model()


@functools.cache
def random_params(model=MODEL, seed=0):
  return slow_block.random_params(flax.core.meta.unbox(boxed(model)), seed)


def images_of(height, width, batch=2, seed=0):
  return np.random.default_rng(seed).normal(size=(batch, height, width, 3)).astype(np.float32)


def assert_close(ours, theirs, tolerance):
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * np.abs(theirs).max())


# Sizes, costs, names.


@pytest.mark.slow
@pytest.mark.parametrize(
  "name, millions, v1", [("tiny", 60, 59_941_862), ("small", 81, 81_259_766), ("base", 121, 121_279_716)]
)
def test_parameter_counts_as_published(name, millions, v1):
  counts = [
    sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(boxed(published(name, *which))))
    for which in ((1, 7), (2, 8))
  ]
  assert [round(count / 1e6) for count in counts] == [millions] * 2
  assert counts[0] == v1


@pytest.mark.parametrize(
  "name, image, gmacs",
  [
    ("tiny", (512, 2048), 945),
    ("small", (512, 2048), 1038),
    ("base", (512, 2048), 1188),
    ("base", (640, 2560), 1841),
  ],
)
def test_flops_as_published(name, image, gmacs):
  ours = upernet.flops(published(name, 1, 7), image, 3) / 2e9
  assert abs(ours - gmacs) < (0.5 if image[0] == 512 else 2)  # the second size is inferred, not published


def test_flops_of_a_small_head_term_by_term():
  model = make_model()
  ours = upernet.flops(model, (64, 36), 4) - model.encoder.flops((64, 36), 4)
  tokens, c = (16 * 9, 8 * 5, 4 * 3, 2 * 2), (16, 32, 64, 128)  # odd maps are rounded up
  macs = (1 + 4 + 9 + 36) * (128 * 32 + 32) + 4 * ((128 + 4 * 32) * 9 * 32 + 32)
  macs += sum(tokens[i] * (c[i] + c[i] * 32 + 32 + 9 * 32 * 32 + 32) for i in range(3))
  assert ours == 2 * (macs + tokens[0] * (4 * 32 * 9 * 32 + 32 + 32 * CLASSES))


def test_parameter_paths_are_an_interface():
  convs = [f"pool{k}" for k in (1, 2, 3, 6)] + [f"{kind}{i}" for kind in ("lateral", "fpn") for i in range(3)]
  expected = {
    f"{conv}/{leaf}"
    for conv in convs + ["bottleneck", "fuse", "auxiliary"]
    for leaf in ("kernel", "norm/scale", "norm/bias")
  }
  expected |= {f"norm{i}/{leaf}" for i in range(3) for leaf in ("scale", "bias")}
  expected |= {
    f"{head}/{leaf}" for head in ("classifier", "auxiliary_classifier") for leaf in ("kernel", "bias")
  }
  params = dict(flax.core.meta.unbox(boxed(make_model())))
  encoder = params.pop("encoder")
  assert set(flax.traverse_util.flatten_dict(params, sep="/")) == expected
  theirs = make_model().encoder
  alone = jax.eval_shape(
    lambda: flax.core.meta.unbox(theirs.init(jax.random.key(0), jnp.zeros((1, 256, 256, 3)))["params"])
  )
  assert encoder == alone  # a pre-trained backbone fits unchanged, including its last norm


def test_initial_values():
  conv = upernet.ConvNorm(32, 3, jnp.float32)
  params = flax.core.meta.unbox(jax.jit(conv.init)(jax.random.key(0), jnp.zeros((1, 4, 4, 64)))["params"])
  assert abs(np.std(params["kernel"]) / math.sqrt(2 / (9 * 32)) - 1) < 0.05
  assert (params["norm"]["scale"] == 1).all() and not params["norm"]["bias"].any()


@pytest.mark.parametrize("channels, where", [(24, "24 channels, which do not divide"), (32, "two stages")])
def test_what_cannot_be_built_is_refused(channels, where):
  model = (
    make_model(channels) if channels == 24 else make_model(depths=(2,), num_heads=(2,), window_sizes=(4,))
  )
  with pytest.raises(BadInput, match=where):
    boxed(model)


# Pooling and resizing, by definition.


@pytest.mark.every_python
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (6, 3), (7, 11)], ids=str)
def test_pooling_is_the_mean_of_its_parts(size):
  x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
  for cells in upernet.POOLS:
    theirs = np.zeros((2, cells, cells, 3))
    for i in range(cells):
      for j in range(cells):
        rows, columns = (
          slice(math.floor(k * n / cells), math.ceil((k + 1) * n / cells))
          for k, n in zip((i, j), size, strict=True)
        )
        theirs[:, i, j] = x[:, rows, columns].mean(axis=(1, 2))
    assert_close(upernet.pool(x, cells), theirs, 1e-6)


@pytest.mark.every_python
@pytest.mark.parametrize(
  "old, new",
  [
    ((4, 4), (8, 8)),
    ((3, 5), (5, 9)),
    ((1, 1), (3, 4)),
    ((6, 6), (2, 4)),
    ((2, 3), (2, 7)),
    ((5, 3), (5, 3)),
    ((333, 1), (500, 1)),  # a size at which positions in float32 are too inexact
  ],
  ids=str,
)
def test_resizing_mixes_the_four_nearest(old, new):
  x = np.random.default_rng(1).normal(size=(2, *old, 3)).astype(np.float32)
  theirs = np.zeros((2, *new, 3))
  for i in range(new[0]):
    for j in range(new[1]):
      for row, a in neighbours(i, old[0], new[0]):
        for column, b in neighbours(j, old[1], new[1]):
          theirs[:, i, j] += a * b * x[:, row, column]
  assert_close(upernet.resize(x, new), theirs, 1e-6)


def neighbours(i, old, new):
  """Returns the two tokens around the centre of token i of the new map, and their weights; at an edge, only
  the edge token.
  """
  centre = max((i + 0.5) * old / new - 0.5, 0)
  first = math.floor(centre)
  return (first, 1 - (centre - first)), (min(first + 1, old - 1), centre - first)


@pytest.mark.every_python
@pytest.mark.parametrize("shape", [(1, 3, 16), (7, 5, 48)], ids=str)
def test_group_norm_looks_at_one_image_and_sixteen_channels(shape):
  x = np.random.default_rng(2).normal(3.0, 2.0, size=(2, *shape)).astype(np.float32)
  p = {
    "scale": np.linspace(1, 2, shape[-1], dtype=np.float32),
    "bias": np.linspace(-1, 1, shape[-1], dtype=np.float32),
  }
  theirs = np.zeros_like(x)
  for image in range(2):
    for c in range(0, shape[-1], 16):
      group = x[image, ..., c : c + 16].astype(np.float64)
      theirs[image, ..., c : c + 16] = (group - group.mean()) / np.sqrt(group.var() + 1e-5)
  assert_close(
    jax.jit(lambda x: norms.group_norm(jnp.float32).apply({"params": p}, x))(x),
    theirs * p["scale"] + p["bias"],
    1e-5,
  )


def test_channels_that_do_not_divide_into_groups_are_bad_input():
  with pytest.raises(BadInput, match="lateral0 has 24 channels, which do not divide into groups of 16"):
    upernet.ConvNorm(24, 1, jnp.float32, name="lateral0").init(jax.random.key(0), np.zeros((1, 2, 2, 3)))


# The whole model, compared with torch.


@functools.cache
def run(height, width):
  """Returns a compiled function of parameters and images that gives both logits without dropout, the normed
  last map and all maps.
  """

  def both(params, images):
    features = []

    def watch(call, args, kwargs, context):
      if isinstance(context.module, nn.Dropout):
        return args[0]
      out = call(*args, **kwargs)
      if isinstance(context.module, swin.Swin) and context.method_name == "__call__":
        features.extend(out[:2])
      return out

    with nn.intercept_methods(watch):
      logits, _ = make_model().apply({"params": params}, images, train=True)
    return *logits, *features

  return jax.jit(both).lower(random_params(), images_of(height, width)).compile()


@pytest.mark.every_python
@pytest.mark.slow
@pytest.mark.parametrize("height, width", [(64, 64), (61, 98), (33, 65)])
def test_logits_equal_those_of_torch(height, width):
  torch = pytest.importorskip("torch")
  F = torch.nn.functional
  params = random_params()
  logits, auxiliary, last, maps = run(height, width)(params, images_of(height, width))
  tensor = lambda x: torch.from_numpy(np.array(x))

  def conv(x, name):
    p = params[name]
    kernel = tensor(p["kernel"]).permute(3, 2, 0, 1)
    x = F.conv2d(x, kernel, padding=kernel.shape[-1] // 2)
    return F.relu(
      F.group_norm(x, x.shape[1] // 16, tensor(p["norm"]["scale"]), tensor(p["norm"]["bias"]), eps=1e-5)
    )

  def classify(x, p):
    return F.conv2d(x, tensor(p["kernel"]).T[:, :, None, None], tensor(p["bias"])).permute(0, 2, 3, 1).numpy()

  def interpolate(x, like):
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)

  stages = []
  for i, x in enumerate(maps[:-1]):
    x = F.layer_norm(
      tensor(x),
      x.shape[-1:],
      tensor(params[f"norm{i}"]["scale"]),
      tensor(params[f"norm{i}"]["bias"]),
      eps=1e-5,
    )
    stages.append(x.permute(0, 3, 1, 2))
  last = tensor(last).permute(0, 3, 1, 2)
  pooled = [interpolate(conv(F.adaptive_avg_pool2d(last, k), f"pool{k}"), last) for k in (1, 2, 3, 6)]
  p3 = conv(torch.cat([last, *pooled], 1), "bottleneck")
  p2 = conv(stages[2], "lateral2") + interpolate(p3, stages[2])
  p1 = conv(stages[1], "lateral1") + interpolate(p2, stages[1])
  p0 = conv(stages[0], "lateral0") + interpolate(p1, stages[0])
  levels = [conv(p0, "fpn0"), conv(p1, "fpn1"), conv(p2, "fpn2"), p3]
  fused = conv(torch.cat([interpolate(x, p0) for x in levels], 1), "fuse")

  assert logits.shape == (2, math.ceil(height / 4), math.ceil(width / 4), CLASSES)
  assert_close(logits, classify(fused, params["classifier"]), 1e-5)
  assert_close(auxiliary, classify(conv(stages[2], "auxiliary"), params["auxiliary_classifier"]), 1e-5)


def test_an_image_that_is_no_multiple_is_one_with_black_below_and_to_the_right():
  """This concerns multiples of the patch; further padding, for windows or merging, is masked by
  the backbone.
  """
  images = images_of(33, 65)
  padded = np.pad(images, ((0, 0), (0, 3), (0, 3), (0, 0)))
  ours, theirs = run(33, 65)(random_params(), images), run(36, 68)(random_params(), padded)
  for x, y in zip(ours[:2], theirs[:2], strict=True):
    assert_close(x, y, 1e-6)


def test_an_image_does_not_see_the_others_of_its_batch():
  images = images_of(33, 65)
  others = images.copy()
  others[1] = 10 * images[1, ::-1] + 3
  ours, theirs = (run(33, 65)(random_params(), x)[:2] for x in (images, others))
  for x, y in zip(ours, theirs, strict=True):
    assert_close(x[0], y[0], 1e-6)
    assert np.abs(x[1] - y[1]).max() > 0.1


# Training, dtypes, devices.


def traced(model, train):
  rngs = {"dropout": jax.random.key(0)} if train else {}
  jaxpr = jax.make_jaxpr(lambda p, x: model.apply({"params": p}, x, train=train, rngs=rngs))(
    random_params(), images_of(32, 40)
  )
  return jaxpr, [eqn for eqn in primitives(jaxpr.jaxpr) if eqn.primitive.name == "conv_general_dilated"]


def test_the_auxiliary_classifier_and_dropout_are_in_training_alone():
  evaluated, convs = traced(make_model(), False)
  assert [aval.shape for aval in evaluated.out_avals] == [(2, 8, 10, CLASSES)]
  assert len(convs) == 4 + 1 + 3 + 3 + 1
  trained, convs = traced(make_model(), True)
  assert [aval.shape for aval in trained.out_avals] == [(2, 8, 10, CLASSES), (2, 2, 3, CLASSES)]
  assert len(convs) == 4 + 1 + 3 + 3 + 1 + 1
  random = [
    sum("random" in eqn.primitive.name for eqn in primitives(jaxpr.jaxpr)) for jaxpr in (evaluated, trained)
  ]
  assert random[0] == 0 < random[1]


def test_bfloat16_is_of_the_convolutions_and_not_of_norms_and_logits():
  model = make_model(dtype="bfloat16")
  jaxpr, convs = traced(model, True)
  assert {var.aval.dtype for eqn in convs for var in (*eqn.invars, *eqn.outvars)} == {jnp.dtype("bfloat16")}
  assert {aval.dtype for aval in jaxpr.out_avals} == {jnp.dtype("float32")}
  dtypes = {eqn.invars[0].aval.dtype for eqn in primitives(jaxpr.jaxpr) if eqn.primitive.name == "rsqrt"}
  assert dtypes == {jnp.dtype("float32")}
  assert {leaf.dtype for leaf in jax.tree.leaves(boxed(model))} == {jnp.dtype("float32")}


def head_alone(model, params, maps, **kwargs):
  """Returns the model's output for given maps in place of a backbone's, and the inputs and outputs of
  dropout.
  """
  dropped = []

  def replace(call, args, kwargs, context):
    if isinstance(context.module, swin.Swin):
      return Features(maps[-1], tuple(maps), {})
    out = call(*args, **kwargs)
    if isinstance(context.module, nn.Dropout):
      dropped.append((args[0], out))
    return out

  with nn.intercept_methods(replace):
    return model.apply({"params": params}, jnp.zeros((1, 32, 40, 3)), **kwargs), dropped


def head_params():
  return {name: leaf for name, leaf in random_params().items() if name != "encoder"}


def pyramid(dtype="float32", batch=2):
  rng = np.random.default_rng(4)
  return tuple(
    jnp.asarray(rng.normal(size=(batch, 8 // 2**i, -(-10 // 2**i), 16 * 2**i)), dtype) for i in range(4)
  )


def test_a_head_in_bfloat16_is_finite_and_near_float32():
  exact, rounded = (
    jax.jit(lambda params, maps, dtype=dtype: head_alone(make_model(dtype=dtype), params, maps)[0])(
      head_params(), pyramid(dtype)
    )
    for dtype in ("float32", "bfloat16")
  )
  assert rounded.dtype == jnp.float32 and np.isfinite(rounded).all()
  assert 0 < np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()


def test_dropout_drops_whole_channels_of_an_image():
  run = jax.jit(
    lambda params, maps: head_alone(
      make_model(), params, maps, train=True, rngs={"dropout": jax.random.key(1)}
    )[1]
  )
  dropped = run(head_params(), pyramid(batch=64))
  assert [x.shape[-1] for x, _ in dropped] == [32, 16]
  for x, out in dropped:
    x, out = np.asarray(x), np.asarray(out)
    gone = (out == 0).all(axis=(1, 2))
    np.testing.assert_allclose(out, np.where(gone[:, None, None], 0, x / np.float32(0.9)), rtol=1e-6)
    gone = gone[(x != 0).any(axis=(1, 2))]  # ReLU zeroes some channels by itself
    assert abs(gone.mean() - 0.1) < 4 * math.sqrt(0.09 / gone.size)


@pytest.mark.every_python
def test_the_gradient_reaches_every_parameter_and_every_stage():
  rng = np.random.default_rng(5)
  directions = [rng.normal(size=(2, *size, CLASSES)).astype(np.float32) for size in ((8, 10), (2, 3))]

  def loss(params, maps):
    (out, _), _ = head_alone(make_model(), params, maps, train=True, rngs={"dropout": jax.random.key(6)})
    return sum(jnp.sum(x * direction) for x, direction in zip(out, directions, strict=True))

  grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(head_params(), pyramid())
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    assert np.abs(leaf).max() > 1e-3, jax.tree_util.keystr(path)


@functools.cache
def gradient(mesh_sizes, norm="group"):
  """Returns value and gradient of the sum of both logits of a whole model of two stages, with fixed random
  weights and dropout, and the compiled program.
  """
  model = make_model(depths=(1, 1), num_heads=(2, 2), window_sizes=(4, 4)).clone(norm=norm)
  images, flat = images_of(24, 40, batch=4), flax.traverse_util.flatten_dict(random_params(model), sep="/")
  flat = {path: abs(leaf) + 0.5 if path.endswith("variance") else leaf for path, leaf in flat.items()}
  params = flax.traverse_util.unflatten_dict(flat, sep="/")
  mesh = meshes.make(*mesh_sizes, jax.devices()[: math.prod(mesh_sizes)])
  shardings = jax.tree.map(lambda leaf: leaf.sharding, sharding.shard_parameters(boxed(model), mesh, RULES))
  directions = np.random.default_rng(7).normal(size=(2, 4, 6, 10, CLASSES)).astype(np.float32)

  def loss(params, images):
    out, _ = model.apply({"params": params}, images, train=True, rngs={"dropout": jax.random.key(6)})
    return sum(jnp.sum(x * direction) for x, direction in zip(out, directions, strict=True))

  batch = sharding.shard_batch(mesh, RULES, 4)
  with sharding.trace_on(mesh, RULES):
    step = jax.jit(jax.value_and_grad(loss), in_shardings=(shardings, batch), out_shardings=(None, shardings))
    inputs = jax.device_put(params, shardings), jax.device_put(images, batch)
    step = step.lower(*inputs).compile()
  value, grads = jax.device_get(step(*inputs))
  return value, flax.traverse_util.flatten_dict(grads, sep="/"), step.as_text()


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_eight_devices_compute_the_gradient_of_one(norm):
  value, grads, _ = gradient((2, 2, 2), norm)
  theirs_value, theirs, _ = gradient((1, 1, 1), norm)
  np.testing.assert_allclose(value, theirs_value, rtol=1e-5)
  largest = max(np.abs(leaf).max() for leaf in theirs.values())
  for path, leaf in theirs.items():
    fixed = path.endswith(("/mean", "/variance"))
    assert (np.abs(leaf).max() <= 1e-5 * largest) == fixed, path  # not fixed are also those of the backbone
    np.testing.assert_allclose(grads[path], leaf, rtol=0, atol=1e-5 * largest, err_msg=path)


def test_a_kernel_is_gathered_once_for_both_passes_and_only_over_fsdp():
  """The program gathers neither the activations of the whole batch instead nor the part that the model axis
  divides.
  """
  _, grads, program = gradient((2, 2, 2))
  kernels = collections.Counter(
    (*leaf.shape[:3], leaf.shape[3] // 2) for leaf in grads.values() if leaf.ndim == 4
  )
  gathered = collections.Counter()
  for out in re.findall(r"= (.*?) all-gather(?:-start)?\(", program):
    gathered.update(tuple(map(int, dims.split(","))) for dims in re.findall(r"f32\[(\d+,\d+,\d+,\d+)\]", out))
  assert {shape: gathered[shape] for shape in kernels} == kernels
  # neither other parts of a kernel nor the whole batch
  assert not [shape for shape in gathered if shape not in kernels and shape[0] in (3, 4)]


def test_every_large_kernel_is_divided_over_fsdp_and_model():
  mesh = meshes.abstract(2, 8, 4)
  params = sharding.shard_parameters(boxed(published("base", 2, 8)), mesh, RULES)
  params.pop("encoder")
  for path, leaf in flax.traverse_util.flatten_dict(params, sep="/").items():
    parts = math.prod(leaf.shape) // math.prod(leaf.sharding.shard_shape(leaf.shape))
    assert parts == (1 if leaf.ndim == 1 else 8 if "classifier" in path else 32), path
