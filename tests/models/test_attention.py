"""Window attention equals numpy loops, and its gradient is zero where it must be."""

import functools
import math
import re

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from swin_jax.kernels.window_attention import window_attention
from swin_jax.models import windows
from tests.support import blocks, slow_block

pytestmark = pytest.mark.every_python

LN100 = math.log(100.0)
SHIFTED = windows.regions((7, 8), (8, 8), (4, 4), (2, 2))  # four windows with seams, two of them with padding


def make_inputs(seed, regions_windows=4, heads=4, dim=4, tokens=16):
  rng = np.random.default_rng(seed)
  qkv = rng.normal(size=(2, regions_windows, tokens, heads, 3, dim)).astype(np.float32)
  return qkv, rng.normal(size=(heads, tokens, tokens)).astype(np.float32)


def loops(qkv, bias, logit_scale, labels):
  """Computes window attention with the official finite mask, one query at a time."""
  qkv, bias = qkv.astype(np.float64), bias.astype(np.float64)
  out = np.zeros((*qkv.shape[:4], qkv.shape[-1]))
  for b, m, i, k in np.ndindex(out.shape[:4]):
    query, logits = qkv[b, m, i, k, 0], []
    for j in range(qkv.shape[2]):
      key = qkv[b, m, j, k, 1]
      if logit_scale is None:
        logit = query @ key / math.sqrt(len(key))
      else:
        scale = math.exp(logit_scale[k]) if logit_scale[k] < LN100 else 100.0
        logit = scale * (query / np.linalg.norm(query)) @ (key / np.linalg.norm(key))
      if labels is not None and labels[m, i] != labels[m, j]:
        logit -= math.inf if (labels[m, i] < 0) != (labels[m, j] < 0) else 100.0
      logits.append(logit + bias[k, i, j])
    weights = np.exp(np.array(logits) - max(logits))
    out[b, m, i, k] = weights / weights.sum() @ qkv[b, m, :, k, 2]
  return out


@pytest.mark.parametrize("labels", [None, SHIFTED], ids=["plain", "shifted"])
@pytest.mark.parametrize(
  "logit_scale", [[0.5, math.log(10.0), LN100, 6.0], None], ids=["cosine", "dot_product"]
)
def test_equals_loops(logit_scale, labels):
  qkv, bias = make_inputs(0)
  scale = None if logit_scale is None else np.array(logit_scale, np.float32)
  ours = jax.jit(functools.partial(window_attention, regions=labels))(qkv, bias, scale)
  theirs = loops(qkv, bias, logit_scale, labels)
  # At temperature 0.01 the rounding error of a cosine is multiplied by a hundred.
  np.testing.assert_allclose(
    ours, theirs, atol=(1e-5 if logit_scale is None else 5e-5) * np.abs(theirs).max()
  )


@pytest.mark.slow
@pytest.mark.parametrize("window_chunks, head_chunks", [(2, 1), (4, 1), (4, 2), (1, 4)])
@pytest.mark.parametrize(
  "logit_scale", [np.linspace(0.5, 3.0, 4, dtype=np.float32), None], ids=["cosine", "dot_product"]
)
def test_chunks_change_no_number(logit_scale, window_chunks, head_chunks):
  qkv, bias = make_inputs(0)

  def value(qkv, bias, scale, **chunks):
    out = window_attention(qkv, bias, scale, SHIFTED, **chunks)
    return jnp.sum(jnp.sin(out)), out

  arguments = (0, 1, 2)[: 2 if logit_scale is None else 3]
  grad = lambda **chunks: jax.jit(
    jax.value_and_grad(functools.partial(value, **chunks), arguments, has_aux=True)
  )(qkv, bias, logit_scale)
  ours, theirs = grad(window_chunks=window_chunks, head_chunks=head_chunks), grad()
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max()), ours, theirs)


def test_only_one_chunk_of_logits_lives_at_a_time():
  """No array of the program, forward or backward, has the logits of more than one chunk."""
  qkv, bias = make_inputs(0)
  scale = np.ones(4, np.float32)
  loss = lambda qkv, bias, scale: jnp.sum(
    window_attention(qkv, bias, scale, SHIFTED, window_chunks=4, head_chunks=2) ** 2
  )
  text = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(qkv, bias, scale).compile().as_text()
  array_shapes = {tuple(map(int, dims.split(","))) for dims in re.findall(r"f32\[([\d,]+)\]", text)}
  logits = {math.prod(shape) // 256 for shape in array_shapes if shape[-2:] == (16, 16)}
  assert max(logits) == 2 * 1 * 2  # images, windows and heads of a chunk


def test_gradient_of_the_clamped_temperature():
  qkv, bias = make_inputs(1)
  direction = np.random.default_rng(2).normal(size=(2, 4, 16, 4, 4)).astype(np.float32)
  at = np.float32(LN100)
  scale = np.array([math.log(10.0), at, np.nextafter(at, np.float32(9.0)), 7.0], np.float32)
  gradient = jax.jit(jax.grad(lambda s: jnp.sum(window_attention(qkv, bias, s, None) * direction)))(scale)
  assert gradient[0] != 0 and gradient[1] != 0
  assert gradient[2] == 0 and gradient[3] == 0


@pytest.mark.parametrize("cosine", [True, False])
def test_gradient_stays_in_window_and_region(cosine):
  qkv, bias = make_inputs(3, heads=1)
  scale = np.full((1,), math.log(10.0), np.float32) if cosine else None

  def probe(qkv):  # one number per query token
    return jnp.sum(window_attention(qkv, bias, scale, SHIFTED), axis=(3, 4))[0]

  jacobian = np.abs(slow_block.jacobian(probe, qkv)).sum(axis=(4, 5, 6))
  jacobian = jacobian.reshape(4, 16, 2, 4, 16)  # query window, query, image, key window, key
  assert (jacobian[:, :, 1] == 0).all()  # axes: query window, query, image, key window, key
  for m, n in np.ndindex(4, 4):
    same = SHIFTED[m][:, None] == SHIFTED[n][None] if m == n else np.zeros((16, 16), bool)
    padding = (SHIFTED[m][:, None] < 0) != (SHIFTED[n][None] < 0)
    assert (jacobian[m, :, 0, n][same] > 0).all()
    if m != n:
      assert (jacobian[m, :, 0, n] == 0).all()
    else:
      assert (jacobian[m, :, 0, n][padding] == 0).all()
      # The official mask between regions is finite (-100), so at most e^-100 of a neighbour may leak through.
      assert (jacobian[m, :, 0, n][~same] < 1e-30).all()


def test_padding_never_counts_however_extreme_the_logits():
  qkv, bias = make_inputs(4)
  real = SHIFTED >= 0
  changed = np.where(real[None, :, :, None, None, None], qkv, 1e3 * qkv[::-1])
  outs = [
    jax.jit(functools.partial(window_attention, regions=SHIFTED))(x, bias, None) for x in (qkv, changed)
  ]
  np.testing.assert_array_equal(*(np.asarray(out)[:, real] for out in outs))


def test_zero_queries_and_keys_have_a_finite_gradient():
  qkv, bias = make_inputs(5)
  qkv[:, :, :3, :, :2] = 0.0
  scale = np.full(4, LN100, np.float32)
  gradients = jax.jit(
    jax.grad(lambda x, s: jnp.sum(window_attention(x, bias, s, SHIFTED) ** 2), argnums=(0, 1))
  )(qkv, scale)
  assert all(np.isfinite(g).all() for g in gradients)


@functools.cache
def block_and_params(version, map_size, window, trained, shifted, seed=0):
  block = blocks.block(version, window, trained, shifted=shifted, mlp_ratio=4.0)
  init = lambda: flax.core.meta.unbox(
    block.init(jax.random.key(0), jnp.zeros((1, *map_size, 16)), None, train=False)["params"]
  )
  return block, slow_block.random_params(jax.eval_shape(init), seed)


@pytest.mark.parametrize(
  "map_size, window, trained, shifted",
  [
    ((8, 8), (4, 4), None, False),
    ((8, 8), (4, 4), None, True),
    ((7, 9), (4, 4), (3, 3), True),  # padded; trained with smaller windows
    ((5, 9), (4, 4), None, False),
    ((6, 7), (2, 4), None, True),  # a window that is not square
    ((4, 9), (6, 3), None, True),  # one window along one axis, shifted along the other
    ((3, 3), (1, 1), None, True),
  ],
  ids=str,
)
@pytest.mark.parametrize("version", [1, 2])
def test_block_equals_loops_over_the_image(version, map_size, window, trained, shifted):
  block, params = block_and_params(version, map_size, window, trained, shifted)
  x = np.random.default_rng(1).normal(size=(1, *map_size, 16)).astype(np.float32)
  ours = jax.jit(lambda p, x: block.apply({"params": p}, x, None, train=False)[0])(params, x)[0]
  theirs = slow_block.block(
    x[0], params, version=version, num_heads=2, window=window, trained=trained, shifted=shifted
  )
  np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("map_size, window", [((1, 1), (4, 4)), ((3, 2), (1, 1))])
def test_window_of_one_token_is_finite(version, map_size, window):
  block, params = block_and_params(version, map_size, window, None, True)

  def loss(p, x):
    return jnp.sum(block.apply({"params": p}, x, None, train=False)[0] ** 2)

  x = np.random.default_rng(2).normal(size=(2, *map_size, 16)).astype(np.float32)
  for value in jax.tree.leaves(jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, x)):
    assert np.isfinite(value).all()


def test_zero_input_has_finite_gradients():
  block, params = block_and_params(2, (4, 4), (4, 4), None, False)
  # queries and keys are exactly zero
  params = dict(params, attn=dict(params["attn"], q_bias=np.zeros(16, np.float32)))

  def loss(p, x):
    return jnp.sum(block.apply({"params": p}, x, None, train=False)[0] ** 2)

  for value in jax.tree.leaves(
    jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(params, np.zeros((1, 4, 4, 16), np.float32))
  ):
    assert np.isfinite(value).all()


def test_the_mask_of_a_large_map_is_no_constant_of_the_program():
  """At 1536 px with windows of 32, such a constant would take 600 MB."""
  regions = windows.regions((96, 96), (96, 96), (16, 16), (8, 8))
  shapes = [
    jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 36, 256, 1, 3, 8), (1, 256, 256), (1,))
  ]
  program = jax.make_jaxpr(lambda *args: window_attention(*args, regions))(*shapes)
  assert max(np.size(constant) for constant in program.consts) <= regions.size
