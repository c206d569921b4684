"""The programs of the GPU kernels: what one block of threads computes."""

from jax.experimental import pallas as pl
import jax.numpy as jnp

from swin_jax.kernels import formula
from swin_jax.kernels import gpu_tiles as tiles


def attend(qkv_ref, bias_ref, scale_ref, *refs, tile, cosine):
  """Computes the output for tiles of queries, with an online softmax over the tiles of keys."""
  *labels, out_ref = refs
  rows, parts, dtype, tokens = tiles.own(tile), tiles.parts(qkv_ref), qkv_ref.dtype, bias_ref.shape[0]
  bias, scale = tiles.bias_of(rows, bias_ref), scale_ref[...]

  def window(w, _):
    query = tiles.factors(
      formula.normalised(tiles.load(qkv_ref, w, rows, parts[0]), cosine)[0] * scale, dtype, cosine
    )

    def keys(columns, carry):
      top, total, out = carry
      key = tiles.factors(
        formula.normalised(tiles.load(qkv_ref, w, columns, parts[1]), cosine)[0], dtype, cosine
      )
      logits = tiles.masked(tiles.products(query, key) + bias(columns), labels, w, rows, columns, tokens)
      new_top = jnp.maximum(top, jnp.max(logits, axis=1))
      exponentials, shrink = jnp.exp(logits - new_top[:, None]), jnp.exp(top - new_top)
      product = tiles.dot(exponentials.astype(dtype), tiles.load(qkv_ref, w, columns, parts[2]), 1, 0)
      return new_top, total * shrink + jnp.sum(exponentials, axis=1), out * shrink[:, None] + product

    zeros = jnp.zeros(tile, jnp.float32)
    _, total, out = tiles.over_window(
      rows, tokens, keys, (zeros - jnp.inf, zeros, jnp.zeros(query[0].shape, jnp.float32))
    )
    tiles.store(out / total[:, None], out_ref, w, rows)

  tiles.over_windows(qkv_ref, window)


def query_gradients(qkv_ref, bias_ref, scale_ref, out_grad_ref, *refs, tile, cosine):
  """Computes the gradient of tiles of queries, and two sums for the other kernels: log Σ exp(logit) and
  Σ weight · gradient of the weight.

  The second sum is a weighted mean that is subtracted from the gradients of the weights. It is known only
  after the last key. The kernel therefore subtracts the running mean and corrects earlier sums when it
  changes; subtracting everything at the end would be a difference of large numbers, dominated by rounding.
  """
  *labels, grad_ref, log_sum_ref, mean_ref = refs
  rows, parts, dtype, tokens = tiles.own(tile), tiles.parts(qkv_ref), qkv_ref.dtype, bias_ref.shape[0]
  bias, scale = tiles.bias_of(rows, bias_ref), scale_ref[...]

  def window(w, _):
    unit, length = formula.normalised(tiles.load(qkv_ref, w, rows, parts[0]), cosine)
    query, out_grad = tiles.factors(unit * scale, dtype, cosine), tiles.load(out_grad_ref, w, rows)

    def keys(columns, carry):
      top, total, mean, key_sum, grad = carry
      key = tiles.factors(
        formula.normalised(tiles.load(qkv_ref, w, columns, parts[1]), cosine)[0], dtype, cosine
      )
      logits = tiles.masked(tiles.products(query, key) + bias(columns), labels, w, rows, columns, tokens)
      weights_grad = tiles.dot(out_grad, tiles.load(qkv_ref, w, columns, parts[2]), 1, 1)
      new_top = jnp.maximum(top, jnp.max(logits, axis=1))
      exponentials, shrink = jnp.exp(logits - new_top[:, None]), jnp.exp(top - new_top)
      new_total = total * shrink + jnp.sum(exponentials, axis=1)
      new_mean = (total * shrink * mean + jnp.sum(exponentials * weights_grad, axis=1)) / new_total
      grad = shrink[:, None] * (grad + (mean - new_mean)[:, None] * key_sum)
      grad += tiles.dot((exponentials * (weights_grad - new_mean[:, None])).astype(dtype), key[0], 1, 0)
      key_sum = shrink[:, None] * key_sum + tiles.dot(exponentials.astype(dtype), key[0], 1, 0)
      return new_top, new_total, new_mean, key_sum, grad

    zeros, wide = jnp.zeros(tile, jnp.float32), jnp.zeros(unit.shape, jnp.float32)
    top, total, mean, _, grad = tiles.over_window(
      rows, tokens, keys, (zeros - jnp.inf, zeros, zeros, wide, wide)
    )
    tiles.store(
      formula.through_norm(grad * (scale / total)[:, None], unit, length), grad_ref, w, rows, parts[0]
    )
    tiles.store(top + jnp.log(total), log_sum_ref, w, rows)
    tiles.store(mean, mean_ref, w, rows)

  tiles.over_windows(qkv_ref, window)


def key_gradients(qkv_ref, bias_ref, scale_ref, out_grad_ref, log_sum_ref, mean_ref, _, *refs, tile, cosine):
  """Computes the gradients of tiles of keys and their values; matrices and bias have the key axis first."""
  *labels, grad_ref = refs
  rows, parts, dtype, tokens = tiles.own(tile), tiles.parts(qkv_ref), qkv_ref.dtype, bias_ref.shape[0]
  scale = scale_ref[...]

  def window(w, _):
    unit, length = formula.normalised(tiles.load(qkv_ref, w, rows, parts[1]), cosine)
    key, value = tiles.factors(unit, dtype, cosine), tiles.load(qkv_ref, w, rows, parts[2])

    def queries(columns, carry):
      key_grad, value_grad = carry
      query = tiles.factors(
        formula.normalised(tiles.load(qkv_ref, w, columns, parts[0]), cosine)[0] * scale, dtype, cosine
      )
      out_grad = tiles.load(out_grad_ref, w, columns)
      logits = tiles.products(key, query) + tiles.load(bias_ref, rows, columns)
      logits = tiles.masked(logits, labels, w, rows, columns, tokens, key_axis=0)
      weights = jnp.exp(logits - tiles.load(log_sum_ref, w, columns)[None, :])
      logits_grad = weights * (tiles.dot(value, out_grad, 1, 1) - tiles.load(mean_ref, w, columns)[None, :])
      return key_grad + tiles.dot(logits_grad.astype(dtype), query[0], 1, 0), value_grad + tiles.dot(
        weights.astype(dtype), out_grad, 1, 0
      )

    zeros = jnp.zeros(unit.shape, jnp.float32)
    key_grad, value_grad = tiles.over_window(rows, tokens, queries, (zeros, zeros))
    tiles.store(formula.through_norm(key_grad, unit, length), grad_ref, w, rows, parts[1])
    tiles.store(value_grad, grad_ref, w, rows, parts[2])

  tiles.over_windows(qkv_ref, window)


def bias_gradients(qkv_ref, bias_ref, scale_ref, out_grad_ref, log_sum_ref, mean_ref, *refs, tile, cosine):
  """Computes the gradient of tiles of the bias, and partial sums of the gradient of the scale."""
  *labels, bias_grad_ref, scale_grad_ref = refs
  parts, dtype, tokens = tiles.parts(qkv_ref), qkv_ref.dtype, bias_ref.shape[0]
  rows, columns = (pl.ds(i * tile, tile) for i in divmod(pl.program_id(1), tiles.count(tokens, tile)))
  bias, scale = tiles.load(bias_ref, rows, columns), scale_ref[...]

  def window(w, carry):
    bias_grad, scale_grad = carry
    query = tiles.factors(
      formula.normalised(tiles.load(qkv_ref, w, rows, parts[0]), cosine)[0] * scale, dtype, cosine
    )
    key = tiles.factors(
      formula.normalised(tiles.load(qkv_ref, w, columns, parts[1]), cosine)[0], dtype, cosine
    )
    cosines = tiles.products(query, key)  # times the scale
    logits = tiles.masked(cosines + bias, labels, w, rows, columns, tokens)
    weights = jnp.exp(logits - tiles.load(log_sum_ref, w, rows)[:, None])
    weights_grad = tiles.dot(
      tiles.load(out_grad_ref, w, rows), tiles.load(qkv_ref, w, columns, parts[2]), 1, 1
    )
    logits_grad = weights * (weights_grad - tiles.load(mean_ref, w, rows)[:, None])
    return bias_grad + logits_grad, scale_grad + jnp.sum(logits_grad * cosines, axis=1)

  bias_grad, scale_grad = tiles.over_windows(
    qkv_ref, window, (jnp.zeros((tile, tile), jnp.float32), jnp.zeros(tile, jnp.float32))
  )
  tiles.store(bias_grad, bias_grad_ref, pl.program_id(2), rows, columns)
  scale_grad_ref[pl.program_id(2), pl.program_id(1)] = jnp.sum(scale_grad) / scale


def gradients(qkv_ref, bias_ref, scale_ref, out_grad_ref, *refs, tile, cosine):
  """Computes all gradients, for windows that are a single tile."""
  *labels, grad_ref, bias_grad_ref, scale_grad_ref = refs
  rows, parts, dtype, tokens = tiles.own(tile), tiles.parts(qkv_ref), qkv_ref.dtype, bias_ref.shape[0]
  scale = scale_ref[...]

  def window(w, carry):
    bias_grad, scale_grad = carry
    query_unit, query_length = formula.normalised(tiles.load(qkv_ref, w, rows, parts[0]), cosine)
    key_unit, key_length = formula.normalised(tiles.load(qkv_ref, w, rows, parts[1]), cosine)
    query, key = tiles.factors(query_unit * scale, dtype, cosine), tiles.factors(key_unit, dtype, cosine)
    value, out_grad = tiles.load(qkv_ref, w, rows, parts[2]), tiles.load(out_grad_ref, w, rows)
    cosines = tiles.products(query, key)  # times the scale
    logits = tiles.masked(cosines + tiles.load(bias_ref, rows, rows), labels, w, rows, rows, tokens)
    exponentials = jnp.exp(logits - jnp.max(logits, axis=1)[:, None])
    weights = exponentials / jnp.sum(exponentials, axis=1)[:, None]
    weights_grad = tiles.dot(out_grad, value, 1, 1)
    logits_grad = weights * (weights_grad - jnp.sum(weights * weights_grad, axis=1)[:, None])
    narrow = logits_grad.astype(dtype)
    query_grad, key_grad = tiles.dot(narrow, key[0], 1, 0) * scale, tiles.dot(narrow, query[0], 0, 0)
    tiles.store(formula.through_norm(query_grad, query_unit, query_length), grad_ref, w, rows, parts[0])
    tiles.store(formula.through_norm(key_grad, key_unit, key_length), grad_ref, w, rows, parts[1])
    tiles.store(tiles.dot(weights.astype(dtype), out_grad, 0, 0), grad_ref, w, rows, parts[2])
    return bias_grad + logits_grad, scale_grad + jnp.sum(logits_grad * cosines, axis=1)

  bias_grad, scale_grad = tiles.over_windows(
    qkv_ref, window, (jnp.zeros((tile, tile), jnp.float32), jnp.zeros(tile, jnp.float32))
  )
  tiles.store(bias_grad, bias_grad_ref, pl.program_id(2), rows, rows)
  scale_grad_ref[pl.program_id(2), 0] = jnp.sum(scale_grad) / scale
