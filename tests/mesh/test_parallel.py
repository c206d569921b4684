"""One train step on eight devices: it computes the numbers of one device, on any mesh and with any
memory-saving option; and which arrays are communicated.
"""

import collections
import dataclasses
import functools
import math
import pathlib
import re
import types

import jax
import numpy as np
import pytest

from swin_jax.data.read import targets
from swin_jax.kernels import gpu, tpu
from swin_jax.mesh import sharding
from swin_jax.run import summary, train
from swin_jax.run.program import build
from swin_jax.run.schedule import Schedule
from swin_jax.run.state import TrainState
from swin_jax.terminal.errors import BadInput
from tests.support import meshes, slow_block, tiny

pytestmark = pytest.mark.devices(8)

TEN_STEPS = Schedule(5, 10, {})
TASKS = {"tiny": "pretrain", "giant": "finetune", "dense": "pretrain", "values": "pretrain"}


def config(model, mesh_sizes=(1, 1, 1), **changes):
  """Returns a config: SimMIM on two stages with drop path, UPerNet on the same stages, or a classifier on two
  groups of blocks with an extra norm, as in V2-G.

  Heads have eight dimensions: with two, a cosine may involve a vector near zero, and its last bit would
  decide the result.
  """
  c = tiny.config(
    TASKS[model], model__embed_dim=64, model__num_heads=(8, 8), model__mlp_ratio=2.0, optim__ema_decay=0.5
  )
  if model == "tiny":
    c.model.update(depths=(2, 1), drop_path_rate=0.5)
  elif model == "dense":
    c.task = "segmentation"
    c.model.update(depths=(1, 1), drop_path_rate=0.5)
    c.segmentation.update(num_classes=10, channels=64)
    c.dense.photometric = False
  elif model == "values":
    c.task = "pixel_regression"
    c.model.update(depths=(1, 1), drop_path_rate=0.0)
    c.pixel_regression.update(channels=64, value_mean=7.0, value_std=3.0)
    c.dense.photometric = False
  else:
    c.model.update(depths=(4,), num_heads=(8,), window_sizes=(4,), drop_path_rate=0.0, extra_norm_every=2)
    c.classification.num_classes = 10
  # With ε = 1, Adam's first update is roughly the gradient; with 1e-8 it would be the sign of the gradient's
  # rounding errors. The rate is 1 for 16 images.
  c.optim.update(lr=32.0, warmup_epochs=0.0, min_lr=0.0, eps=1.0)
  c.mesh.update(dict(zip(meshes.AXES, mesh_sizes, strict=True)))
  for key, value in changes.items():
    group, _, name = key.rpartition("__")
    (c[group] if group else c)[name] = value
  return c


@pytest.fixture(autouse=True, scope="module")
def interpreted():
  """Runs the kernels of TPUs and GPUs in interpreted mode on a CPU."""
  with pytest.MonkeyPatch.context() as patch:
    for kernel in (tpu, gpu):
      patch.setattr(kernel, "window_attention", functools.partial(kernel.window_attention, interpret=True))
    yield


@functools.cache
def program(model, mesh_sizes, **changes):
  """Returns the program of a config on its mesh, and its train step lowered."""
  p = build(config(model, mesh_sizes, **changes), 10, 10, jax.devices()[: math.prod(mesh_sizes)])
  with sharding.trace_on(p.mesh, p.rules):
    return p, p.step.lower(p.state, p.batch)


@functools.cache
def compiled(model, mesh_sizes, **changes):
  p, step = program(model, mesh_sizes, **changes)
  return p, step.compile()


@functools.cache
def first_state(model):
  """Returns a state on the host in which every parameter has an effect: a fresh V2 block has norm scales of
  zero, which hide everything else in it.
  """
  abstract = program(model, (1, 1, 1))[0].state
  zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract)
  params = slow_block.random_params(abstract.params, 0)
  return TrainState(zeros.step, params, zeros.opt_state, params)


def batch_of(p):
  rng = np.random.default_rng(0)
  batch = {"image": rng.integers(0, 256, p.batch["image"].shape, np.uint8)}
  if "label" in p.batch:
    batch["label"] = rng.integers(0, 10, p.batch["label"].shape, np.int32)
  for name in {"label_map", "value_map"} & p.batch.keys():
    known = rng.random(p.batch[name].shape) >= 0.1
    unknown = targets.unknown(p.batch[name].dtype)
    batch[name] = np.where(known, rng.integers(0, 10, known.shape), unknown).astype(p.batch[name].dtype)
  if "mask" in p.batch:
    batch["mask"] = rng.permuted(np.broadcast_to(np.arange(64) < 38, (16, 64)), axis=1).reshape(16, 8, 8)
  return jax.device_put(batch, p.batch_sharding)


@functools.cache
def one_step(model, mesh_sizes, **changes):
  p, step = compiled(model, mesh_sizes, **changes)
  state = jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), first_state(model), p.state)
  state, sums = step(state, batch_of(p))
  assert jax.tree.all(
    jax.tree.map(
      lambda leaf, like: leaf.sharding == like.sharding and leaf.dtype == like.dtype, state, p.state
    )
  )
  return jax.device_get((state, sums))


def by_path(tree):
  return {
    jax.tree_util.keystr(path, simple=True, separator="/"): leaf
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


SAVE = {"model__remat": "save:attention,mlp_hidden"}


@pytest.mark.slow
@pytest.mark.parametrize(
  "model, mesh_sizes, changes",
  [
    ("tiny", (1, 8, 1), {"model__remat": "dots", "zero1": True}),
    ("tiny", (2, 2, 2), {"model__attention_chunks": (4, 2)}),  # by windows; by heads in a single window
    ("tiny", (1, 1, 8), {"model__remat": "block"}),
    ("tiny", (2, 2, 2), {"model__attention_kernel": "tpu", "model__remat": "save:qkv,mlp_hidden"}),
    ("tiny", (2, 2, 2), {"model__attention_kernel": "gpu", "model__remat": "save:qkv,mlp_hidden"}),
    ("dense", (2, 2, 2), {}),
    ("giant", (8, 1, 1), SAVE),
    ("giant", (1, 8, 1), {"optim__accumulation_steps": 2}),
    ("giant", (2, 2, 2), {}),
    ("giant", (1, 1, 8), {"model__attention_chunks": (2,)} | SAVE),
  ],
  ids=str,
)
def test_eight_devices_compute_what_one_computes(model, mesh_sizes, changes):
  state, sums = one_step(model, mesh_sizes, **changes)
  theirs_state, theirs_sums = one_step(model, (1, 1, 1))
  for name in ("loss", "grad_norm"):
    ours, theirs = (values[name][0] / values[name][1] for values in (sums, theirs_sums))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
  gradient, theirs = (by_path(state.opt_state[1].mu) for state in (state, theirs_state))
  largest = max(np.abs(leaf).max() for leaf in theirs.values())
  for path, leaf in theirs.items():
    assert np.abs(leaf).max() > 1e-5 * largest, path  # every parameter contributes
    np.testing.assert_allclose(gradient[path], leaf, rtol=0, atol=1e-5 * largest, err_msg=path)
  before = by_path(first_state(model).params)
  for ours, theirs in (
    (by_path(state.params), by_path(theirs_state.params)),
    (by_path(state.ema), by_path(theirs_state.ema)),
  ):
    largest = max(np.abs(leaf - before[path]).max() for path, leaf in theirs.items())
    for path, leaf in theirs.items():  # float32 itself rounds a parameter of size 2 by 1e-7
      np.testing.assert_allclose(ours[path], leaf, rtol=1e-7, atol=1e-5 * largest, err_msg=path)


def evaluated(model):
  """Returns a batch whose last three examples are padding, and its sums on one device and on eight."""
  sums = []
  for mesh_sizes in ((1, 1, 1), (2, 2, 2)):
    p, _ = program(model, mesh_sizes)
    batch = batch_of(p) | {"weight": jax.device_put(np.float32([1] * 13 + [0] * 3), p.eval_batch_sharding)}
    params = jax.tree.map(
      lambda leaf, like: jax.device_put(leaf, like.sharding), first_state(model).params, p.state.params
    )
    with sharding.trace_on(p.mesh, p.rules):
      sums.append(jax.device_get(p.eval_step.lower(params, batch).compile()(params, batch).sums))
  return batch, *sums


@pytest.mark.slow
def test_scores_of_pixels_on_eight_devices():
  """Every pixel is counted once; padding never counts."""
  batch, one, eight = evaluated("dense")
  known = np.asarray(batch["label_map"])[:13] != 255
  assert one["pixel_accuracy"][1] == eight["pixel_accuracy"][1] == known.sum()
  np.testing.assert_allclose(eight["loss"][0] / eight["loss"][1], one["loss"][0] / one["loss"][1], rtol=1e-5)
  # A pixel whose two best classes are equal up to the last bit may change class.
  for ours, theirs in zip(eight["iou"], one["iou"], strict=True):
    np.testing.assert_allclose(ours, theirs, atol=2)


@pytest.mark.slow
def test_errors_of_numbers_on_eight_devices():
  """The same as for the scores of classes."""
  batch, one, eight = evaluated("values")
  known = ~np.isnan(np.asarray(batch["value_map"])[:13])
  assert 0 < known.sum() < known.size and one["loss"][1] == eight["loss"][1] == known.sum()
  for name, (value, count) in one.items():
    np.testing.assert_allclose(eight[name][0] / eight[name][1], value / count, rtol=1e-5, err_msg=name)


@pytest.mark.slow
def test_fresh_parameters_are_the_same_on_any_mesh():
  ours, theirs = (jax.device_get(program("tiny", mesh)[0].init().params) for mesh in ((2, 2, 2), (1, 1, 1)))
  # jax 0.12 rounds the last bit depending on the shape of the local part.
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), ours, theirs)


# What is communicated and what stays local.

SHAPE = re.compile(r"\b(f32|bf16|pred|[su]\d+)\[([\d,]*)\]")


def shapes(text):
  """Returns (dtype, shape) of every array mentioned in HLO text."""
  return [(dtype, tuple(map(int, dims.split(","))) if dims else ()) for dtype, dims in SHAPE.findall(text)]


def collectives(hlo):
  """Counts the outputs of every collective operation, with combined collectives split up: {(operation, dtype,
  shape): n}.
  """
  counts = collections.Counter()
  for out, name in re.findall(
    r"= (.*?) (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?:-start)?\(", hlo
  ):
    counts.update((name, *shape) for shape in shapes(out))
  return counts


def stacked_kernels(params):
  """Returns the shapes of the large arrays of a scanned stage."""
  return [
    leaf.shape
    for path, leaf in by_path(params).items()
    if re.search("(qkv|attn/proj|mlp/fc[12])/kernel", path) and leaf.ndim == 3
  ]


@pytest.mark.parametrize("changes", [{}, {"optim__accumulation_steps": 2}], ids=["plain", "accumulation"])
def test_no_gradient_is_ever_whole(changes):
  """Nothing in the program has the full shape of a stacked kernel: not the gradient, not the sum over parts,
  and no copy of the parameter.
  """
  mesh_sizes = (1, 8, 1) if changes else (2, 2, 2)
  p, step = compiled("giant", mesh_sizes, **changes)
  kernels = set(stacked_kernels(p.state.params))
  parts = {leaf.sharding.shard_shape(leaf.shape) for leaf in jax.tree.leaves(p.state.params)}
  array_shapes = {shape for _, shape in shapes(step.as_text())}
  assert len(kernels) == 4 and array_shapes & parts
  assert not array_shapes & kernels


@pytest.mark.slow
def test_zero1_accumulates_gradients_in_parts():
  p, step = compiled("tiny", (1, 8, 1), optim__accumulation_steps=2, zero1=True)
  loops = re.findall(r"= (\(.*?\)) while\(", step.as_text().partition("\nENTRY ")[2])
  carried = collections.Counter(shapes(max(loops, key=len)))
  number = collections.Counter(leaf.shape for leaf in jax.tree.leaves(p.state.params))
  part = {
    leaf.shape: like.sharding.shard_shape(leaf.shape)
    for leaf, like in zip(*map(jax.tree.leaves, (p.state.params, p.state.ema)), strict=True)
  }
  for kernel in set(stacked_kernels(p.state.params)):
    assert carried["f32", part[kernel]] == number[kernel], "the running sum"
    assert carried["f32", kernel] == number[kernel], "the parameter alone is whole"


@pytest.mark.parametrize("zero1", [False, True])
def test_the_program_says_where_each_gradient_lives(zero1):
  """This is not left to the compiler: the traced step constrains every gradient, in each turn of the
  accumulation and in its running sum.
  """
  p, step = program("giant", (1, 8, 1), optim__accumulation_steps=2, **({"zero1": True} if zero1 else {}))
  text = step.as_text()
  constraints = collections.Counter()
  for dims, shape in re.findall(
    r"sdy\.sharding_constraint %\S+ <@\w+, \[(.*?)\]> : tensor<([\dx]+)xf32>", text
  ):
    constraints[tuple(map(int, shape.split("x"))), "fsdp" in dims] += 1
  number = collections.Counter(leaf.shape for leaf in jax.tree.leaves(p.state.params))
  for kernel in set(stacked_kernels(p.state.params)):
    assert constraints[kernel, True] == 3 * number[kernel]  # the zeros, a part's gradient, and their sum


def partitioned(step, folder):
  """Returns the HLO that each device gets, before the CPU compiler widens bfloat16."""
  jax.config.update("jax_enable_compilation_cache", False)  # a cached program is not dumped
  try:
    step.compile(compiler_options={"xla_dump_to": str(folder), "xla_dump_hlo_pass_re": "spmd-partitioning"})
  finally:
    jax.config.update("jax_enable_compilation_cache", True)
  return max(pathlib.Path(folder).glob("*after_spmd-partitioning*.txt")).read_text()


@pytest.mark.slow
def test_kernels_travel_as_bfloat16(tmp_path):
  p, step = program("tiny", (1, 8, 1), model__dtype="bfloat16")
  kernels = {
    path: leaf
    for path, leaf in by_path(p.state.params).items()
    if path.endswith("kernel") and "fsdp" in leaf.sharding.spec
  }
  in_encoder = {leaf.shape[-2:] for path, leaf in kernels.items() if path.startswith("encoder/")}
  assert {leaf.dtype for leaf in kernels.values()} == {np.dtype("float32")} and len(in_encoder) > 6
  # In the traced program, the cast kernel is divided in the same way as the parameter.
  said = re.findall(
    r"sdy\.sharding_constraint %\S+ <@\w+, \[[^>]*\"fsdp\"[^>]*\]> : tensor<(\d+)x(\d+)xbf16>", step.as_text()
  )
  assert {tuple(map(int, shape)) for shape in said} >= in_encoder
  # The compiler then gathers it as bfloat16. The decoder computes in float32.
  gathered = {
    (dtype, shape) for name, dtype, shape in collectives(partitioned(step, tmp_path)) if name == "all-gather"
  }
  decoder = p.state.params["decoder"]["kernel"].shape
  assert gathered == {("bf16", shape) for shape in in_encoder} | {("f32", decoder)}


@pytest.mark.slow
def test_attention_in_chunks_talks_to_no_other_device():
  plain, chunked = (
    collectives(compiled("tiny", (2, 2, 2), **c)[1].as_text())
    for c in ({}, {"model__attention_chunks": (4, 2)})
  )
  assert plain and chunked == plain


def test_a_kernel_divided_by_its_outputs_stays_where_it_is():
  """On a model axis activations are communicated, not the kernels of merging and decoder."""
  p, step = compiled("tiny", (1, 1, 8), model__remat="block")
  gathered = {shape for name, _, shape in collectives(step.as_text()) if name == "all-gather"}
  assert {len(shape) for shape in gathered} == {4}


def test_the_run_says_what_each_device_holds(tmp_path):
  p, _ = program("giant", (1, 8, 1))
  data = types.SimpleNamespace(train_source=range(1000), eval_source=range(2))
  *_, last = summary.describe(config("giant", (1, 8, 1)), data, p, TEN_STEPS, str(tmp_path))
  held = [sharding.bytes_per_device(tree) / 1e9 for tree in (p.state.params, p.state.opt_state, p.state.ema)]
  assert (
    "each device holds parameters {:.3g} GB, optimizer state {:.3g} GB, average {:.3g} GB".format(*held)
    in last
  )
  assert "whole" not in last  # no whole array is above 4 MB
  rows = (tmp_path / "parameters.txt").read_text().splitlines()
  assert rows[0] == "parameter | shape | partition | bytes per device | weight decay"
  kernel = f"(2, 64, 192) | {jax.P(None, 'fsdp', None)} | {2 * 64 * 192 * 4 // 8} | decays"
  assert f"encoder/stage0/blocks/block0/attn/qkv/kernel | {kernel}" in rows


def test_the_run_names_what_is_large_and_whole(tmp_path):
  p, _ = program("giant", (8, 1, 1), **SAVE)
  big = jax.ShapeDtypeStruct(
    (1000, 2000), np.float32, sharding=jax.sharding.NamedSharding(p.mesh, jax.sharding.PartitionSpec())
  )
  state = dataclasses.replace(p.state, params={"encoder": {"kernel": big}}, opt_state=None, ema=None)
  data = types.SimpleNamespace(train_source=range(1000), eval_source=range(2))
  *_, last = summary.describe(
    config("giant", (8, 1, 1)), data, p._replace(state=state), TEN_STEPS, str(tmp_path)
  )
  assert last == (
    "each device holds parameters 0.008 GB; the largest fully replicated array is params/encoder/kernel, 8 MB"
  )


@pytest.mark.parametrize(
  "change, message",
  [
    (dict(data__batch_size=17), "data.batch_size .*does not divide into 8"),
    (dict(mesh__data=3), "does not fit the number of devices, 8"),
  ],
)
def test_what_the_devices_do_not_divide_is_refused(tmp_path, change, message):
  with pytest.raises(BadInput, match=message):
    train.train(tiny.config(**change), str(tmp_path))
