"""The planner: slices, collectives of a compiled program, bytes and roofline against brute force, and the
command itself.
"""

import functools
import importlib.util
import json
import math
import os
import pathlib
import re
import subprocess
import sys

from absl import logging
import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
import numpy as np
import pytest

from configs import swinv2_3b
from swin_jax.data.feed import pipeline
from swin_jax.mesh import hardware, sharding
from swin_jax.plan import __main__ as plan
from swin_jax.plan import ahead_of_time, footprint, formula, hlo, roofline
from swin_jax.plan import report as fit
from swin_jax.run.program import build
from swin_jax.terminal.errors import BadInput
from tests.support import meshes, tiny
from tests.support.libtpu import needs_libtpu
from tests.support.paths import ROOT

pytestmark = pytest.mark.devices(8)


def at_once(what, function):
  del what
  return function()


# Chips and slices.


def test_slices_and_the_nearest_of_one_that_does_not_exist():
  assert hardware.parse("v5p:4x4x4") == hardware.Slice("v5p", (4, 4, 4))
  assert hardware.parse("V5E:4x2") == hardware.Slice("v5e", (2, 4))  # in any order
  assert [
    hardware.parse(name).num_chips for name in ("v4:2x2x1", "v5p:8x8x16", "tpu7x:2x2x1", "h200:16")
  ] == [
    4,
    1024,
    8,
    16,
  ]
  for name, message in (
    ("v5p:3x3x3", r"TPU v5p has no slice of that shape; the nearest are v5p:2x4x4, v5p:2x2x4, v5p:4x4x4"),
    ("h200:12", r"no slice of that shape; the nearest are h200:16, h200:8"),
    ("v5e:4x4x4", r"the nearest are v5e:8x8, "),
    ("v5q:4x4x4", r"unknown chip 'v5q', did you mean v5[pe]\?"),
    ("tpu:4", r"unknown chip 'tpu'; known chips are v4, v5e|did you mean tpu7x"),
    ("v5p:4x-4", r"no slice of that shape"),
  ):
    with pytest.raises(BadInput, match=message):
      hardware.parse(name)


def test_slices_are_sorted_and_within_the_largest():
  for generation, chip in hardware.CHIPS.items():
    sizes = [place.num_chips for place in hardware.slices(generation)]
    assert sizes == sorted(sizes) and sizes[-1] <= chip.max_chips
    assert sizes[-1] == chip.max_chips or generation in ("v5p", "tpu7x")


def test_what_a_chip_can_receive():
  speed = lambda name: hardware.parse(name).link_speed
  assert speed("v5p:4x4x4") == 600e9  # a torus: all six links
  assert speed("v5p:2x2x1") == 600e9 * 2 / 6  # a square: two links a chip
  assert speed("v5p:2x2x2") == 300e9
  assert speed("v5e:16x16") == 200e9 and speed("v5e:8x16") == 150e9 and speed("v5e:8x8") == 100e9
  assert speed("h200:8") == 450e9 and speed("h200:16") == 400e9  # eight network cards of 50 GB/s a node


def test_the_peak_of_what_jax_calls_a_device():
  assert (
    hardware.peak_flops("NVIDIA H200") == 989e12
    and hardware.peak_flops("TPU v5 lite") == 197e12
    and hardware.peak_flops("TPU v5") == 459e12
  )
  assert hardware.peak_flops("cpu") is None


# Collectives of a compiled program.


@functools.cache
def program_with_collectives():
  """(HLO text, expectation): a loop of five with one collective of each kind inside and an all-reduce
  outside, on 2 × 4 devices.
  """
  mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

  def inside(x):
    def body(x, _):
      x = jnp.tanh(jax.lax.all_gather(x, "b", axis=0, tiled=True))  # [8, 16] → [32, 16]
      x = jnp.sin(jax.lax.psum(x, "a"))  # [32, 16]
      x = jnp.tanh(jax.lax.psum_scatter(x, "b", scatter_dimension=0, tiled=True))  # [32, 16] → [8, 16]
      x = jnp.sin(jax.lax.all_to_all(x, "b", split_axis=0, concat_axis=1, tiled=True)).reshape(8, 16)
      return jnp.tanh(jax.lax.ppermute(x, "a", [(0, 1), (1, 0)])), None

    x, _ = jax.lax.scan(body, x, None, length=5)
    return jax.lax.psum(jnp.sum(x).astype(jnp.bfloat16)[None], ("a", "b"))

  function = jax.jit(jax.shard_map(inside, mesh=mesh, in_specs=P(("a", "b")), out_specs=P(), check_vma=False))
  text = function.lower(jax.ShapeDtypeStruct((64, 16), jnp.float32)).compile().as_text()
  small, large = 8 * 16 * 4, 32 * 16 * 4
  return text, {  # kind → (times, group, payload, received by a chip)
    "all-gather": (5, 4, large, 5 * 3 * small),
    "reduce-scatter": (5, 4, large, 5 * 3 * small),
    "all-to-all": (5, 4, small, 5 * small * 3 // 4),
    "collective-permute": (5, None, small, 5 * small),
    "all-reduce": (5, 2, large, 5 * 2 * large // 2),
  }


@pytest.mark.every_python
@pytest.mark.parametrize("trip_count", ["noted", "in the loop's condition"])
def test_collectives_in_a_loop_count_as_often_as_it_runs(trip_count):
  text, expected = program_with_collectives()
  assert "known_trip_count" in text
  if trip_count != "noted":
    text = text.replace("known_trip_count", "unknown")
  found, unknown = hlo.collectives(text)
  assert unknown == 0
  inside = [c for c in found if c.times == 5]
  outside = [c for c in found if c.times == 1]
  for kind, (times, group, payload, received) in expected.items():
    [collective] = [c for c in inside if c.kind == kind]
    assert (collective.times, collective.payload_bytes, collective.link_bytes) == (
      times,
      payload,
      received,
    ), kind
    assert group in (None, collective.group)
  assert len(inside) == 5
  assert [(c.kind, c.group) for c in outside] == [("all-reduce", 8)]


def test_a_loop_of_unknown_length_is_reported():
  text, _ = program_with_collectives()
  text = re.sub(r"direction=LT", "direction=NE", text.replace("known_trip_count", "unknown"))
  found, unknown = hlo.collectives(text)
  assert unknown == 1 and all(c.times == 1 for c in found)


TPU = """HloModule jit_step, is_scheduled=true, num_partitions=8

%all-reduce-scatter.1 (input: f32[64,32]) -> f32[8,32] {
  %input = f32[64,32]{1,0:T(8,128)} parameter(0)
  %all-reduce.1 = f32[64,32]{1,0:T(8,128)S(1)} all-reduce(%input), channel_id=3, \
replica_groups={{0,1,2,3,4,5,6,7}}, to_apply=%add
  ROOT %dynamic-slice.1 = f32[8,32]{1,0} dynamic-slice(%all-reduce.1, %c, %c), dynamic_slice_sizes={8,32}
}

%piece.1 (p: bf16[4,8]) -> bf16[16,8] {
  %p = bf16[4,8]{1,0} parameter(0)
  ROOT %all-gather.1 = bf16[16,8]{1,0:S(1)} all-gather(%p), channel_id=7, \
replica_groups=[2,4]<=[8], frontend_attributes={chain_id="2"}
}

%piece.2 (p: bf16[4,8]) -> bf16[16,8] {
  %p = bf16[4,8]{1,0} parameter(0)
  ROOT %all-gather.2 = bf16[16,8]{1,0:S(1)} all-gather(%p), channel_id=7, \
replica_groups=[2,4]<=[8], frontend_attributes={chain_id="2"}
}

ENTRY %main (x: f32[64,32], y: bf16[4,8]) -> f32[8,32] {
  %x = f32[64,32]{1,0} parameter(0)
  %y = bf16[4,8]{1,0} parameter(1)
  %start.1 = (bf16[16,8]{1,0}, u32[]{:S(2)}) fusion(%y), kind=kCustom, calls=%piece.1
  %done.1 = bf16[16,8]{1,0} fusion(%y), kind=kCustom, calls=%piece.2
  %ar = (f32[3]{0}, /*index=1*/f32[5]{0}) all-reduce(%a, %b), \
replica_groups=mesh['x'=2,'y'=4] {'y'}, metadata={op_name="jit(step)/norm"}
  %ags = (bf16[4,8]{1,0}, bf16[32,8]{1,0}) all-gather-start(%y), channel_id=11, \
replica_groups={}, dimensions={0}
  %agd = bf16[32,8]{1,0} all-gather-done(%ags)
  ROOT %rs = f32[8,32]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
}
"""


def test_collectives_as_a_tpu_writes_them():
  found, _ = hlo.collectives(TPU)
  assert [(c.kind, c.dtype, c.times, c.group, c.payload_bytes) for c in found] == [
    ("all-gather", "bf16", 1, 4, 16 * 8 * 2),  # in two pieces
    ("all-reduce", "f32", 1, 4, (3 + 5) * 4),
    ("all-gather", "bf16", 1, 8, 32 * 8 * 2),  # started and done
    ("reduce-scatter", "f32", 1, 8, 64 * 32 * 4),
  ]
  assert [c.link_bytes for c in found] == [12 * 8 * 2, 2 * 32 * 3 // 4, 28 * 8 * 2, 56 * 32 * 4]
  assert found[1].source == "jit(step)/norm"


# Bytes.


@pytest.mark.slow
@pytest.mark.parametrize("zero1", [False, True])
def test_bytes_per_chip_are_those_of_the_real_arrays(zero1):
  config = tiny.config(
    "finetune", optim__ema_decay=0.9, optim__accumulation_steps=2, mesh__fsdp=4, mesh__model=2, zero1=zero1
  )
  config.classification.num_classes = 10
  program = build(config, 1, 1)
  with sharding.trace_on(program.mesh, program.rules):
    state = program.init()
  batch = jax.tree.map(lambda x: jax.device_put(np.zeros(x.shape, x.dtype), x.sharding), program.batch)

  def on_first_device(tree):
    return sum(
      s.data.nbytes
      for x in jax.tree.leaves(tree)
      for s in x.addressable_shards
      if s.device == jax.devices()[0]
    )

  found = footprint.state_bytes(program.state, program.gradients, program.batch, 2)
  # gradients are divided as the average
  parameters, average = on_first_device(state.params), on_first_device(state.ema)
  assert found == {
    "parameters": parameters,
    "optimizer": on_first_device((state.opt_state, state.step)),
    "ema": average,
    "gradients": 2 * average,
    "batch": on_first_device(batch),
  }
  assert average < sum(x.nbytes for x in jax.tree.leaves(state.params)) / 3
  assert (parameters > average) == zero1


@pytest.mark.every_python
def test_what_autodiff_keeps_of_an_image():
  # keeps x, for the gradient of w; what exp gives; the sine's cosine; w does not grow with the batch
  def loss(w, x):
    return jnp.sum(jnp.sin(jnp.exp(x @ w)))

  def kept(images):
    return footprint.residual_bytes(
      loss, jax.ShapeDtypeStruct((8, 16), jnp.float32), jax.ShapeDtypeStruct((images, 8), jnp.float32)
    )

  assert footprint.per_image(kept) == 4 * (8 + 16 + 16)


@pytest.mark.slow
def test_remat_keeps_less():
  saved = {}
  for remat in ("none", "dots", "block"):
    config = tiny.config(model__remat=remat, model__depths=(2, 2))
    saved[remat] = formula.activations(config)
  assert saved["none"].saved > saved["dots"].saved > 1.3 * saved["block"].saved
  # Every block's input at least, 64 tokens of 16 channels and 16 of 32, float32, two blocks each.
  assert saved["block"].saved >= 4 * 2 * (64 * 16 + 16 * 32)
  # One whole block is recomputed at a time.
  assert saved["block"].widest == max(saved["block"].blocks) == 2 * saved["none"].widest
  # Of the larger of its maps a block keeps at least what the two products of attention start from and give,
  # and the MLP's two.
  assert saved["block"].blocks[0] >= 4 * 64 * (3 * 16 + 16 + 2 * 64)


@pytest.mark.slow
def test_a_kernel_keeps_no_logits():
  blocks = {}
  for kernel in ("xla", "gpu"):
    blocks[kernel] = formula.activations(
      tiny.config(model__attention_kernel=kernel, model__embed_dim=64, model__num_heads=(2, 4))
    ).blocks
  tokens, window = (64, 16), 16  # of the stages; each token has so many logits a head
  for ours, theirs, n, heads in zip(blocks["gpu"], blocks["xla"], tokens, (2, 4), strict=True):
    assert ours <= theirs - 4 * heads * n * window


# The roofline.


def dot_flops(jaxpr):
  """Of every matrix product and convolution of a jaxpr, two per multiply-add, loops as often as they run."""
  total = 0
  for equation in jaxpr.eqns:
    if equation.primitive.name == "dot_general":
      (contracted, _), _ = equation.params["dimension_numbers"]
      left = equation.invars[0].aval.shape
      total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
    if equation.primitive.name == "conv_general_dilated":
      kernel, outputs = equation.invars[1].aval.shape, equation.params["dimension_numbers"].rhs_spec[0]
      total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[outputs]
    times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
    for value in equation.params.values():
      for inner in value if isinstance(value, (tuple, list)) else (value,):
        inner = getattr(inner, "jaxpr", inner)
        total += times * dot_flops(inner) if hasattr(inner, "eqns") else 0
  return total


@functools.cache
def counted_flops(remat):
  """Of the gradient of the real loss, an image."""
  config = tiny.config(model__remat=remat, model__embed_dim=64, model__num_heads=(2, 4), model__depths=(2, 2))
  program = build(config, 1, 1, jax.devices()[:1])
  batch = {name: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype) for name, x in program.batch.items()}
  gradient = jax.grad(lambda params, batch: program.task.loss(params, batch, jax.random.key(0))[0])
  counted = dot_flops(jax.make_jaxpr(gradient)(program.state.params, batch).jaxpr) / 2
  return counted, roofline.work(program.flops, formula.breakdown(config), 1)


@pytest.mark.every_python
@pytest.mark.slow
@pytest.mark.parametrize(
  "remat", ["none", "block", "dots", "save:qkv,mlp_hidden", "save:attention,attention_output,mlp_output"]
)
def test_flops_against_those_of_the_real_gradient(remat):
  counted, work = counted_flops(remat)
  without, model_only = counted_flops("none")
  assert model_only.recomputed == 0
  # The formula counts norms and the gradient of the image too, and neither the bias MLP nor the decoder.
  assert work.model == pytest.approx(without, rel=0.1)
  assert work.recomputed == pytest.approx(counted - without, rel=0.15, abs=1)


def upernet(**changes):
  """A segmentation run of two stages, 64 px."""
  config = tiny.config(
    task="segmentation",
    data__image_size=(64, 64),
    dense__photometric=False,
    segmentation__channels=32,
    segmentation__num_classes=3,
    model__embed_dim=32,
    **changes,
  )
  return fit.ready(config)


def test_flops_of_upernet_against_those_of_the_real_gradient():
  """Without those of the auxiliary head, which only training has; pooling and resizing are not counted."""
  config = upernet()
  program = build(config, 1, 1, jax.devices()[:1])
  batch = {name: jax.ShapeDtypeStruct((2, *x.shape[1:]), x.dtype) for name, x in program.batch.items()}
  gradient = jax.grad(lambda params, batch: program.task.loss(params, batch, jax.random.key(0))[0])
  counted = dot_flops(jax.make_jaxpr(gradient)(program.state.params, batch).jaxpr) / 2
  auxiliary = 3 * 2 * 16**2 * program.task.model.auxiliary_channels * (9 * 32 + 3)
  work = roofline.work(program.flops, formula.breakdown(config), 1)
  assert work.model == pytest.approx(counted - auxiliary, rel=0.15) and work.recomputed == 0


@pytest.mark.slow
def test_what_the_head_keeps_of_an_image():
  """Of UPerNet at least the results of its convolutions, with and without remat; of a classifier little."""
  results = 4 * 32 * sum(side**2 for side in (1, 2, 3, 6, 8, 16, 16, 16))  # float32, 32 channels
  for remat in ("none", "block"):
    kept = formula.activations(upernet(model__remat=remat))
    assert kept.head > results and kept.saved > results and kept.widest >= kept.head // 2
    assert kept.parameter == 3 * 3 * 32 * 256  # of the auxiliary head
  classifier = tiny.config("finetune", classification__num_classes=10)
  assert formula.activations(classifier).head < 1000


def test_what_the_head_sends_over_the_model_axis():
  """The channels that each chip computes go to the others; the gradient of the inputs is summed."""
  place = hardware.parse("h200:8")
  sent = {model: formula.by_formula(upernet(mesh__model=model), place).sent for model in (1, 2)}
  head = {c.kind: c for c in sent[2] if c.source == "head"}
  assert not [c for c in sent[1] if c.source == "head"] and head.keys() == {"all-gather", "all-reduce"}
  positions = sum(side**2 for side in (1, 2, 3, 6, 8, 16, 16, 16))
  images, auxiliary = 16 // 4, 256 * 16**2
  assert head["all-gather"].payload_bytes == 4 * images * (32 * positions + auxiliary)


def test_collectives_by_formula():
  mesh = meshes.make(2, 4, 1)
  place = lambda shape, *spec: jax.ShapeDtypeStruct(
    shape, jnp.float32, sharding=NamedSharding(mesh, P(*spec))
  )
  params = {"kernel": place((16, 8), "fsdp", None), "bias": place((8,), None)}
  config = tiny.config(model__dtype="bfloat16", mesh__data=2, mesh__fsdp=4)
  batch = sharding.shard_batch(mesh, config.sharding_rules, 16)
  found = roofline.collectives(
    params, batch, jnp.bfloat16, formula.breakdown(config), (0, 0), images=0, parts=3
  )
  received = {(c.kind, c.dtype, c.source): c.link_bytes for c in found}
  own = 4 * 8 * 2  # bytes of a chip's part of the kernel, bfloat16
  assert received == {
    ("all-gather", "bf16", "kernel"): 3 * 2 * 3 * own,  # in both passes, the parts of three others
    ("reduce-scatter", "bf16", "kernel"): 3 * 3 * own,
    ("all-reduce", "bf16", "kernel"): 3 * own,  # with the other half of the mesh: 2 · 1/2
    ("all-reduce", "f32", "bias"): 3 * 2 * 7 * 8 * 4 // 8,
  }


def test_step_time():
  place = hardware.parse("v5p:4x4x4")
  sent = [hlo.Collective("all-gather", "bf16", 2, 64, 64 * 10**9, "")]
  time = roofline.step_time(place, roofline.Work(3 * 459 * 10**14, 459 * 10**14), 2765 * 10**9, sent)
  assert time == pytest.approx((4 * 459e14 / (64 * 459e12), 1.0, 2 * 63e9 / 600e9)) and time.bound == max(
    time
  )


# The verdict and the advice.


@pytest.mark.slow
def test_a_run_that_fits_and_one_that_does_not():
  config = fit.ready(swinv2_3b.get_config(), 64)
  place = hardware.parse("h100:8")
  report = fit.check(config, place, analytic=False, patiently=at_once)
  assert (
    report["method"] == "analytic"
    and report["fits"]
    and report["chips"] == 8
    and report["images_per_chip"] == 8
  )
  sizes = report["bytes_per_chip"]
  assert (
    sizes["total"]
    == sum(size for kind, size in sizes.items() if kind != "total")
    <= report["memory_per_chip"]
  )
  assert sizes["parameters"] == pytest.approx(4 * 2.998e9 / 8, rel=0.02)
  assert sizes["optimizer"] == pytest.approx(2 * sizes["parameters"], rel=0.01)
  assert report["flops_per_step"] == pytest.approx(3 * report["recomputed_flops_per_step"])

  config = fit.ready(swinv2_3b.get_config(), 9216)
  report = fit.check(config, place, analytic=False, patiently=at_once)
  assert not report["fits"]
  advice = fit.advise(config, place, report)
  assert advice["remat"] is None and advice["smallest_slice"] is None  # there are eight devices here
  for key, value in (
    ("accumulation_steps", advice["accumulation_steps"]),
    ("batch_size", advice["batch_size"]),
  ):
    changed = swinv2_3b.get_config()
    changed.data.batch_size = 9216
    (changed.optim if key == "accumulation_steps" else changed.data)[key] = value
    changed.data.eval_batch_size = 8
    assert fit.check(fit.ready(changed), place, analytic=True, patiently=at_once)["fits"], key
    (changed.optim if key == "accumulation_steps" else changed.data)[key] = (
      value // 2 if key == "accumulation_steps" else 2 * value
    )
    assert not fit.check(fit.ready(changed), place, analytic=True, patiently=at_once)["fits"], key


@pytest.mark.slow
def test_remat_and_the_smallest_slice_are_advised():
  place, config = hardware.parse("h200:2"), tiny.config(data__eval_batch_size=64, model__depths=(12, 2))
  kept = formula.activations(config)
  # images that a chip holds if nothing is recomputed
  room = place.chip.memory_bytes / (kept.saved + kept.widest)
  config.data.batch_size = 64 * round(1.5 * 2 * room / 64)  # half as many again
  report = fit.check(config, place, analytic=True, patiently=at_once)
  assert not report["fits"]
  advice = fit.advise(config, place, report)
  assert advice["accumulation_steps"] == 2 and advice["smallest_slice"] == "h200:4"
  assert advice["batch_size"] == pytest.approx(2 * room, rel=0.01)
  assert fit.smallest(config, "h200", analytic=True, patiently=at_once)["topology"] == "h200:4"
  fits = {}
  for remat in ("dots", "block"):
    config.model.remat = remat
    fits[remat] = fit.check(config, place, analytic=True, patiently=at_once)["fits"]
  assert advice["remat"] == next((remat for remat in fits if fits[remat]), None) == "block"


def test_the_classes_are_the_datas():
  with pytest.raises(BadInput, match=r"--config\.classification\.num_classes=1000"):
    fit.ready(tiny.config("finetune"))


def test_what_a_refusal_says():
  early = (
    "RESOURCE_EXHAUSTED: the total memory required for HLO temporaries (19.5G) exceeds available HBM"
    " (15.75G)."
  )
  late = (
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used"
    " 20.00G of 15.75G hbm."
  )
  assert ahead_of_time.refused_bytes(early, 2**30) == 19.5 * 2**30
  assert ahead_of_time.refused_bytes(late, 2**30) == 19 * 2**30
  assert ahead_of_time.refused_bytes("INTERNAL: Mosaic failed", 0) is None


def test_without_the_compiler_it_says_what_to_install(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(BadInput, match=r"needs libtpu.*pip install -e '\.\[plan\]'"):
    ahead_of_time.devices_of(hardware.parse("v5e:2x2"))


# The command.


def command(*arguments):
  """Runs the command in a process of its own."""
  names = ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR")
  environment = {name: value for name, value in os.environ.items() if name not in names}
  environment["JAX_PLATFORMS"] = "cuda"  # as on a machine with GPUs: the planner wants none
  words = [sys.executable, "-m", "swin_jax.plan", *arguments]
  return subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)


@pytest.fixture
def restored_verbosity():
  """Restores the log level of this process, which the command lowers."""
  verbosity = logging.get_verbosity()
  yield
  logging.set_verbosity(verbosity)


SMALL = (  # `tests/support/tiny.py` as flags, two blocks a stage
  "--config=configs/quickstart.py:pretrain",
  "--config.model.embed_dim=16",
  "--config.model.depths=(2,2)",
  "--config.model.unroll=False",
  "--config.model.dtype=bfloat16",
)


@pytest.mark.parametrize(
  "arguments, message",
  [
    (("--config=configs/swinv2_3b.py", "--topology=v5p:3x3x3"), "nearest are v5p:2x4x4"),
    (("--config=configs/swinv2_3b.py",), "--topology is missing; for example --topology=v5p:4x4x4"),
    (
      ("--config=configs/swinv2_3b.py", "--topology=h200:8", "--config.optim.lrr=1"),
      "there is no config key config.optim.lrr",
    ),
    (
      ("--config=configs/swinv2_3b.py", "--topology=h200:8", "--batch=100"),
      "data.batch_size / optim.accumulation_steps (100,): dimension 0 does not divide into 8",
    ),
    (
      ("--config=configs/swinv2_3b.py", "--topology=h200:8", "--config.mesh.model=3"),
      "does not fit the number of devices, 8",
    ),
    (
      ("--config=configs/quickstart.py:pretrain", "--topology=h200", "--config.mesh.model=3"),
      "does not fit the number of devices",
    ),
    (
      ("--config=configs/own_images.py:finetune", "--topology=h200:8"),
      "--config.classification.num_classes=1000",
    ),
  ],
)
def test_bad_input_is_one_line(arguments, message, capsys, restored_verbosity):
  assert plan.main(["plan", *arguments]) == 2
  line = capsys.readouterr().err
  assert message in line and line.startswith("swin_jax: ") and line.count("\n") == 1


@pytest.mark.slow
def test_the_command_writes_what_its_help_explains(tmp_path):
  out = tmp_path / "plan.json"
  done = command(*SMALL, "--topology=h200:16", f"--json={out}", "--batch=4096")
  assert done.returncode == 0, done.stderr
  assert "fits [analytic" in done.stdout and "images/s at an assumed 50%" in done.stdout
  report = json.loads(out.read_text())
  keys = {
    "fits",
    "chips",
    "bytes_per_chip",
    "memory_per_chip",
    "flops_per_step",
    "collectives",
    "step_seconds",
  }
  assert keys <= report.keys() and report["chips"] == 16 and report["batch_size"] == 4096
  explained = command("--help").stdout
  for key in (*report, *report["bytes_per_chip"], *report["advice"]):
    assert re.search(rf"\b{key}\b", explained), f"--help does not explain {key}"


@functools.cache
def compiled_for(topology, *arguments):
  out = (
    pathlib.Path(os.environ["JAX_COMPILATION_CACHE_DIR"]) / f"plan_{abs(hash((topology, arguments)))}.json"
  )
  done = command(*SMALL, f"--topology={topology}", f"--json={out}", *arguments)
  assert done.returncode == 0, done.stderr
  return json.loads(out.read_text()), done.stdout


@needs_libtpu
@pytest.mark.parametrize(
  "topology, mesh", [("v5p:4x4x4", (1, 64, 1)), ("v5p:4x4x4", (4, 4, 4)), ("v6e:8x8", (1, 8, 8))]
)
def test_a_host_of_a_slice_holds_rows_that_follow_one_another(topology, mesh):
  """jax's own order does not see to it on the first two: a host has 2 × 2 chips."""
  plan.set_environment()
  devices = ahead_of_time.devices_of(hardware.parse(topology))
  made = meshes.make(*mesh, devices=devices)
  assert made.devices.shape == mesh and set(made.devices.flat) == set(devices)
  rows = NamedSharding(made, P(("data", "fsdp"))).devices_indices_map((256,))
  held = [(device.process_index, range(*index[0].indices(256))) for device, index in rows.items()]
  parts = [
    pipeline.part_of(process, held, topology)
    for process in sorted({device.process_index for device in devices})
  ]
  assert sorted({part.index for part in parts}) == list(range(parts[0].count))


@pytest.mark.slow
@needs_libtpu
def test_a_mesh_that_cannot_be_laid_over_the_slice():
  done = command(*SMALL, "--topology=v5p:4x4x4", "--config.mesh.data=8", "--batch=128")
  assert done.returncode == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.stderr
  assert "config.mesh {'data': 8, 'fsdp': 8, 'model': 1} cannot be laid over the slice" in done.stderr


@needs_libtpu
@pytest.mark.ci
@pytest.mark.slow
def test_a_tiny_run_compiled_for_a_slice():
  report, said = compiled_for("v5e:2x2")
  assert (
    report["method"] == "compiled"
    and report["fits"]
    and report["chips"] == 4
    and report["loops_of_unknown_length"] == 0
  )
  sizes, formula = report["bytes_per_chip"], report["analytic_bytes_per_chip"]
  assert sizes["total"] < 1e8 and all(
    sizes[kind] == formula[kind] for kind in ("parameters", "optimizer", "ema", "batch", "gradients")
  )
  assert "compiling the train step ..." in said and "fits [compiled]" in said
  # What is divided over the chips travels as often as by formula; how the compiler sums gradients is its own
  # affair.
  gathered = sum(
    row["payload_bytes"] for kind, row in report["collectives"].items() if kind.startswith("all-gather")
  )
  expected = sum(
    row["payload_bytes"]
    for kind, row in report["analytic_collectives"].items()
    if kind.startswith("all-gather")
  )
  assert gathered == pytest.approx(expected, rel=0.5)


@needs_libtpu
@pytest.mark.ci
@pytest.mark.slow
def test_weights_are_gathered_in_the_compute_dtype():
  report, _ = compiled_for("v5e:2x2")
  gathered = {
    kind: row["payload_bytes"] for kind, row in report["collectives"].items() if kind.startswith("all-gather")
  }
  assert gathered["all-gather bf16"] > 0
  decoder = 32 * 8 * 8 * 4  # predicts pixels in float32
  assert gathered.get("all-gather f32", 0) <= decoder < 0.1 * gathered["all-gather bf16"], gathered


@needs_libtpu
@pytest.mark.ci
@pytest.mark.slow
def test_a_run_that_does_not_fit_a_slice_is_reported_as_such():
  report, said = compiled_for("v5e:2x2", f"--batch={2**19}")
  assert not report["fits"] and report["bytes_per_chip"]["total"] > report["memory_per_chip"]
  assert "DOES NOT FIT [compiled]" in said and "--batch=" in said
  assert 0 < report["advice"]["batch_size"] < 2**19 and report["advice"]["smallest_slice"].startswith("v5e:")
