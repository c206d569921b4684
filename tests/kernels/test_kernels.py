"""Every kernel of window attention equals the definition in float64, in value and gradients; whole models
with a kernel equal those without.
"""

import math
import re
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import swin_jax
from swin_jax.kernels import formula, gpu, tpu
from swin_jax.kernels import window_attention as kernels
from swin_jax.mesh import hardware, sharding
from swin_jax.models import windows
from swin_jax.plan import __main__ as plan
from swin_jax.plan import ahead_of_time, report
from swin_jax.run import checks
from swin_jax.run.program import build
from swin_jax.terminal.errors import BadInput
from tests.support import blocks, tiny
from tests.support.libtpu import needs_libtpu


def definition(qkv, bias, logit_scale, regions, out_grad):
  """Computes attention and its gradients (qkv, bias, logit scale) in float64 numpy; takes the same arguments
  as `window_attention`.
  """
  qkv, bias, g = (np.asarray(x, np.float64) for x in (qkv, bias, out_grad))
  q, k, v = (qkv[..., i, :].transpose(0, 1, 3, 2, 4) for i in range(3))  # [B, M, K, N, D]
  g = g.transpose(0, 1, 3, 2, 4)
  cosine = logit_scale is not None
  if cosine:
    logit_scale = np.asarray(logit_scale, np.float64)
    temperature = np.exp(np.minimum(logit_scale, np.log(100.0)))[:, None, None]
    lengths = [np.sqrt((x**2).sum(-1, keepdims=True)) for x in (q, k)]
    unit_q, unit_k = q / lengths[0], k / lengths[1]
  else:
    temperature, unit_q, unit_k = q.shape[-1] ** -0.5, q, k
  cosines = unit_q @ unit_k.swapaxes(-1, -2)
  logits = temperature * cosines + bias
  if regions is not None:
    apart = regions[:, None, :, None] != regions[:, None, None, :]
    padding = (regions < 0)[:, None, :, None] != (regions < 0)[:, None, None, :]
    logits = logits + np.where(padding, -1e9, np.where(apart, -100.0, 0.0))
  weights = np.exp(logits - logits.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  out = weights @ v
  weights_grad = g @ v.swapaxes(-1, -2)
  logits_grad = weights * (weights_grad - (weights * weights_grad).sum(-1, keepdims=True))
  q_grad, k_grad = temperature * logits_grad @ unit_k, temperature * logits_grad.swapaxes(-1, -2) @ unit_q
  scale_grad = None
  if cosine:
    q_grad, k_grad = (
      (x_grad - unit * (unit * x_grad).sum(-1, keepdims=True)) / length
      for x_grad, unit, length in ((q_grad, unit_q, lengths[0]), (k_grad, unit_k, lengths[1]))
    )
    scale_grad = np.where(
      logit_scale > np.log(100.0), 0.0, temperature[:, 0, 0] * (logits_grad * cosines).sum((0, 1, 3, 4))
    )
  grads = np.stack([q_grad, k_grad, weights.swapaxes(-1, -2) @ g], -2)  # [B, M, K, N, 3, D]
  return out.transpose(0, 1, 3, 2, 4), (
    grads.transpose(0, 1, 3, 2, 4, 5),
    logits_grad.sum((0, 1)),
    scale_grad,
  )


def on_tpu(qkv, bias, logit_scale, regions):
  """Runs the TPU's kernel in interpreted mode."""
  cosine, heads = logit_scale is not None, qkv.shape[3]
  scale = formula.query_scale(logit_scale) if cosine else jnp.full(heads, qkv.shape[-1] ** -0.5, jnp.float32)
  return tpu.window_attention(qkv, bias, scale, regions, cosine=cosine, interpret=True)


def on_gpu(qkv, bias, logit_scale, regions):
  """Runs the GPU's kernels in interpreted mode."""
  cosine, heads = logit_scale is not None, qkv.shape[3]
  scale = formula.query_scale(logit_scale) if cosine else jnp.full(heads, qkv.shape[-1] ** -0.5, jnp.float32)
  return gpu.window_attention(qkv, bias, scale, regions, cosine=cosine, interpret=True)


def off(ours, exact):
  return np.linalg.norm(np.asarray(ours, np.float64) - exact) / np.linalg.norm(exact)


# (images, map, window, shift, heads): every window size in use; maps that shift, wrap and pad; all kinds of
# head groups.
SHAPES = [
  (3, (12, 12), (6, 6), (3, 3), 3),
  (1, (13, 21), (7, 7), (3, 3), 12),
  (2, (16, 8), (8, 8), (4, 0), 6),
  (3, (12, 12), (12, 12), (0, 0), 16),
  (1, (28, 14), (14, 14), (7, 0), 4),
  (1, (8, 5), (4, 3), (2, 1), 11),
  (1, (16, 16), (16, 16), (0, 0), 8),
  (1, (20, 20), (20, 20), (0, 0), 4),
  (1, (24, 24), (24, 24), (0, 0), 4),
]
LARGE = [(1, (32, 32), (32, 32), (0, 0), 4), (1, (40, 40), (40, 40), (0, 0), 4)]
CASES = [(shape, dtype, True) for shape in SHAPES for dtype in ("float32", "bfloat16")]
CASES += [(shape, "float32", False) for shape in SHAPES[:3]] + [
  (LARGE[0], "float32", True),
  (LARGE[1], "bfloat16", True),
]


# These cover the code paths of the GPU's kernels: one tile or several, with and without padding and masks.
# They are few because the interpreter is slow.
GPU_CASES = [
  ((2, (12, 12), (12, 12), (0, 0), 2), "bfloat16", True),
  ((2, (14, 14), (14, 14), (0, 0), 1), "float32", False),
]
GPU_CASES += [
  case
  for case in CASES
  if case[0] in (*SHAPES[:3], SHAPES[4], SHAPES[5], SHAPES[8]) and (case[2] or case[0] == SHAPES[1])
]
KERNELS = {"xla": kernels.window_attention, "tpu": on_tpu, "gpu": on_gpu}
# The interpreter is slow: the second Python repeats those of float32, whose bounds are the tighter ones.
EVERY = [
  pytest.param(kernel, *case, marks=[pytest.mark.every_python] * (case[1] == "float32"))
  for kernel in KERNELS
  for case in (GPU_CASES if kernel == "gpu" else CASES)
]


@pytest.mark.slow
@pytest.mark.parametrize("kernel, shape, dtype, cosine", EVERY, ids=str)
def test_a_kernel_equals_the_definition(kernel, shape, dtype, cosine):
  images, size, window, shift, heads = shape
  padded = windows.padded_size(size, window)
  regions = windows.regions(size, padded, window, shift)
  m, n = padded[0] * padded[1] // (window[0] * window[1]), window[0] * window[1]
  rng = np.random.default_rng(n)
  qkv = jnp.asarray(rng.normal(size=(images, m, n, heads, 3, 32)), dtype)
  # V1's bias may be negative, which puts logits below those of padding
  bias = jnp.asarray(16 * rng.random((heads, n, n)) - (0 if cosine else 16), jnp.float32)
  # 5 is above the bound
  logit_scale = (
    jnp.asarray(rng.uniform(0, np.log(100), heads), jnp.float32).at[-1].set(5.0) if cosine else None
  )
  out_grad = jnp.asarray(rng.normal(size=(images, m, n, heads, 32)), dtype)

  @jax.jit
  def run(qkv, bias, logit_scale, out_grad):
    out, backward = jax.vjp(lambda *x: KERNELS[kernel](*x, regions), qkv, bias, logit_scale)
    return out, backward(out_grad)

  out, grads = run(qkv, bias, logit_scale, out_grad)
  exact_out, exact_grads = definition(qkv, bias, logit_scale, regions, out_grad)
  assert out.dtype == qkv.dtype and grads[0].dtype == qkv.dtype
  limit = 1e-5 if dtype == "float32" else 1e-2
  assert off(out, exact_out) < limit
  for ours, exact in zip(jax.tree.leaves(grads), [x for x in exact_grads if x is not None], strict=True):
    assert off(ours, exact) < limit
  if cosine:
    assert grads[2][-1] == 0.0


@pytest.mark.every_python
@pytest.mark.parametrize(
  "kernel, platform, kind, chosen",
  [
    ("auto", "tpu", "TPU v5 lite", "tpu"),
    ("auto", "tpu", "TPU v4", "xla"),
    ("xla", "tpu", "TPU v5", "xla"),
    ("auto", "cpu", "cpu", "xla"),
    ("auto", "gpu", "NVIDIA H200", "xla"),
    ("gpu", "gpu", "NVIDIA H200", "gpu"),
  ],
)
def test_the_kernel_is_chosen_by_the_device(kernel, platform, kind, chosen):
  assert kernels.choose(kernel, types.SimpleNamespace(platform=platform, device_kind=kind)) == chosen


def test_a_kernel_that_cannot_be_asked_for_is_refused_in_a_line(tmp_path):
  with pytest.raises(
    BadInput, match=r"config.model.attention_kernel = 'tpu': choose one of 'auto', 'xla', 'gpu'"
  ):
    checks.check(tiny.config(model__attention_kernel="tpu"))
  with pytest.raises(BadInput, match=r"kernel must be one of \('auto', 'xla', 'gpu'\), not 'tpu'"):
    swin_jax.load(tmp_path, kernel="tpu")
  with pytest.raises(
    BadInput,
    match="kernel 'gpu' needs NVIDIA GPUs, but the platform is 'cpu'; use 'auto'",
  ):
    swin_jax.load(tmp_path, kernel="gpu")
  with pytest.raises(BadInput, match="kernel 'gpu' needs NVIDIA GPUs"):
    build(tiny.config(model__attention_kernel="gpu"), 10, 10)
  with pytest.raises(BadInput, match="kernel 'gpu' needs NVIDIA GPUs"):
    report.check(
      tiny.config(model__attention_kernel="gpu"),
      hardware.parse("v5e:2x2"),
      analytic=True,
      patiently=lambda _, function: function(),
    )
  with pytest.raises(BadInput, match="'gpu' supports heads of 16, 32 or 64 channels, not 24"):
    gpu.window_attention(np.zeros((1, 1, 4, 1, 3, 24)), np.zeros((1, 4, 4)), np.ones(1), None, cosine=True)


# (images, map, window, shift, heads) of stages of published sizes: T at window 7, B at 16, one of 32; G at
# 12; T at 8.
COMPILED = {
  "v5e:1x1": [
    (8, (56, 56), (7, 7), (3, 3), 3),
    (8, (64, 64), (16, 16), (8, 8), 4),
    (1, (32, 32), (32, 32), (0, 0), 4),
  ],
  "v5p:2x2x1": [(8, (12, 12), (12, 12), (0, 0), 64)],
  "v6e:1x1": [(8, (64, 64), (8, 8), (4, 4), 3)],
}


def largest(text):
  """Returns the number of elements of the largest array in an HLO text."""
  return max(math.prod(map(int, sizes.split(","))) for sizes in re.findall(r"\w+\[(\d+(?:,\d+)*)\]", text))


@needs_libtpu
@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("chip", COMPILED)
def test_it_compiles_for_every_tpu_and_keeps_no_logits(chip):
  plan.set_environment()
  device = ahead_of_time.devices_of(hardware.parse(chip))[0]
  here = jax.sharding.SingleDeviceSharding(device)
  for images, size, window, shift, heads in COMPILED[chip]:
    regions = windows.regions(size, size, window, shift)
    m, n = math.prod(size) // math.prod(window), math.prod(window)
    qkv, bias, scale, grad = (
      jax.ShapeDtypeStruct(shape, dtype, sharding=here)
      for shape, dtype in (
        ((images, m, n, heads, 3, 32), jnp.bfloat16),
        ((heads, n, n), jnp.float32),
        ((heads,), jnp.float32),
        ((images, m, n, heads, 32), jnp.bfloat16),
      )
    )

    def run(qkv, bias, scale, grad, regions=regions):
      out, backward = jax.vjp(lambda *x: tpu.window_attention(*x, regions, cosine=True), qkv, bias, scale)
      return out, backward(grad)

    text = jax.jit(run).lower(qkv, bias, scale, grad).compile().as_text()
    assert text.count("tpu_custom_call") == 2
    # the logits of small windows are smaller
    assert n < 128 or largest(text) <= max(math.prod(qkv.shape), math.prod(bias.shape))


@needs_libtpu
@pytest.mark.ci
@pytest.mark.slow
def test_no_array_of_a_train_step_is_as_large_as_the_logits():
  plan.set_environment()
  # With one head of 32 channels there are N = 256 logits per token, while the widest activation has 128
  # numbers.
  model = dict(embed_dim=32, depths=(2,), num_heads=(1,), window_sizes=(16,), dtype="bfloat16")
  config = tiny.config(
    data__image_size=(128, 128),
    data__batch_size=4,
    **{f"model__{name}": value for name, value in model.items()},
  )
  program = build(config, 10, 10, ahead_of_time.devices_of(hardware.parse("v5e:1x1")))
  with sharding.trace_on(program.mesh, program.rules):
    text = program.step.lower(program.state, program.batch).compile().as_text()
  assert text.count("tpu_custom_call") == 4 and largest(text) < 4 * 32 * 32 * 256


def passes(text, elements):
  """Counts how often the program of an HLO text writes or reads an array of at least `elements` elements, by
  its outermost instructions.
  """
  wide, count = {}, 0
  for line in text[text.index("ENTRY") :].splitlines():
    if found := re.match(r"\s+(?:ROOT )?%([\w.\-]+) = (.*?) ([\w\-]+)\(([^)]*)", line):
      name, shape, opcode, operands = found.groups()
      sizes = [math.prod(map(int, size.split(","))) for size in re.findall(r"\w+\[(\d+(?:,\d+)*)\]", shape)]
      wide[name] = sum(size >= elements for size in sizes)
      if opcode not in ("bitcast", "get-tuple-element", "tuple", "parameter"):  # these move no data
        count += wide[name] + sum(wide.get(operand, 0) for operand in re.findall(r"%([\w.\-]+)", operands))
  return count


@needs_libtpu
@pytest.mark.ci
@pytest.mark.slow
def test_a_block_passes_over_its_widest_activation_eight_times():
  """The activation is written before and after GELU and read once. In the backward pass both are read once,
  and their gradient is written once and read twice.
  """
  plan.set_environment()
  here = jax.sharding.SingleDeviceSharding(ahead_of_time.devices_of(hardware.parse("v5e:1x1"))[0])
  numbers = dict(mlp_ratio=4.0, dtype=jnp.dtype("bfloat16"), attention_kernel="tpu")
  block = blocks.block(window=(8, 8), heads=4, shifted=True, **numbers)
  x = jax.ShapeDtypeStruct((64, 16, 16, 128), jnp.bfloat16, sharding=here)
  rate, key = (jax.eval_shape(make) for make in (lambda: jnp.float32(0), lambda: jax.random.key(0)))
  params = jax.eval_shape(
    lambda: nn.unbox(block.init(jax.random.key(0), jnp.zeros(x.shape, x.dtype), None, train=False))
  )
  place = lambda tree: jax.tree.map(
    lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), tree
  )

  def run(params, x, rate, key, grad):
    out, backward = jax.vjp(
      lambda *inputs: block.apply(*inputs, rate, train=True, rngs={"dropout": key})[0], params, x
    )
    return out, backward(grad)

  text = jax.jit(run).lower(place(params), x, place(rate), place(key), x).compile().as_text()
  assert 7 <= passes(text, 4 * math.prod(x.shape)) <= 8


H200 = jax.sharding.AbstractDevice(device_kind="NVIDIA H200", num_cores=132, platform="gpu")


@pytest.mark.every_python
@pytest.mark.parametrize(
  "tokens, dtype",
  [(n, "bfloat16") for n in (36, 49, 64, 144, 196, 256, 400, 576, 1024, 1600)] + [(256, "float32")],
)
def test_it_lowers_for_gpus_and_keeps_no_logits(tokens, dtype):
  b, m, heads = 5, 4, 2
  regions = np.arange(tokens)[None] // 7 % np.arange(1, m + 1)[:, None]

  def run(qkv, bias, scale, grad):
    out, backward = jax.vjp(lambda *x: gpu.window_attention(*x, regions, cosine=True), qkv, bias, scale)
    return out, backward(grad)

  shapes = [(b, m, tokens, heads, 3, 32), (heads, tokens, tokens), (heads,), (b, m, tokens, heads, 32)]
  args = [
    jax.ShapeDtypeStruct(shape, kind)
    for shape, kind in zip(shapes, (dtype, "float32", "float32", dtype), strict=True)
  ]
  mesh = jax.sharding.AbstractMesh(
    (1,), ("x",), axis_types=(jax.sharding.AxisType.Auto,), abstract_device=H200
  )
  with jax.sharding.use_abstract_mesh(mesh):
    text = jax.jit(run).trace(*args).lower(lowering_platforms=("cuda",)).as_text()
  assert text.count("__gpu$xla.gpu.triton") == (2 if tokens <= 64 else 4)
  squares = re.findall(rf"tensor<([\dx]*){tokens}x{tokens}x\w+>", text)
  assert squares and max(math.prod(map(int, sizes.split("x")[:-1])) for sizes in squares) <= b * m * heads / 8
