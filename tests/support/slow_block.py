"""One transformer block as numpy loops in float64: the definition that the fast implementation is tested
against.

It uses no roll, padding or masks: a token attends to the tokens of the image that lie in its cell of a grid.
The grid of a shifted block starts half a window further along every axis, so its first and last cells are cut
off by the edge of the image.
"""

import math

import jax
import numpy as np


def cells(map_size, window, shifted, clamp=True):
  """Returns the grid cell of every token, int [tokens, axes], and the effective window: with `clamp`, an axis
  that fits into one window is one cell.
  """
  ids, used = [], []
  for size, w, position in zip(map_size, window, np.indices(map_size), strict=True):
    one = clamp and size <= w
    begin = w // 2 if shifted and not one else 0
    used.append(size if one else w)
    ids.append([math.floor((p - begin) / used[-1]) for p in position.reshape(-1)])
  return np.stack(ids, axis=1), tuple(used)


def block(x, p, *, version, num_heads, window, trained=None, shifted=False, clamp=True, attended=False):
  """Applies the block with parameters p (our names) to x [*map, C] → [*map, C].

  With `attended`, windows at the far ends are filled up with zero tokens that take part in attention.
  """
  p = _to_float64(p)
  map_size, c = x.shape[:-1], x.shape[-1]
  x = np.asarray(x, np.float64).reshape(-1, c)
  _, used = cells(map_size, window, shifted, clamp)
  whole = tuple(-(-size // w) * w for size, w in zip(map_size, used, strict=True)) if attended else map_size

  def attend(y):
    filled = np.zeros((*whole, c))
    filled[tuple(map(slice, map_size))] = y.reshape(*map_size, c)
    table = used if len(map_size) == 2 else window
    out = _attend(
      filled.reshape(-1, c), p["attn"], whole, version, num_heads, window, trained, shifted, clamp, table
    )
    return out.reshape(*whole, c)[tuple(map(slice, map_size))].reshape(-1, c)

  def mlp(y):
    hidden = y @ p["mlp"]["fc1"]["kernel"] + p["mlp"]["fc1"]["bias"]
    hidden = 0.5 * hidden * (1.0 + np.vectorize(math.erf)(hidden / math.sqrt(2.0)))
    return hidden @ p["mlp"]["fc2"]["kernel"] + p["mlp"]["fc2"]["bias"]

  for branch, norm in ((attend, p["norm1"]), (mlp, p["norm2"])):
    x = x + (layer_norm(branch(x), norm) if version == 2 else branch(layer_norm(x, norm)))
  if "extra_norm" in p:
    x = layer_norm(x, p["extra_norm"])
  return x.reshape(*map_size, c)


def layer_norm(x, p):
  mean = x.mean(-1, keepdims=True)
  variance = ((x - mean) ** 2).mean(-1, keepdims=True)
  return (x - mean) / np.sqrt(variance + 1e-5) * p["scale"] + p["bias"]


def jacobian(function, x):
  """Returns [outputs, *x.shape]: the gradient of each of the function's outputs, computed one at a time.

  `jax.jacrev` is not used: jaxlib 0.10.2 on a CPU miscompiles the backward pass of a LayerNorm that is
  vmapped over many outputs (its "ynn" fusions; newer versions do not).
  """
  outputs = math.prod(jax.eval_shape(function, x).shape)
  one = jax.grad(lambda x, i: function(x).reshape(-1)[i])
  return jax.jit(lambda x: jax.lax.map(lambda i: one(x, i), np.arange(outputs)))(x)


def random_params(shapes, seed):
  """Returns parameters that exercise everything: no norm is zero, no bias is zero."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name, noise = str(path[-1].key), rng.normal(size=leaf.shape)
    if name == "kernel":
      return noise / math.sqrt(leaf.shape[-2])
    if name == "bias_table":
      return noise
    centre = {"scale": 1.0, "logit_scale": math.log(10.0)}.get(name, 0.0)
    return centre + 0.2 * noise

  return jax.tree_util.tree_map_with_path(lambda path, leaf: draw(path, leaf).astype(np.float32), shapes)


def attention(x, p, *, version, num_heads, window, trained=None, shifted=False, attended=False):
  """Returns attention weights [K, H·W, H·W] (query, key) of the block with parameters p on x [H, W, C].

  With `attended`, see `block`, a query may also attend to padding, which is left out of the result.
  """
  p, y, map_size = _to_float64(p), np.asarray(x, np.float64), x.shape[:2]
  y = y if version == 2 else layer_norm(y, p["norm1"])
  _, used = cells(map_size, window, shifted)
  whole = tuple(-(-size // w) * w for size, w in zip(map_size, used, strict=True)) if attended else map_size
  filled, image = np.zeros((*whole, x.shape[2])), np.zeros(whole, bool)
  filled[tuple(map(slice, map_size))], image[tuple(map(slice, map_size))] = y, True
  weights, _ = _weights_and_values(
    filled.reshape(-1, x.shape[2]), p["attn"], whole, version, num_heads, window, trained, shifted
  )
  return weights[:, image.reshape(-1)][:, :, image.reshape(-1)]


def _attend(y, *args):
  p, (weights, values) = args[0], _weights_and_values(y, *args)
  return (weights @ values).transpose(1, 0, 2).reshape(y.shape) @ p["proj"]["kernel"] + p["proj"]["bias"]


def _weights_and_values(
  y, p, map_size, version, num_heads, window, trained, shifted, clamp=True, table_window=None
):
  tokens, c = y.shape
  d = c // num_heads
  cell, used = cells(map_size, window, shifted, clamp)
  place = np.indices(map_size).reshape(len(map_size), -1).T
  qkv = y @ p["qkv"]["kernel"] + (p["qkv"]["bias"] if version == 1 else 0.0)
  qkv = qkv.reshape(tokens, num_heads, 3, d)
  out, all_values = np.zeros((num_heads, tokens, tokens)), np.zeros((num_heads, tokens, d))
  for k in range(num_heads):
    queries, keys, values = (qkv[:, k, i] for i in range(3))
    if version == 2:
      queries = queries + p["q_bias"][k * d : (k + 1) * d]
      values = values + p["v_bias"][k * d : (k + 1) * d]
    all_values[k] = values
    for i in range(tokens):
      mine = [j for j in range(tokens) if (cell[i] == cell[j]).all()]
      logits = []
      for j in mine:
        offset = place[i] - place[j]
        if version == 2:
          norms = [max(np.linalg.norm(x), 1e-12) for x in (queries[i], keys[j])]  # padding is zero
          cosine = queries[i] @ keys[j] / (norms[0] * norms[1])
          logits.append(
            cosine * min(math.exp(p["logit_scale"][k]), 100.0) + _bias(offset, p, k, trained or used)
          )
        else:
          sides = table_window or used
          table = p["bias_table"][:, k].reshape([2 * side - 1 for side in sides])
          entry = tuple(o + side - 1 for o, side in zip(offset, sides, strict=True))
          logits.append(queries[i] @ keys[j] / math.sqrt(d) + table[entry])
      weights = np.exp(np.array(logits) - max(logits))
      out[k, i, mine] = weights / weights.sum()
  return out, all_values


def _bias(offset, p, head, trained):
  def coordinate(offset, side):
    x = 8.0 * offset / max(side - 1, 1)
    return math.copysign(math.log2(abs(x) + 1.0) / math.log2(8.0), x)

  coordinates = np.array([coordinate(o, side) for o, side in zip(offset, trained, strict=True)])
  hidden = np.maximum(coordinates @ p["cpb_fc1"]["kernel"] + p["cpb_fc1"]["bias"], 0.0)
  return 16.0 / (1.0 + math.exp(-(hidden @ p["cpb_fc2"]["kernel"][:, head])))


def _to_float64(tree):
  return (
    {k: _to_float64(v) for k, v in tree.items()} if isinstance(tree, dict) else np.asarray(tree, np.float64)
  )
